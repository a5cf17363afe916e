/**
 * @file Documents changed so that they no longer answer a query: negated, an attribute or the name of another document put in place of
 * their own, emptied. Each change is one that a reader would notice and that bags of words or near vectors may not.
 */
import { literalPattern } from '../../common/literal-pattern.ts';
import { Random } from '../../math/random.ts';

/** Verbs of descriptions, and what negates them. */
const negations: readonly (readonly [RegExp, string])[] = [
  [/\b(is|are|was|were|can|will|does|do|has been|have been)\b(?! not)/i, '$1 not'],
  [
    /\b(provides|supports|allows|contains|includes|offers|implements|lets|makes|helps|enables|gives|uses)\b/i,
    'does not $1',
  ],
  [/\b(provide|support|allow|contain|include|offer|implement|enable|use)\b/i, 'do not $1'],
];
/** A verb behind `does not` loses its ending. */
const stem = (verb: string): string => (/(ches|shes|sses)$/.test(verb) ? verb.slice(0, -2) : verb.replace(/s$/, ''));

/** The document with its first statement negated; undefined where none is found. */
export function negated(text: string): string | undefined {
  let best: { at: number; text: string } | undefined;
  for (const [pattern, by] of negations) {
    const found = pattern.exec(text);
    if (!found || (best && best.at <= found.index)) continue;
    const word = found[1];
    const put = by.startsWith('does not') ? `does not ${stem(word)}` : by.replace('$1', word);
    best = { at: found.index, text: text.slice(0, found.index) + put + text.slice(found.index + word.length) };
  }
  return best?.text;
}

/** Words of three letters or more, in lower case. */
export const wordsOf = (text: string): string[] =>
  text
    .toLowerCase()
    .match(/\p{L}[\p{L}\d+#.-]{2,}/gu)
    ?.map((w) => w.replace(/[.-]+$/, '')) ?? [];

/** In how many documents each word stands. */
export function documentFrequencies(texts: { length: number; text(i: number): string }): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i < texts.length; i++)
    for (const word of new Set(wordsOf(texts.text(i)))) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/**
 * The document with the words that it shares with the query replaced by words of another document, rarest first: another language,
 * format or device than was asked for.
 *
 * @param other a document about something near, whose rare words are taken
 * @param count words replaced
 * @returns undefined where nothing is shared, or the other document has no word of its own
 */
export function swapped(
  { query, text, other }: { query: string; text: string; other: string },
  frequency: ReadonlyMap<string, number>,
  count = 2,
): string | undefined {
  const rarity = (word: string): number => frequency.get(word) ?? 0;
  const own = new Set(wordsOf(text));
  const asked = [...new Set(wordsOf(query))]
    .filter((w) => own.has(w))
    .sort((a, b) => rarity(a) - rarity(b) || (a < b ? -1 : 1));
  const inQuery = new Set(wordsOf(query));
  // Known words alone: a name that stands nowhere else would give the change away.
  const foreign = [...new Set(wordsOf(other))]
    .filter((w) => !own.has(w) && !inQuery.has(w) && rarity(w) > 1)
    .sort((a, b) => rarity(a) - rarity(b) || (a < b ? -1 : 1));
  const pairs = asked.slice(0, count).flatMap((w, i) => (foreign[i] ? [[w, foreign[i]] as const] : []));
  if (!pairs.length) return undefined;
  return pairs.reduce((changed, [from, to]) => replaced(changed, from, to), text);
}

/** Every occurrence of a word as a whole, its first letter large where it was. */
export function replaced(text: string, from: string, to: string): string {
  const pattern = new RegExp(`(?<![\\p{L}\\d])${literalPattern(from)}(?![\\p{L}\\d])`, 'giu');
  return text.replace(pattern, (found) =>
    found[0] === found[0].toUpperCase() && /\p{L}/u.test(found[0]) ? to[0].toUpperCase() + to.slice(1) : to,
  );
}

/** Edits between two names, at most `most` + 1. */
export function nameDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + Number(a[i - 1] !== b[j - 1])));
    row = next;
  }
  return Math.min(row[b.length], most + 1);
}

/** A random choice that depends on the seed and a name alone. */
export const chosen = <T>(of: readonly T[], seed: number, name: string): T | undefined =>
  of.length ? of[Random.of(seed, name).integer(of.length)] : undefined;
