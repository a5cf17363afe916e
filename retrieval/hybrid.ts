/** @file Hybrid search: a dense and a lexical channel, their scores added with one weight. */
import { setImmediate } from 'node:timers/promises';
import type { RunControl } from '../common/progress.ts';
import type { Bm25 } from './bm25.ts';
import { type Hits, search } from './exact-search.ts';

/** score = dense + lambda x BM25 / scale. */
export interface HybridWeight {
  /** 0 leaves the lexical channel out. */
  readonly lambda: number;
  /** Mean over the fitting queries of the best BM25 score, so that lambda means the same in every corpus. */
  readonly scale: number;
}

/** The documents that either channel found for one query, with both scores of each. */
export interface ChannelScores {
  /** Positions of documents, no order. */
  readonly documents: Int32Array;
  readonly dense: Float32Array;
  readonly lexical: Float32Array;
  /** Scores that a document outside has at most, by channel: the last one found, 0 where all were found. */
  readonly bounds: { readonly dense: number; readonly lexical: number };
}

export interface HybridQueries {
  /** [n, dimensions] row-major. */
  readonly vectors: Float32Array;
  /** The n texts. */
  text(i: number): string;
}

/** Found by each channel before they are joined. Ten times what is evaluated, so that little is missed. */
export const CHANNEL_DEPTH = 1000;
/** Queries between checks of the abort signal. */
const YIELD_EVERY = 64;

/**
 * Searches both channels and gives both scores of every document that either found.
 * @param documents [m, dimensions] row-major
 * @param read called once a query, in order
 */
export async function bothChannels(
  queries: HybridQueries,
  documents: Float32Array,
  dimensions: number,
  lexical: Pick<Bm25, 'search' | 'scores'>,
  read: (query: number, scores: ChannelScores) => void,
  { depth = CHANNEL_DEPTH, ...watch }: { depth?: number } & RunControl = {},
): Promise<void> {
  const n = queries.vectors.length / dimensions;
  const m = documents.length / dimensions;
  const hits = await search(queries.vectors, documents, dimensions, depth, watch);
  for (let q = 0; q < n; q++) {
    if (q % YIELD_EVERY === 0) {
      await setImmediate();
      watch.signal?.throwIfAborted();
      watch.onProgress?.({ stage: 'lexical search', done: q, total: n, unit: 'queries' });
    }
    const text = queries.text(q);
    const near = hits.indices.subarray(q * hits.k, (q + 1) * hits.k);
    const nearScores = hits.scores.subarray(q * hits.k, (q + 1) * hits.k);
    const words = lexical.search(text, depth);
    const dense = new Map<number, number>();
    for (let i = 0; i < near.length; i++) dense.set(near[i], nearScores[i]);
    for (const d of words.indices) if (!dense.has(d)) dense.set(d, dot(queries.vectors, q, documents, d, dimensions));
    const positions = Int32Array.from(dense.keys());
    read(q, {
      documents: positions,
      dense: Float32Array.from(dense.values()),
      lexical: lexical.scores(text, positions),
      bounds: {
        dense: hits.k < m ? nearScores[hits.k - 1] : Number.NEGATIVE_INFINITY,
        lexical: words.indices.length < depth ? 0 : words.scores[words.scores.length - 1],
      },
    });
  }
  watch.onProgress?.({ stage: 'lexical search', done: n, total: n, unit: 'queries' });
}

function dot(a: Float32Array, i: number, b: Float32Array, j: number, dimensions: number): number {
  let s = 0;
  for (let k = 0; k < dimensions; k++) s += a[i * dimensions + k] * b[j * dimensions + k];
  return s;
}

/** Added scores, in the order of the documents. */
export const fuse = ({ dense, lexical }: ChannelScores, { lambda, scale }: HybridWeight): Float32Array =>
  dense.map((s, i) => s + (lambda * lexical[i]) / scale);

/** Reciprocal-rank fusion: sum over channels of 1 / (60 + rank). @source Cormack, Clarke and Büttcher, SIGIR 2009 */
export function reciprocalRankFusion({ documents, dense, lexical }: ChannelScores, constant = 60): Float32Array {
  const fused = new Float32Array(documents.length);
  for (const channel of [dense, lexical]) {
    const order = Array.from(documents.keys()).sort((a, b) => channel[b] - channel[a] || documents[a] - documents[b]);
    for (const [rank, at] of order.entries())
      if (channel !== lexical || lexical[at] > 0) fused[at] += 1 / (constant + rank + 1);
  }
  return fused;
}

/** Positions within the list of the k best, best first; of equal scores the lower document first. */
export function best({ documents }: ChannelScores, scores: Float32Array, k: number): number[] {
  return Array.from(documents.keys())
    .sort((a, b) => scores[b] - scores[a] || documents[a] - documents[b])
    .slice(0, k);
}

/**
 * Exact search by the added scores: a query whose k-th score an unseen document could pass is searched again deeper.
 * @param documents [m, dimensions] row-major
 */
export async function hybridSearch(
  queries: HybridQueries,
  documents: Float32Array,
  dimensions: number,
  lexical: Pick<Bm25, 'search' | 'scores'>,
  weight: HybridWeight,
  { k, depth = CHANNEL_DEPTH, ...watch }: { k: number; depth?: number } & RunControl,
): Promise<Hits> {
  const n = queries.vectors.length / dimensions;
  const m = documents.length / dimensions;
  const found = Math.min(k, m);
  const hits: Hits = { k: found, indices: new Int32Array(n * found), scores: new Float32Array(n * found) };
  let open = Array.from({ length: n }, (_, i) => i);
  for (let deep = Math.max(depth, found); open.length; deep *= 4) {
    const again: number[] = [];
    const rows = open;
    await bothChannels(
      {
        vectors: rows.length === n ? queries.vectors : rowsAt(queries.vectors, rows, dimensions),
        text: (i) => queries.text(rows[i]),
      },
      documents,
      dimensions,
      lexical,
      (i, scores) => {
        const fused = fuse(scores, weight);
        const top = best(scores, fused, found);
        const bound = scores.bounds.dense + (weight.lambda * scores.bounds.lexical) / weight.scale;
        if (top.length < found || (deep < m && fused[top[found - 1]] < bound)) again.push(rows[i]);
        for (const [r, at] of top.entries()) {
          hits.indices[rows[i] * found + r] = scores.documents[at];
          hits.scores[rows[i] * found + r] = fused[at];
        }
      },
      { depth: deep, ...watch },
    );
    open = again;
  }
  return hits;
}

function rowsAt(vectors: Float32Array, rows: readonly number[], dimensions: number): Float32Array {
  const out = new Float32Array(rows.length * dimensions);
  for (const [i, r] of rows.entries()) out.set(vectors.subarray(r * dimensions, (r + 1) * dimensions), i * dimensions);
  return out;
}
