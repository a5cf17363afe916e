/** @file Relevant documents by position, and documents that must not count as negatives since their text is relevant. */
import { lengthOf } from '../math/ragged.ts';
import type { Dataset, TextTable } from './dataset.ts';
import { positionsIn, type Relevant } from './judged/positions.ts';

type Judged = Pick<Dataset, 'documents' | 'queries' | 'qrels'>;

/**
 * Relevant documents of a split's queries, with grades: positions of queries to positions of documents, the highest grade
 * first. Judgements of documents that the corpus lacks are left out.
 */
export function relevantDocuments({ documents, queries, qrels }: Judged, split: string): Relevant {
  const own = qrels(split);
  const known = positionsIn(own, { queries, documents });
  if (known) return known.relevant;
  const found = new Map<number, Map<number, number>>();
  for (const [query, grades] of own) {
    const relevant = new Map<number, number>();
    for (const [id, grade] of grades) {
      const d = grade > 0 ? documents.indexOf(id) : undefined;
      if (d !== undefined) relevant.set(d, grade);
    }
    found.set(queries.indexOf(query) as number, relevant);
  }
  return found;
}

/** Whether the data lists documents in addition to the relevant ones, for at least half of a split's queries. */
export function listsNegatives(dataset: Dataset, split: string): boolean {
  const lists = dataset.candidates?.(split);
  if (!lists?.queries.length) return false;
  const relevant = relevantDocuments(dataset, split);
  let listed = 0;
  for (const [i, query] of lists.queries.entries())
    listed += Number(lengthOf(lists.offsets, i) > (relevant.get(query)?.size ?? 0));
  return 2 * listed >= lists.queries.length;
}

/** What \s is beyond ASCII. */
const WIDE_SPACE = /\s/;
const isSpace = (unit: number): boolean =>
  unit < 128 ? unit === 32 || (unit >= 9 && unit <= 13) : WIDE_SPACE.test(String.fromCharCode(unit));

/** UTF-16 units of a text: one space for each run of white space, none at its ends. A text of many megabytes is not copied. */
class Units {
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
    this.skip();
  }

  private skip(): void {
    while (this.at < this.text.length && isSpace(this.text.charCodeAt(this.at))) this.at++;
  }

  /** The next unit; -1 at the end. */
  next(): number {
    if (this.at >= this.text.length) return -1;
    const unit = this.text.charCodeAt(this.at++);
    if (!isSpace(unit)) return unit;
    this.skip();
    return this.at < this.text.length ? 32 : -1;
  }
}

/** Texts that differ only in spacing count as equal. */
export function sameButForSpacing(a: string, b: string): boolean {
  const [x, y] = [new Units(a), new Units(b)];
  for (;;) {
    const unit = x.next();
    if (unit !== y.next()) return false;
    if (unit < 0) return true;
  }
}

/** Queries whose documents are held at a time. */
const HELD = 4096;

/**
 * Documents that are never a query's negative: relevant ones, documents of the same text as a relevant one, and documents
 * that repeat the query.
 *
 * @param relevant documents by query, as positions; by default all that the split judges to be relevant
 * @returns positions of documents for the position of a query
 */
export function neverNegative(
  dataset: Judged,
  split: string,
  relevant: Relevant = relevantDocuments(dataset, split),
): (query: number) => ReadonlySet<number> {
  const { documents, queries } = dataset;
  const held = new Map<number, ReadonlySet<number>>();
  return (query) => {
    const before = held.get(query);
    if (before) return before;
    const own = new Set<number>();
    for (const d of relevant.get(query)?.keys() ?? []) {
      own.add(d);
      for (const twin of sameText(documents, documents.text(d))) own.add(twin);
    }
    // A query that was made of a document comes after those of the table, which does not have its text.
    if (query < queries.length) for (const twin of sameText(documents, queries.text(query))) own.add(twin);
    if (held.size >= HELD) held.clear();
    held.set(query, own);
    return own;
  };
}

/** Where a text stands in a table, whatever its spacing. */
function* sameText(table: TextTable, text: string): Generator<number> {
  const { first, next } = textChains(table);
  for (let i = first[hash(text) & (first.length - 1)]; i >= 0; i = next[i])
    if (sameButForSpacing(table.text(i), text)) yield i;
}

interface Chains {
  /** By the last bits of a hash: the first text that has them. */
  first: Int32Array;
  /** By position: the next text with the same bits; -1 where there is none. */
  next: Int32Array;
}
const known = new WeakMap<TextTable, Chains>();

/** Texts by their hashes without regard to spacing, made once for a table. */
function textChains(table: TextTable): Chains {
  const before = known.get(table);
  if (before) return before;
  const first = new Int32Array(1 << Math.ceil(Math.log2(Math.max(2, 2 * table.length)))).fill(-1);
  const next = new Int32Array(table.length);
  for (let i = table.length - 1; i >= 0; i--) {
    const at = hash(table.text(i)) & (first.length - 1);
    next[i] = first[at];
    first[at] = i;
  }
  known.set(table, { first, next });
  return { first, next };
}

/** FNV-1a over UTF-16 units, its bits mixed: texts that are equal but for spacing have equal ones, and others seldom. */
function hash(text: string): number {
  const units = new Units(text);
  let h = 0x811c9dc5;
  for (let unit = units.next(); unit >= 0; unit = units.next()) h = Math.imul(h ^ unit, 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  return h ^ (h >>> 15);
}
