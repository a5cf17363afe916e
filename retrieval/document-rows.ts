/** @file What is asked of documents before they are written, wherever they go: ids that can be held, finite vectors. */
import { InputError, shown } from '../common/errors.ts';
import { firstNotFinite } from '../math/finite.ts';

/** What ids a place can hold; in files any well-formed text. */
export interface IdLimits {
  /** Of the place, for messages. */
  readonly holder: string;
  /** Of UTF-8; no limit where absent. */
  readonly idBytes?: number;
  /** Whether the character 0 can be part of an id. */
  readonly zero: boolean;
}

/** Characters of a long id that are shown. */
const SHOWN = 60;

/**
 * @param at of the document, which an id that is none does not name
 * @throws InputError where an id is empty, not well-formed, or cannot be held
 */
export function checkId(id: unknown, at: number, limits?: IdLimits): asserts id is string {
  const fail = (subject: string, expected: string, remedy: string): never => {
    throw new InputError({ code: 'index.add', subject, expected, remedy });
  };
  if (typeof id !== 'string' || !id)
    return fail(`document ${at} has no id`, 'a text that is not empty', 'give every document an id');
  if (!id.isWellFormed())
    fail(`the id ${JSON.stringify(id)} has half of a surrogate pair`, 'text that UTF-8 can hold', 'give it another id');
  if (!limits) return;
  const { holder, idBytes = Number.POSITIVE_INFINITY, zero } = limits;
  if (!zero && id.includes('\0'))
    fail(`the id ${JSON.stringify(id)} has the character 0`, `text that ${holder} can hold`, 'give it another id');
  // A character has three bytes at most.
  const bytes = 3 * id.length > idBytes ? Buffer.byteLength(id) : 0;
  if (bytes > idBytes)
    fail(
      `the id '${shown(id.slice(0, SHOWN))}...' has ${bytes} bytes`,
      `at most ${idBytes}, what ${holder} holds`,
      'give it another id',
    );
}

/** Whether an id can be held. */
export function canHold(id: string, limits: IdLimits): boolean {
  try {
    checkId(id, 0, limits);
    return true;
  } catch {
    return false;
  }
}

/** As `checkId`, of many ids. @throws InputError also where one stands twice */
export function checkIds(ids: Iterable<unknown>, limits?: IdLimits): void {
  const check = idCheck(limits);
  for (const id of ids) check(id);
}

/** The same one at a time, in the order of the documents. */
export function idCheck(limits?: IdLimits): (id: unknown) => void {
  const seen = new Set<string>();
  let at = 0;
  return (id) => {
    checkId(id, at++, limits);
    if (seen.has(id))
      throw new InputError({
        code: 'index.add',
        subject: `the id '${shown(id)}' occurs twice`,
        expected: 'every id once',
        remedy: 'leave one of them out',
      });
    seen.add(id);
  };
}

/**
 * @param vectors [documents.length, dimensions]
 * @throws InputError for another number of vectors, or one that is not finite
 */
export function checkVectors(
  documents: readonly { readonly id: string }[],
  vectors: Float32Array,
  dimensions: number,
): void {
  if (vectors.length !== documents.length * dimensions)
    throw new InputError({
      code: 'index.add',
      subject: `${documents.length} documents with ${vectors.length} numbers`,
      expected: `${dimensions} numbers a document`,
      remedy: 'give one vector a document',
    });
  const bad = firstNotFinite(vectors);
  if (bad >= 0)
    throw new InputError({
      code: 'index.add',
      subject: `the vector of '${shown(documents[Math.floor(bad / dimensions)].id)}' is not finite`,
      expected: 'finite numbers',
      remedy: 'embed it again',
    });
}
