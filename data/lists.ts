/** @file Ragged lists of candidates: flat arrays with offsets. */
import { joinedOffsets, rowOf } from '../math/ragged.ts';
import { Column } from './table/columns.ts';

/** Candidates of some queries: those of query `queries[i]` are documents[offsets[i] .. offsets[i + 1]]. */
export interface CandidateLists {
  /** Positions in the query table. */
  readonly queries: Int32Array;
  readonly offsets: Int32Array;
  /** Positions in the document table. */
  readonly documents: Int32Array;
  /** The teacher's raw scores; NaN where not scored. */
  readonly scores: Float32Array;
}
/** Lists that come one by one: millions of them need not be held. */
export function candidateLists(
  lists: Iterable<{ query: number; documents: readonly number[]; scores?: readonly number[] }>,
): CandidateLists {
  const [queries, offsets, documents] = [new Column(Int32Array), new Column(Int32Array), new Column(Int32Array)];
  const scores = new Column(Float32Array);
  offsets.push(0);
  for (const list of lists) {
    queries.push(list.query);
    for (const [k, d] of list.documents.entries()) {
      documents.push(d);
      scores.push(list.scores?.[k] ?? Number.NaN);
    }
    offsets.push(documents.length);
  }
  return { queries: queries.all, offsets: offsets.all, documents: documents.all, scores: scores.all };
}
/** Some lists of many. */
export function listsAt(lists: CandidateLists, indices: ArrayLike<number>): CandidateLists {
  const offsets = new Int32Array(indices.length + 1);
  for (let k = 0; k < indices.length; k++)
    offsets[k + 1] = offsets[k] + lists.offsets[indices[k] + 1] - lists.offsets[indices[k]];
  const documents = new Int32Array(offsets[indices.length]);
  const scores = new Float32Array(offsets[indices.length]);
  for (let k = 0; k < indices.length; k++) {
    documents.set(rowOf(lists.documents, lists.offsets, indices[k]), offsets[k]);
    scores.set(rowOf(lists.scores, lists.offsets, indices[k]), offsets[k]);
  }
  return { queries: Int32Array.from(indices, (i) => lists.queries[i]), offsets, documents, scores };
}
/** Lists by query, within each the highest score first, so that the order of lines does not matter; unscored ones stay as they are. */
export function sortedLists(lists: CandidateLists): CandidateLists {
  const order = Int32Array.from(lists.queries.keys()).sort((a, b) => lists.queries[a] - lists.queries[b] || a - b);
  const sorted = listsAt(lists, order);
  for (let i = 0; i < order.length; i++) {
    const documents = rowOf(sorted.documents, sorted.offsets, i);
    const scores = rowOf(sorted.scores, sorted.offsets, i);
    if (scores.length < 2 || scores.some(Number.isNaN)) continue;
    const [d, s] = [documents.slice(), scores.slice()];
    const best = Array.from(d.keys()).sort((a, b) => s[b] - s[a] || d[a] - d[b]);
    for (const [k, from] of best.entries()) [documents[k], scores[k]] = [d[from], s[from]];
  }
  return sorted;
}

export function joined(a: CandidateLists, b: CandidateLists): CandidateLists {
  const after = <T extends Int32Array | Float32Array>(first: T, second: T): T => {
    const both = new (first.constructor as { new (n: number): T })(first.length + second.length);
    both.set(first);
    both.set(second, first.length);
    return both;
  };
  return {
    queries: after(a.queries, b.queries),
    offsets: joinedOffsets(a.offsets, b.offsets),
    documents: after(a.documents, b.documents),
    scores: after(a.scores, b.scores),
  };
}
/** Lists without the candidates that have no score; a query that has none left keeps its place. @returns how many were left out */
export function withoutUnscored(lists: CandidateLists): { lists: CandidateLists; leftOut: number } {
  const leftOut = lists.scores.reduce((n, s) => n + Number(!Number.isFinite(s)), 0);
  if (!leftOut) return { lists, leftOut };
  const offsets = new Int32Array(lists.offsets.length);
  const at = new Int32Array(lists.scores.length - leftOut);
  let kept = 0;
  for (let i = 0; i < lists.queries.length; i++) {
    for (let k = lists.offsets[i]; k < lists.offsets[i + 1]; k++) if (Number.isFinite(lists.scores[k])) at[kept++] = k;
    offsets[i + 1] = kept;
  }
  const documents = at.map((k) => lists.documents[k]);
  return {
    lists: { queries: lists.queries, offsets, documents, scores: Float32Array.from(at, (k) => lists.scores[k]) },
    leftOut,
  };
}
