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

/** Texts that differ only in spacing count as equal. */
const plain = (text: string): string => text.replace(/\s+/g, ' ').trim();

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
    for (const twin of sameText(documents, queries.text(query))) own.add(twin);
    if (held.size >= HELD) held.clear();
    held.set(query, own);
    return own;
  };
}

/** Where a text stands in a table, whatever its spacing. */
function* sameText(table: TextTable, text: string): Generator<number> {
  const sought = plain(text);
  const { first, next } = textChains(table);
  for (let i = first[hash(sought) & (first.length - 1)]; i >= 0; i = next[i])
    if (plain(table.text(i)) === sought) yield i;
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
    const at = hash(plain(table.text(i))) & (first.length - 1);
    next[i] = first[at];
    first[at] = i;
  }
  known.set(table, { first, next });
  return { first, next };
}

/** FNV-1a over UTF-16 units, its bits mixed: equal texts have equal ones, and others seldom. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  return h ^ (h >>> 15);
}
