/** @file Relevant documents by position, and documents that must not count as negatives since their text is relevant. */
import { lengthOf } from '../math/ragged.ts';
import type { Dataset, TextTable } from './dataset.ts';

type Judged = Pick<Dataset, 'documents' | 'queries' | 'qrels'>;
const none: ReadonlySet<number> = new Set();

/**
 * Relevant documents of a split's queries, with grades: positions of queries to positions of documents, the highest grade
 * first. Judgements of documents that the corpus lacks are left out.
 */
export function relevantDocuments(
  { documents, queries, qrels }: Judged,
  split: string,
): Map<number, Map<number, number>> {
  const found = new Map<number, Map<number, number>>();
  for (const [query, grades] of qrels(split)) {
    const own = new Map<number, number>();
    for (const [id, grade] of grades) {
      const d = grade > 0 ? documents.indexOf(id) : undefined;
      if (d !== undefined) own.set(d, grade);
    }
    found.set(queries.indexOf(query) as number, own);
  }
  return found;
}

/** Whether the data itself lists documents besides the relevant ones, for at least half of a split's queries. */
export function listsNegatives(dataset: Dataset, split: string): boolean {
  const lists = dataset.candidates?.(split);
  if (!lists?.queries.length) return false;
  const relevant = relevantDocuments(dataset, split);
  let listed = 0;
  for (const [i, query] of lists.queries.entries())
    listed += Number(lengthOf(lists.offsets, i) > (relevant.get(query)?.size ?? 0));
  return 2 * listed >= lists.queries.length;
}

/** Texts that differ in spacing alone are one. */
const plain = (text: string): string => text.replace(/\s+/g, ' ').trim();

/**
 * Documents that are never a query's negative: relevant ones, documents of the same text as a relevant one, and documents
 * that repeat the query.
 *
 * @param asked positions of the queries that will be looked up
 * @param relevant documents by query, as positions; by default all that the split judges to be relevant
 * @returns positions of documents for the position of a query
 */
export function neverNegative(
  dataset: Judged,
  split: string,
  asked: ArrayLike<number>,
  relevant: ReadonlyMap<number, ReadonlyMap<number, number>> = relevantDocuments(dataset, split),
): (query: number) => ReadonlySet<number> {
  const { documents, queries } = dataset;
  const wanted = new Set<string>();
  for (const own of relevant.values()) for (const d of own.keys()) wanted.add(plain(documents.text(d)));
  for (let i = 0; i < asked.length; i++) wanted.add(plain(queries.text(asked[i])));
  const twins = positionsOf(documents, wanted);
  const known = new Map<number, ReadonlySet<number>>();
  return (query) => {
    const before = known.get(query);
    if (before) return before;
    const own = new Set<number>();
    const add = (text: string): void => {
      for (const d of twins.get(plain(text)) ?? none) own.add(d);
    };
    for (const d of relevant.get(query)?.keys() ?? []) {
      own.add(d);
      add(documents.text(d));
    }
    add(queries.text(query));
    known.set(query, own);
    return own;
  };
}

/** Where each of some texts stands in a table. */
function positionsOf(table: TextTable, wanted: ReadonlySet<string>): Map<string, number[]> {
  const hashes = hashesOf(table);
  const sought = new Set<number>();
  for (const text of wanted) sought.add(hash(text));
  const found = new Map<string, number[]>();
  for (let i = 0; i < hashes.length; i++) {
    if (!sought.has(hashes[i])) continue;
    const text = plain(table.text(i));
    if (!wanted.has(text)) continue;
    const at = found.get(text);
    if (at) at.push(i);
    else found.set(text, [i]);
  }
  return found;
}

const known = new WeakMap<TextTable, Int32Array>();

/** Of each text without regard to spacing, made once for a table. */
function hashesOf(table: TextTable): Int32Array {
  let hashes = known.get(table);
  if (!hashes) {
    hashes = Int32Array.from({ length: table.length }, (_, i) => hash(plain(table.text(i))));
    known.set(table, hashes);
  }
  return hashes;
}

/** FNV-1a over UTF-16 units: equal texts have equal ones, and others seldom. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h;
}
