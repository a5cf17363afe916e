/** @file Ragged lists of candidates: flat arrays with offsets. */
import { joinedOffsets, offsetsOf, positionsOf, rowOf } from '../math/ragged.ts';

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
export function candidateLists(
  lists: readonly { query: number; documents: readonly number[]; scores?: readonly number[] }[],
): CandidateLists {
  const offsets = offsetsOf(lists.map((l) => l.documents.length));
  const documents = new Int32Array(offsets[lists.length]);
  const scores = new Float32Array(offsets[lists.length]).fill(Number.NaN);
  for (const [i, l] of lists.entries()) {
    documents.set(l.documents, offsets[i]);
    if (l.scores) scores.set(l.scores, offsets[i]);
  }
  return { queries: Int32Array.from(lists, (l) => l.query), offsets, documents, scores };
}
/** Some lists of many. */
export function listsAt(lists: CandidateLists, indices: ArrayLike<number>): CandidateLists {
  return candidateLists(
    Array.from(indices, (i) => ({
      query: lists.queries[i],
      documents: Array.from(rowOf(lists.documents, lists.offsets, i)),
      scores: Array.from(rowOf(lists.scores, lists.offsets, i)),
    })),
  );
}
/** Lists by query, within each the highest score first, so that the order of lines does not matter; unscored ones stay as they are. */
export function sortedLists({ queries, offsets, documents, scores }: CandidateLists): CandidateLists {
  const order = Array.from(queries, (_, i) => i).sort((a, b) => queries[a] - queries[b]);
  return candidateLists(
    order.map((i) => {
      const at = positionsOf(offsets, i);
      const scored = at.every((k) => !Number.isNaN(scores[k]));
      if (scored) at.sort((a, b) => scores[b] - scores[a] || documents[a] - documents[b]);
      return { query: queries[i], documents: at.map((k) => documents[k]), scores: at.map((k) => scores[k]) };
    }),
  );
}

export function joined(a: CandidateLists, b: CandidateLists): CandidateLists {
  return {
    queries: Int32Array.from([...a.queries, ...b.queries]),
    offsets: joinedOffsets(a.offsets, b.offsets),
    documents: Int32Array.from([...a.documents, ...b.documents]),
    scores: Float32Array.from([...a.scores, ...b.scores]),
  };
}
/** Lists without the candidates that have no score; a query that has none left keeps its place. @returns how many were left out */
export function withoutUnscored(lists: CandidateLists): { lists: CandidateLists; leftOut: number } {
  const leftOut = lists.scores.reduce((n, s) => n + Number(!Number.isFinite(s)), 0);
  if (!leftOut) return { lists, leftOut };
  const kept = candidateLists(
    Array.from(lists.queries, (query, i) => {
      const scored = positionsOf(lists.offsets, i).filter((at) => Number.isFinite(lists.scores[at]));
      return {
        query,
        documents: scored.map((at) => lists.documents[at]),
        scores: scored.map((at) => lists.scores[at]),
      };
    }),
  );
  return { lists: kept, leftOut };
}
