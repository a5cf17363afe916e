/** @file A text that was changed, and for each of its units the part of the text before that it came from. */

/** Indices count UTF-16 units. */
export interface Aligned {
  readonly text: string;
  /** Begin and end, in the text as it was given, of what each unit came from; -1 where that is not known. */
  readonly from: Int32Array;
  readonly to: Int32Array;
}

/** A text as it was given: each character comes from itself. */
export function alignedText(text: string): Aligned {
  const out = new Builder(text);
  let at = 0;
  for (const character of text) {
    out.add(character.length, at, at + character.length);
    at += character.length;
  }
  return out.build();
}

export const slice = ({ text, from, to }: Aligned, begin: number, end: number): Aligned => ({
  text: text.slice(begin, end),
  from: from.subarray(begin, end),
  to: to.subarray(begin, end),
});

/** Where a part came from: from what its first unit came from to the end of what its last one did. -1 where that is not known. */
export function sourceOf({ from, to }: Aligned, begin: number, end: number): [number, number] {
  if (begin < 0 || begin >= end || from[begin] < 0 || to[end - 1] < from[begin]) return [-1, -1];
  return [from[begin], to[end - 1]];
}

/** A text of which nothing is known. */
const unaligned = (text: string): Aligned => {
  const unknown = new Int32Array(text.length).fill(-1);
  return { text, from: unknown, to: unknown };
};

/** Fills an alignment from left to right. */
export class Builder {
  private readonly text: string;
  private readonly from: Int32Array;
  private readonly to: Int32Array;
  private at = 0;

  constructor(text: string) {
    this.text = text;
    this.from = new Int32Array(text.length).fill(-1);
    this.to = new Int32Array(text.length).fill(-1);
  }

  /** So many units that come from one place. */
  add(units: number, from: number, to: number): void {
    for (let k = 0; k < units; k++) {
      this.from[this.at] = from;
      this.to[this.at++] = to;
    }
  }

  /** Units that stay as they were. */
  keep(a: Aligned, begin: number, end: number): void {
    this.from.set(a.from.subarray(begin, end), this.at);
    this.to.set(a.to.subarray(begin, end), this.at);
    this.at += end - begin;
  }

  /** @returns the text with its alignment; nothing is known of it where units are missing or too many */
  build(): Aligned {
    const { text, from, to, at } = this;
    return at === text.length ? { text, from, to } : unaligned(text);
  }
}

/**
 * The result of a change that looks at few characters at a time. Characters are taken together until the change of what follows does
 * not depend on them; the result counts where it is the whole text's.
 * @param oneByOne of characters that are replaced together: whether the k-th new one comes from the k-th old one, and further ones
 *   from the last; without it, that is known only where one comes from several or as many from as many
 * @source NormalizedString::transform of Hugging Face's tokenizers: a character that is added comes from the one before it
 */
export function changed(a: Aligned, apply: (text: string) => string, oneByOne = false): Aligned {
  const text = apply(a.text);
  if (text === a.text) return a;
  const out = new Builder(text);
  const parts: string[] = [];
  const known = new Map<string, string>();
  const of = (part: string): string => {
    let found = known.get(part);
    if (found === undefined) {
      found = apply(part);
      if (known.size > MOST_KNOWN) known.clear();
      known.set(part, found);
    }
    return found;
  };
  // Of a table's replacements the library counts one by nothing with what is before it: what follows has other places there where
  // that is nothing or longer than what it replaced.
  let [counts, grew] = [true, true];
  const flush = (begin: number, end: number): void => {
    const fresh = of(a.text.slice(begin, end));
    if (oneByOne && !fresh && grew) counts = false;
    parts.push(fresh);
    if (end - begin === unitsAt(a.text, begin)) {
      if (fresh) grew = fresh.length > 1 && Array.from(fresh).length > 1;
      out.add(fresh.length, a.from[begin], a.to[begin]);
      return;
    }
    const places: number[] = [];
    for (let i = begin; i < end; i += unitsAt(a.text, i)) places.push(i);
    const news = Array.from(fresh);
    if (news.length) grew = news.length > places.length;
    const sure = oneByOne || news.length === 1 || news.length === places.length;
    for (const [k, character] of news.entries()) {
      const [from, to] = sure ? [a.from, a.to].map((s) => s[places[Math.min(k, places.length - 1)]]) : [-1, -1];
      out.add(character.length, from, to);
    }
  };
  let begin = 0;
  for (let i = 0; i < a.text.length; ) {
    const next = i + unitsAt(a.text, i);
    const ascii = a.text.charCodeAt(i) < 0x80 && a.text.charCodeAt(i) !== 10;
    const apart = ascii && i - begin === 1 && a.text.charCodeAt(begin) < 0x80;
    if (apart || (i > begin && separate(a.text.slice(begin, i), a.text.slice(i, next), of))) {
      flush(begin, i);
      begin = i;
    }
    i = next;
  }
  if (begin < a.text.length) flush(begin, a.text.length);
  return counts && parts.join('') === text ? out.build() : unaligned(text);
}

const MOST_KNOWN = 20_000;
/** Units that are taken together at most. A text that needs more, such as hundreds of marks on one letter, stays unknown. */
const LONGEST = 64;

const unitsAt = (text: string, i: number): number => ((text.codePointAt(i) as number) > 0xffff ? 2 : 1);

/** Whether a change of what is before and of the next character is the change of both. */
function separate(before: string, next: string, of: (part: string) => string): boolean {
  return before.length > LONGEST || of(before + next) === of(before) + of(next);
}

/** Each unit that is not a character of its own stands for a byte of one. */
export function asBytes(a: Aligned, bytes: string): Aligned {
  const out = new Builder(bytes);
  for (let i = 0; i < a.text.length; ) {
    const next = i + unitsAt(a.text, i);
    out.add(Buffer.byteLength(a.text.slice(i, next)), a.from[i], a.to[i]);
    i = next;
  }
  return out.build();
}

/** The text with something before it, which comes from its first character; spaces may have become another character. */
export function prefixed(a: Aligned, whole: string): Aligned {
  const more = whole.length - a.text.length;
  if (more < 0 || !a.text) return unaligned(whole);
  for (let i = 0; i < a.text.length; i++)
    if (a.text[i] !== whole[more + i] && a.text[i] !== ' ') return unaligned(whole);
  const out = new Builder(whole);
  out.add(more, a.from[0], a.to[0]);
  out.keep(a, 0, a.text.length);
  return out.build();
}
