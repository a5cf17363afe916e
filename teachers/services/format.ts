/**
 * @file The interface of a service's protocol: an address, a request and an answer. Adding one is a file and a line in the index.
 */
import { FaultError, shown } from '../../common/errors.ts';

export type Task = 'rerank' | 'embed';

/** Fields of a request in addition to its texts. */
export interface ServiceOptions {
  model?: string;
  /** Whether the service cuts texts beyond its limit; where not, it refuses them. */
  truncate: boolean;
  /** Columns that embeddings are asked for, where the service can shorten them. */
  dimensions?: number;
}

export interface RerankFormat {
  path: string;
  /** Texts of a request that the service takes. */
  batch: number;
  body(query: string, documents: readonly string[], options: ServiceOptions): object;
  /** [n] as the service gives them. */
  read(answer: unknown, n: number): Float32Array;
  /** Whether scores are documented as probabilities, whose logit is taken. */
  probabilities: boolean;
}

export interface EmbedFormat {
  path: string;
  batch: number;
  body(texts: readonly string[], options: ServiceOptions): object;
  /** One row a text, in their order. */
  read(answer: unknown, n: number): Float32Array[];
}

export interface ServiceFormat {
  /** For messages. */
  title: string;
  /** The environment variable that holds the key by default. */
  key: string;
  rerank?: RerankFormat;
  embed?: EmbedFormat;
}

/** An answer that the protocol does not have. */
export const badAnswer = (what: string): FaultError =>
  new FaultError({
    code: 'service.answer',
    subject: `the service's answer is not used: ${what}`,
    remedy: 'check that url and format fit each other; earlier results are kept',
  });

/** Each of n items once, by its index. */
export function byIndex<T>(items: unknown, n: number, what: string, read: (item: Record<string, unknown>) => T): T[] {
  if (!Array.isArray(items)) throw badAnswer(`it has no list of ${what}`);
  if (items.length !== n) throw badAnswer(`it has ${items.length} ${what} for ${n} texts`);
  const found = new Array<T | undefined>(n);
  for (const item of items as Record<string, unknown>[]) {
    const index = item?.index;
    if (!Number.isInteger(index) || (index as number) < 0 || (index as number) >= n)
      throw badAnswer(
        `it has the index ${shown(String(JSON.stringify(index))).slice(0, 40)} where 0 to ${n - 1} are expected`,
      );
    if (found[index as number] !== undefined) throw badAnswer(`it has the index ${index} twice`);
    found[index as number] = read(item);
  }
  return found as T[];
}

const written = (value: unknown): string =>
  typeof value === 'number' ? String(value) : shown(String(JSON.stringify(value))).slice(0, 40);

/** A number that float32 holds. */
export function finite(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isFinite(Math.fround(value)))
    throw badAnswer(`${what} is ${written(value)}, not a finite float32 number`);
  return value;
}

/** A vector of finite numbers: a list, or the base64 of little-endian float32 that some servers send unasked. */
export function vector(value: unknown, what: string): Float32Array {
  if (typeof value === 'string') return fromBase64(value, what);
  if (!Array.isArray(value) || !value.length) throw badAnswer(`${what} is not a list of numbers`);
  return Float32Array.from(value, (x) => finite(x, `a component of ${what}`));
}

function fromBase64(text: string, what: string): Float32Array {
  const bytes = /^[A-Za-z0-9+/]+={0,2}$/.test(text) ? Buffer.from(text, 'base64') : Buffer.alloc(0);
  if (!bytes.length || bytes.length % 4 || bytes.toString('base64').length !== text.length)
    throw badAnswer(`${what} is a text that is not the base64 of float32 numbers`);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) =>
    finite(bytes.readFloatLE(4 * i), `a component of ${what}`),
  );
}
