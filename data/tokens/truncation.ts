/** @file Cutting texts to a number of tokens, as Hugging Face's tokenizers do it. */
import type { Part } from './post-processor.ts';

export type Side = 'left' | 'right';

/** How a pair is truncated: the longer text first, or one text only. */
export type TruncationStrategy = 'longest_first' | 'only_first' | 'only_second';

/**
 * The kept lengths of the texts of a pair: the longer one is truncated first.
 * @param first,second tokens; where both exceed `room`, only which is longer counts
 * @source truncation strategy `longest_first`, utils/truncation.rs of Hugging Face's tokenizers
 */
export function longestFirst(first: number, second: number, room: number): [number, number] {
  if (first + second <= room) return [first, second];
  let [short, long] = first > second ? [second, first] : [first, second];
  long = short > room ? short : Math.max(short, room - short);
  if (short + long > room) {
    short = Math.floor(room / 2);
    long = short + (room % 2);
  }
  return first > second ? [long, short] : [short, long];
}

/** Keeps so many tokens; those at `side` are cut off. */
export function cutIds(ids: readonly number[], keep: number, side: Side): readonly number[] {
  if (ids.length <= keep) return ids;
  return side === 'right' ? ids.slice(0, keep) : ids.slice(ids.length - keep);
}

/** How many special tokens a template has. */
export const specialCount = (parts: readonly Part[]): number => parts.reduce((n, p) => n + p.ids.length, 0);

/** More characters than this a token are not read at first: a text is cut there and read whole only if too few tokens come. */
const CHARACTERS_A_TOKEN = 32;
/** A part must give so many tokens more than are kept: those near its cut may be others than in the whole text. */
const SPARE = 64;
/** Where no space is near, a text longer than this is cut within a word, with more to spare. */
const LONG_WORD = 2 ** 20;

/** The first or last tokens of a text, without reading much more of it than they need. */
export function readTokens(
  text: string,
  limit: number,
  side: Side,
  encode: (text: string) => readonly number[],
): readonly number[] {
  const enough = (limit + SPARE) * CHARACTERS_A_TOKEN;
  if (text.length > 2 * enough) {
    const part = partOf(text, enough, side);
    const ids = part ? encode(part.toWellFormed()) : [];
    if (ids.length >= limit + SPARE) return cutIds(ids, limit, side);
  }
  const long = (limit + 64 * SPARE) * CHARACTERS_A_TOKEN;
  if (text.length > LONG_WORD && text.length > 2 * long) {
    const ids = encode((side === 'right' ? text.slice(0, long) : text.slice(-long)).toWellFormed());
    if (ids.length >= limit + 64 * SPARE) return cutIds(ids, limit, side);
  }
  return cutIds(encode(text.toWellFormed()), limit, side);
}

/** Some characters of a text, up to a space, so that no word of the part is other than in the whole. */
function partOf(text: string, characters: number, side: Side): string {
  if (side === 'right') {
    const space = text.slice(0, characters + 1).lastIndexOf(' ');
    return space > 0 ? text.slice(0, space) : '';
  }
  const space = text.indexOf(' ', text.length - characters);
  return space < 0 ? '' : text.slice(space);
}
