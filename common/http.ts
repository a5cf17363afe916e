/**
 * @file HTTP requests: they respect the proxy of the environment, time out when idle, end with the command and limit the size of
 * an answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, type Dispatcher, EnvHttpProxyAgent, fetch as send } from 'undici';

/** Milliseconds without a byte after which a request times out. */
export const SILENCE = 30_000;
const CONNECT_WITHIN = 10_000;

export interface RequestOptions extends RequestInit {
  /** Milliseconds without a byte after which it times out; 30 s by default. */
  silence?: number;
}

const dispatchers = new Map<number, Dispatcher>();
let ending: AbortSignal | undefined;

/** All requests end with this signal, so that a command that is stopped does not wait for a server. */
export function endRequestsWith(signal: AbortSignal): void {
  ending = signal;
}

/**
 * Like the platform's fetch. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are respected; a redirect to another host loses the
 * Authorization header, as the fetch standard asks.
 * @throws TypeError whose cause says why there was no answer (see isSilence); the signal's reason
 */
export async function request(
  url: string | URL,
  { silence = SILENCE, signal, ...init }: RequestOptions = {},
): Promise<Response> {
  const signals = [signal, ending].filter((s) => s !== undefined && s !== null);
  const one = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
  const options = { ...init, signal: one, dispatcher: dispatcherFor(silence) };
  return (await send(String(url), options as Parameters<typeof send>[1])) as unknown as Response;
}

function dispatcherFor(silence: number): Dispatcher {
  const known = dispatchers.get(silence);
  if (known) return known;
  const connect = { timeout: Math.min(CONNECT_WITHIN, silence) };
  const options = { connect, headersTimeout: silence, bodyTimeout: silence };
  const made = hasProxy() ? quietly(() => new EnvHttpProxyAgent(options)) : new Agent(options);
  dispatchers.set(silence, made);
  return made;
}

const hasProxy = (): boolean =>
  ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'].some((name) => process.env[name]);

/** undici 6 warns that its proxy agent may change; the version in use is pinned by the lock file. */
function quietly<T>(make: () => T): T {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return make();
  } finally {
    process.emitWarning = emitWarning;
  }
}

const codeOf = (error: unknown): string => {
  const { code, cause } = (error ?? {}) as { code?: string; cause?: { code?: string; errors?: { code?: string }[] } };
  return cause?.code ?? cause?.errors?.[0]?.code ?? code ?? '';
};

/** Whether a request failed because a reachable server did not answer. */
export const isSilence = (error: unknown): boolean =>
  ['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'].includes(codeOf(error)) ||
  (error as Error | undefined)?.name === 'TimeoutError';

/** Whether nothing listens at an address, so that a retry will not help. */
export const isUnreachable = (error: unknown): boolean =>
  ['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'].includes(
    codeOf(error),
  );

/** The body of a response as text. @param most bytes read @throws RangeError if there are more */
export async function textWithin(response: Response, most: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  if (response.body)
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      // Leaving the loop cancels the body.
      if (bytes > most) throw new RangeError(`an answer of more than ${most} bytes`);
      chunks.push(chunk);
    }
  return Buffer.concat(chunks).toString('utf8');
}

/** Milliseconds that a server asks clients to wait: Retry-After (seconds or a date) or retry-after-ms. */
export function retryAfter(headers: { get(name: string): string | null }, now = Date.now()): number | undefined {
  const exact = headers.get('retry-after-ms');
  if (exact !== null && exact.trim() !== '' && Number(exact) >= 0) return Number(exact);
  const text = headers.get('retry-after')?.trim();
  if (!text) return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/** Waits until the time has passed, the signal aborts or the command ends. @throws the signal's reason */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  const signals = [signal, ending].filter((s) => s !== undefined);
  const one = signals.length ? AbortSignal.any(signals) : undefined;
  one?.throwIfAborted();
  await sleep(milliseconds, undefined, { signal: one }).catch((error) => {
    throw one?.aborted ? one.reason : error;
  });
}
