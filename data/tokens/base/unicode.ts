/** @file What kind of character a code point is, for Hugging Face's tokenizers 0.22: one look-up for each question. */
import * as tables from './unicode-tables.ts';

export const SPACE = 1;
export const PUNCTUATION = 2;
export const CONTROL = 4;
export const NONSPACING = 8;
export const COMBINING = 16;
export const WORD = 32;
export const NUMERIC = 64;
export const IDEOGRAPH = 128;
/** Not known to its regular expressions. */
export const UNASSIGNED = 256;
/** Not known to its normal forms. */
export const INERT = 512;

const spaces = [
  [0x9, 0xd],
  [0x20, 0x20],
  [0x85, 0x85],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
] as const;

/** What BertNormalizer puts spaces around. */
const ideographs = [
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xf900, 0xfaff],
  [0x20000, 0x2a6df],
  [0x2a700, 0x2b81f],
  [0x2b920, 0x2ceaf],
  [0x2f800, 0x2fa1f],
] as const;

let kinds: Uint16Array | undefined;

/** The bits of every code point, made when first asked for. */
export function characterKinds(): Uint16Array {
  if (kinds) return kinds;
  const made = new Uint16Array(0x110000);
  const mark = (list: Iterable<readonly [number, number]>, bit: number): void => {
    for (const [from, to] of list) for (let c = from; c <= to; c++) made[c] |= bit;
  };
  mark(spaces, SPACE);
  mark(ideographs, IDEOGRAPH);
  mark(tables.ranges(tables.punctuation), PUNCTUATION);
  mark(tables.ranges(tables.control), CONTROL);
  mark(tables.ranges(tables.nonspacing), NONSPACING);
  mark(tables.ranges(tables.combining), COMBINING);
  mark(tables.ranges(tables.word), WORD);
  mark(tables.ranges(tables.numeric), NUMERIC);
  mark(tables.ranges(tables.unassigned), UNASSIGNED | INERT);
  mark(tables.ranges(tables.inert), INERT);
  kinds = made;
  return made;
}

/** The code point that ends before `end`. */
export function codePointBefore(text: string, end: number): number {
  const low = text.charCodeAt(end - 1);
  return low >= 0xdc00 && low <= 0xdfff && end > 1 ? (text.codePointAt(end - 2) as number) : low;
}

/** UTF-16 units of a code point. */
export const unitsOf = (code: number): number => (code > 0xffff ? 2 : 1);
