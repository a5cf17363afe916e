/**
 * @file An inverted index over token ids: what each document weighs under each token, exact search by adding up the lists of a
 * query's tokens.
 */
import { topKAmong } from '../top-k.ts';

/** Token ids with their weights, no id twice. */
export interface SparseVector {
  readonly ids: Int32Array;
  readonly weights: Float32Array;
}

/** Sparse vectors of documents, row by row. */
export interface SparseRows {
  /** [n + 1] */
  readonly offsets: Float64Array;
  readonly ids: Int32Array;
  readonly weights: Float32Array;
}

/** Weights as they are, or one byte each in steps of the largest / 255. */
export type Impacts = 'float32' | 'uint8';

/** Postings by token: `places` and `impacts` from `offsets[t]` to `offsets[t + 1]`, in document order. */
export interface Postings {
  readonly documents: number;
  readonly vocabulary: number;
  readonly offsets: Float64Array;
  readonly places: Uint32Array;
  readonly impacts: Float32Array | Uint8Array;
  /** A weight is an impact times this. */
  readonly step: number;
}

/** Documents' weights in memory, by token. */
export class ImpactIndex {
  readonly postings: Postings;
  private readonly scores: Float64Array;
  private readonly marks: Uint8Array;

  constructor(postings: Postings) {
    this.postings = postings;
    this.scores = new Float64Array(postings.documents);
    this.marks = new Uint8Array(postings.documents);
  }

  /** An index of sparse vectors. Weights of 0, and those that a byte rounds to 0, have no posting. */
  static of({ offsets, ids, weights }: SparseRows, vocabulary: number, impacts: Impacts = 'float32'): ImpactIndex {
    const documents = offsets.length - 1;
    let most = 0;
    for (const w of weights) most = Math.max(most, w);
    const step = impacts === 'uint8' ? most / 255 || 1 : 1;
    const stored = (w: number): number => (impacts === 'uint8' ? Math.round(w / step) : w);
    const starts = new Float64Array(vocabulary + 1);
    for (let i = 0; i < ids.length; i++) if (stored(weights[i]) > 0) starts[ids[i] + 1]++;
    for (let t = 0; t < vocabulary; t++) starts[t + 1] += starts[t];
    const next = starts.slice();
    const places = new Uint32Array(starts[vocabulary]);
    const out = impacts === 'uint8' ? new Uint8Array(places.length) : new Float32Array(places.length);
    for (let d = 0; d < documents; d++)
      for (let i = offsets[d]; i < offsets[d + 1]; i++) {
        const impact = stored(weights[i]);
        if (!(impact > 0)) continue;
        const at = next[ids[i]]++;
        places[at] = d;
        out[at] = impact;
      }
    return new ImpactIndex({ documents, vocabulary, offsets: starts, places, impacts: out, step });
  }

  /** Bytes of the arrays. */
  get bytes(): number {
    const { offsets, places, impacts } = this.postings;
    return offsets.byteLength + places.byteLength + impacts.byteLength;
  }

  /** The k best documents that share a token with the query, best first; of equal scores the lower position first. */
  search(query: SparseVector, k: number): { indices: Int32Array; scores: Float32Array } {
    return this.scored(query, (touched) => topKAmong(touched, this.scores, k));
  }

  /** Scores of given documents; 0 where one shares no token with the query. */
  scoresOf(query: SparseVector, documents: ArrayLike<number> & Iterable<number>): Float32Array {
    return this.scored(query, () => Float32Array.from(documents, (d) => this.scores[d]));
  }

  /** Postings that a search of the query reads. */
  work({ ids }: SparseVector): number {
    const { offsets, vocabulary } = this.postings;
    return ids.reduce((n, t) => n + (t < vocabulary ? offsets[t + 1] - offsets[t] : 0), 0);
  }

  /** Runs with the scores of the documents that share a token with the query, and clears them. */
  private scored<R>({ ids, weights }: SparseVector, read: (touched: readonly number[]) => R): R {
    const { offsets, places, impacts, step, vocabulary } = this.postings;
    const { scores, marks } = this;
    const touched: number[] = [];
    for (let q = 0; q < ids.length; q++) {
      const t = ids[q];
      const weight = weights[q] * step;
      if (t >= vocabulary || weight === 0) continue;
      for (let at = offsets[t]; at < offsets[t + 1]; at++) {
        const d = places[at];
        // Not by the score: where learned weights are negative, a sum can return to 0.
        if (!marks[d]) touched.push(d);
        marks[d] = 1;
        scores[d] += weight * impacts[at];
      }
    }
    const result = read(touched);
    for (const d of touched) scores[d] = marks[d] = 0;
    return result;
  }
}
