/**
 * @file Query-document pairs as sorted lists, with judgements and candidates as views of them, so that millions of rows need no
 * Map each.
 */
import { positionsOf, rowOf } from '../math/ragged.ts';
import type { Qrels, TextTable } from './dataset.ts';
import { mapOnDemand, rememberPositions } from './judged/positions.ts';
import type { CandidateLists } from './lists.ts';
import { Column } from './table/columns.ts';

/** Values that rows give for query-document pairs, one entry a pair. */
export class Pairs {
  readonly queries = new Column(Int32Array);
  readonly documents = new Column(Int32Array);
  /** NaN where a row judges nothing. */
  readonly grades = new Column(Float32Array);
  /** Numbers of the column of labels; NaN without one. */
  readonly labels = new Column(Float32Array);
  /** NaN where a row scores nothing. */
  readonly scores = new Column(Float32Array);

  get length(): number {
    return this.queries.length;
  }

  add(query: number, document: number, grade: number, label: number, score: number): void {
    this.queries.push(query);
    this.documents.push(document);
    this.grades.push(grade);
    this.labels.push(label);
    this.scores.push(score);
  }
}

/** Each pair once, lists in the order of queries, within a list the highest grade first. */
export interface JudgedLists extends CandidateLists {
  /** [all pairs] NaN where nothing is judged. */
  readonly grades: Float32Array;
}

/**
 * Sorts pairs and merges duplicates: the highest grade and the highest score count.
 * @param movedQueries new positions by old ones
 * @param contradicts is told the new positions of a pair that has a further grade
 */
export function sortPairs(
  pairs: Pairs,
  movedQueries: Int32Array,
  movedDocuments: Int32Array,
  contradicts?: (query: number, document: number) => void,
): JudgedLists {
  const n = pairs.length;
  const [q, d, g, s] = [pairs.queries.all, pairs.documents.all, pairs.grades.all, pairs.scores.all];
  // By query in one pass of counting, then each short list by document.
  const ends = new Int32Array(movedQueries.length + 1);
  for (let i = 0; i < n; i++) ends[movedQueries[q[i]] + 1]++;
  for (let i = 0; i < movedQueries.length; i++) ends[i + 1] += ends[i];
  const next = ends.slice(0, -1);
  const order = new Int32Array(n);
  for (let i = 0; i < n; i++) order[next[movedQueries[q[i]]]++] = i;
  const queries = new Column(Int32Array);
  const offsets = new Column(Int32Array);
  const documents = new Column(Int32Array);
  const grades = new Column(Float32Array);
  const scores = new Column(Float32Array);
  offsets.push(0);
  for (let query = 0; query < movedQueries.length; query++) {
    if (ends[query] === ends[query + 1]) continue;
    const own = order.subarray(ends[query], ends[query + 1]);
    if (own.length > 1) own.sort((a, b) => movedDocuments[d[a]] - movedDocuments[d[b]]);
    const merged: { document: number; grade: number; score: number }[] = [];
    for (const i of own) {
      const last = merged.at(-1);
      if (last?.document !== movedDocuments[d[i]])
        merged.push({ document: movedDocuments[d[i]], grade: g[i], score: s[i] });
      else {
        if (last.grade !== g[i]) contradicts?.(query, last.document);
        [last.grade, last.score] = [highest(last.grade, g[i]), highest(last.score, s[i])];
      }
    }
    const judged = (grade: number): number => (Number.isNaN(grade) ? -1 : grade);
    if (merged.length > 1) merged.sort((a, b) => judged(b.grade) - judged(a.grade) || a.document - b.document);
    for (const { document, grade, score } of merged) {
      documents.push(document);
      grades.push(grade);
      scores.push(score);
    }
    queries.push(query);
    offsets.push(documents.length);
  }
  return {
    queries: queries.all,
    offsets: offsets.all,
    documents: documents.all,
    grades: grades.all,
    scores: scores.all,
  };
}

const highest = (a: number, b: number): number => (Number.isNaN(a) ? b : Number.isNaN(b) ? a : Math.max(a, b));

