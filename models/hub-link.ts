/** @file The connection to a hub, which is not trusted: limits where requests and the token go, and checks names and sizes. */
import type { ListFileEntry } from '@huggingface/hub';
import { FaultError, InputError, shown } from '../common/errors.ts';
import { request, retryAfter, textWithin } from '../common/http.ts';

/** HF_ENDPOINT, or the hub itself. @throws InputError where it is not an address */
export function endpoint(): string {
  const address = (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  if (!/^https?:$/.test(URL.canParse(address) ? new URL(address).protocol : ''))
    throw new InputError({
      code: 'hub.endpoint',
      subject: `HF_ENDPOINT is '${shown(address)}'`,
      expected: 'an address that begins with https:// or http://',
      remedy: 'set it to that of a hub, or unset it',
    });
  return address;
}

/** Bytes of one answer that is not a file, and how many of them a model may take. */
const MOST_BYTES = 16 << 20;
const MOST_ANSWERS = 1000;
/** Milliseconds that one answer that is not a file may take in all. */
const ANSWER_WITHIN = 120_000;

/** An invalid answer of a hub. The request is not repeated. */
export class Untrusted extends FaultError {}

export const untrusted = (name: string, what: string): Untrusted =>
  new Untrusted({
    code: 'hub.untrusted',
    subject: `the answer of the hub about ${name} is not used: ${what}`,
    remedy: 'check HF_ENDPOINT and the name of the model',
  });

/** What the hub's library is given for a token, where it insists on one: never sent. */
export const STAND_IN = 'hf_standin';

export interface LinkOptions {
  signal?: AbortSignal;
}

/** Requests of one model to the hub of HF_ENDPOINT. */
export class HubLink {
  private answers = 0;
  private asksForQuiet: number | undefined;
  private readonly token: string | undefined;
  private readonly signal: AbortSignal | undefined;
  private readonly origin = new URL(endpoint()).origin;

  constructor(token: string | undefined, { signal }: LinkOptions = {}) {
    this.token = token;
    this.signal = signal;
  }

  /** Milliseconds that the hub asked to wait in its last answer, told once. */
  wait(): number | undefined {
    const wait = this.asksForQuiet;
    this.asksForQuiet = undefined;
    return wait;
  }

  /** For info and listings: same host, bounded answers. A `Link: rel="next"` to another host is not followed. */
  readonly fetch: typeof fetch = async (input, init) => {
    const url = addressOf(input);
    if (url.origin !== this.origin)
      throw untrusted(shown(url.pathname), `it leads to another host, ${shown(url.origin)}`);
    if (++this.answers > MOST_ANSWERS) throw untrusted(shown(url.pathname), `it takes more than ${MOST_ANSWERS} pages`);
    const signal = AbortSignal.any([AbortSignal.timeout(ANSWER_WITHIN), ...(this.signal ? [this.signal] : [])]);
    const response = await request(url, { ...init, headers: this.authorized(url, init?.headers), signal });
    this.asksForQuiet = response.ok ? undefined : retryAfter(response.headers);
    let text: string;
    try {
      text = await textWithin(response, MOST_BYTES);
    } catch (error) {
      if (error instanceof RangeError) throw untrusted(shown(url.pathname), `it has more than ${MOST_BYTES} bytes`);
      throw error;
    }
    const { status, headers } = response;
    return new Response([101, 204, 205, 304].includes(status) ? null : text, { status, headers: plain(headers) });
  };

  /** For uploads, which a hub sends to its stores: the token goes to the hub alone. */
  readonly upload: typeof fetch = (input, init) => {
    const url = addressOf(input);
    const headers = this.authorized(url, init?.headers);
    return request(url, { ...init, headers, signal: init?.signal ?? this.signal });
  };

  /** The token is set here and not by the hub's library, which knows those of one form only. */
  private authorized(url: URL, given: ConstructorParameters<typeof Headers>[0]): Record<string, string> {
    const headers = new Headers(given);
    if (headers.get('authorization') === `Bearer ${STAND_IN}`) headers.delete('authorization');
    if (this.token && url.origin === this.origin) headers.set('authorization', `Bearer ${this.token}`);
    return plain(headers);
  }

  /** A file from a byte on. Redirects to a store lose the token. */
  async file(url: string, from: number): Promise<Response> {
    const headers: Record<string, string> = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    if (from) headers.Range = `bytes=${from}-`;
    const response = await request(url, { headers, signal: this.signal });
    this.asksForQuiet = response.ok ? undefined : retryAfter(response.headers);
    return response;
  }
}

const addressOf = (input: Parameters<typeof fetch>[0]): URL =>
  new URL(typeof input === 'string' ? input : 'url' in input ? input.url : input.href);

/** Headers without what described a body that is decoded by now. */
function plain(headers: Headers): Record<string, string> {
  const { 'content-encoding': _, 'content-length': __, ...rest } = Object.fromEntries(headers.entries());
  return rest;
}

/** A file that the hub lists, its names and sizes checked. */
export interface HubFile {
  path: string;
  size: number;
  /** Hex: sha256 of a large file, otherwise git's id of the bytes. */
  oid: string;
  large: boolean;
}

export const isCommit = (text: unknown): text is string => typeof text === 'string' && /^[0-9a-f]{40}$/.test(text);

/** @throws Untrusted where it is not a commit */
export function checkedCommit(sha: unknown, name: string): string {
  if (!isCommit(sha)) throw untrusted(name, `its commit is '${shown(String(sha)).slice(0, 80)}'`);
  return sha;
}

/** @returns undefined for a folder @throws Untrusted where a path leads outside, or a size or checksum is none */
export function checkedFile(entry: ListFileEntry, name: string): HubFile | undefined {
  const { type, path, size, oid, lfs } = (entry ?? {}) as Partial<ListFileEntry>;
  if (type !== 'file') return undefined;
  const label = shown(String(path)).slice(0, 80);
  if (typeof path !== 'string' || !isPlainPath(path)) throw untrusted(name, `it names a file '${label}'`);
  const bytes = lfs?.size ?? size;
  if (!Number.isSafeInteger(bytes) || (bytes as number) < 0)
    throw untrusted(name, `the size of ${label} is not a count of bytes`);
  const sum = lfs ? lfs.oid : oid;
  if (typeof sum !== 'string' || !(lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(sum))
    throw untrusted(name, `the checksum of ${label} is '${shown(String(sum)).slice(0, 80)}'`);
  return { path, size: bytes as number, oid: sum, large: Boolean(lfs) };
}

/** Relative, of names without dots alone, backslashes, colons or control characters. */
const isPlainPath = (path: string): boolean =>
  path.length <= 1000 &&
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  path.split('/').every((part) => part !== '' && !/^\.+$/.test(part) && !/[\\:\u0000-\u001f\u007f]/.test(part));

/** @throws InputError where a revision would lead out of the cache */
export function refuseRevision(revision: string, name: string): void {
  if (isPlainPath(revision)) return;
  throw new InputError({
    code: 'hub.revision',
    subject: `'${shown(name)}' names no revision`,
    expected: 'a branch, tag or commit behind the @',
  });
}
