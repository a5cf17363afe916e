/** @file Failures of an engine and its client: what passes is tried again, the rest is one sentence without a secret. */
import { setTimeout as sleep } from 'node:timers/promises';
import { FaultError, InputError, shown } from '../../common/errors.ts';

/** What a failure means. */
export type Failure = 'passes' | 'unreachable' | 'denied' | 'failed';

const ATTEMPTS = 5;
/** Milliseconds before the second attempt; each later one waits twice as long. */
const WAIT = 200;
/** Characters of an engine's message that are shown. */
const SHOWN = 300;

const unreachable = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT']);
const passing = new Set([
  'ECONNRESET',
  'EPIPE',
  'UND_ERR_SOCKET',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Codes of an error and of what caused it. */
export function codesOf(error: unknown): string[] {
  const codes: string[] = [];
  for (
    let e = error as { code?: unknown; cause?: unknown } | undefined;
    e && codes.length < 8;
    e = e.cause as typeof e
  ) {
    if (typeof e.code === 'string') codes.push(e.code);
    if (e instanceof AggregateError) for (const one of e.errors) for (const code of codesOf(one)) codes.push(code);
  }
  return codes;
}

/** What the network says of a failure; undefined where it is the engine's answer. */
export function networkFailure(error: unknown): Failure | undefined {
  const codes = codesOf(error);
  if (codes.some((c) => unreachable.has(c))) return 'unreachable';
  return codes.some((c) => passing.has(c)) ? 'passes' : undefined;
}

/** What a status of HTTP says of a failure. */
export const httpFailure = (status: number | undefined): Failure =>
  status === 401 || status === 403
    ? 'denied'
    : status !== undefined && [408, 429, 500, 502, 503, 504].includes(status)
      ? 'passes'
      : 'failed';

export interface Attempts {
  /** Of the engine, without a secret. */
  name: string;
  /** What a failure of its client means. */
  failure(error: unknown): Failure;
  /** What its message says; the error's own by default. */
  said?(error: unknown): string;
  /** Where its keys come from. */
  keys: string;
}

/** Does one piece of work on an engine. @throws InputError where it cannot be reached or denies access, FaultError where it fails */
export async function attempt<T>({ name, failure, said, keys }: Attempts, work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++)
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof InputError) throw cause;
      const kind = failure(cause);
      if (kind === 'passes' && tries < ATTEMPTS) {
        await sleep(WAIT * 2 ** (tries - 1));
        continue;
      }
      const message = shown((said?.(cause) ?? (cause as Error).message ?? String(cause)).slice(0, SHOWN));
      if (kind === 'unreachable')
        throw new InputError({
          code: 'engine.unreachable',
          subject: `nobody answers at ${name} (${codesOf(cause)[0] ?? message})`,
          remedy: 'start the engine, or give another address',
          cause,
        });
      if (kind === 'denied')
        throw new InputError({
          code: 'engine.denied',
          subject: `${name} denies access (${message})`,
          remedy: `set ${keys} in the environment`,
          cause,
        });
      throw new FaultError({
        code: 'engine.failed',
        subject: `${name} failed${tries > 1 ? ` ${tries} times` : ''}: ${message}`,
        remedy: 'what was written before is there; the same command goes on',
        cause,
      });
    }
}

/** The module of an optional package. @throws InputError that says how it is installed */
export async function needs<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    throw new InputError({
      code: 'engine.package',
      subject: `the package ${name} cannot be loaded (${(cause as Error).message.split('\n')[0]})`,
      remedy: `install it: npm install ${name}`,
      cause,
    });
  }
}

/** Rows in runs of so many bytes of JSON at most, so that no request is longer than an engine takes. */
export function* runsOf<T>(rows: readonly T[], bytes: (row: T) => number, most = 8_000_000): Generator<T[]> {
  let run: T[] = [];
  let size = 0;
  for (const row of rows) {
    const own = bytes(row);
    if (run.length && size + own > most) {
      yield run;
      [run, size] = [[], 0];
    }
    run.push(row);
    size += own;
  }
  if (run.length) yield run;
}