/** The lists that a test keeps. */
export function listsWhere(lists: JudgedLists, keep: (query: number) => boolean): JudgedLists {
  const queries = new Column(Int32Array);
  const offsets = new Column(Int32Array);
  const at = new Column(Int32Array);
  offsets.push(0);
  for (let i = 0; i < lists.queries.length; i++) {
    if (!keep(lists.queries[i])) continue;
    queries.push(lists.queries[i]);
    for (const k of positionsOf(lists.offsets, i)) at.push(k);
    offsets.push(at.length);
  }
  const places = at.all;
  return {
    queries: queries.all,
    offsets: offsets.all,
    documents: places.map((k) => lists.documents[k]),
    grades: Float32Array.from(places, (k) => lists.grades[k]),
    scores: Float32Array.from(places, (k) => lists.scores[k]),
  };
}

/**
 * Lists as judgements, the highest grade first; a query's Map is made when it is asked for.
 * @param best whether the document with the highest score counts as relevant where a query has no judgements
 * @param idOf ids of documents by position, where lists name some that the table lacks: at positions beyond it
 */
export function qrelsOf(
  lists: JudgedLists,
  queries: TextTable,
  documents: TextTable,
  best: boolean,
  idOf = (document: number): string => documents.ids[document],
): Qrels {
  const listOf = new Int32Array(queries.length).fill(-1);
  let size = 0;
  for (let i = 0; i < lists.queries.length; i++) {
    if (!best && rowOf(lists.grades, lists.offsets, i).every(Number.isNaN)) continue;
    listOf[lists.queries[i]] = i;
    size++;
  }
  /** Documents by position and grades, the highest first. */
  const judged = (i: number): [number, number][] => {
    const at: number[] = [];
    for (let k = lists.offsets[i]; k < lists.offsets[i + 1]; k++) if (!Number.isNaN(lists.grades[k])) at.push(k);
    if (!at.length) return [[lists.documents[bestOf(lists, i)], 1]];
    at.sort((a, b) => lists.grades[b] - lists.grades[a] || a - b);
    return at.map((k) => [lists.documents[k], lists.grades[k]]);
  };
  const grades = (i: number): ReadonlyMap<string, number> =>
    new Map(judged(i).map(([document, grade]) => [idOf(document), grade]));
  const list = (id: string): number => {
    const position = queries.indexOf(id);
    return position === undefined ? -1 : listOf[position];
  };
  function* keys(): MapIterator<string> {
    for (let q = 0; q < listOf.length; q++) if (listOf[q] >= 0) yield queries.ids[q];
    return undefined;
  }
  function* entries(): MapIterator<[string, ReadonlyMap<string, number>]> {
    for (let q = 0; q < listOf.length; q++) if (listOf[q] >= 0) yield [queries.ids[q], grades(listOf[q])];
    return undefined;
  }
  function* values(): MapIterator<ReadonlyMap<string, number>> {
    for (let q = 0; q < listOf.length; q++) if (listOf[q] >= 0) yield grades(listOf[q]);
    return undefined;
  }
  const view: Qrels = {
    size,
    has: (id) => list(id) >= 0,
    get(id) {
      const i = list(id);
      return i < 0 ? undefined : grades(i);
    },
    forEach(each) {
      for (const [id, own] of entries()) each(own, id, view);
    },
    keys,
    values,
    entries,
    [Symbol.iterator]: entries,
  };
  // Lists come in the order of queries, as the view gives them.
  const positions = lists.queries.filter((q) => listOf[q] >= 0);
  const relevant = mapOnDemand(
    positions,
    (place) =>
      new Map(judged(listOf[positions[place]]).filter(([document, grade]) => grade > 0 && document < documents.length)),
  );
  rememberPositions(view, { queries, documents, positions, relevant });
  return view;
}

/** Position of the highest score of a list, the first of equals. */
function bestOf(lists: JudgedLists, i: number): number {
  let best = lists.offsets[i];
  for (let k = best; k < lists.offsets[i + 1]; k++) if (lists.scores[k] > lists.scores[best]) best = k;
  return best;
}
