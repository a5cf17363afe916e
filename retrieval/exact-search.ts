/** @file Exact search: every query against every document, the best k of each. */
import type { RunControl } from '../common/progress.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import { Session } from '../engine/runtime/session.ts';

/** The best documents of some queries. */
export interface Hits {
  /** Found a query; the smaller of the k asked for and the number of documents. */
  k: number;
  /** [n, k] positions of documents, best first; of equal scores the lower position first. */
  indices: Int32Array;
  /** [n, k] dot products. */
  scores: Float32Array;
}

/** Queries at a time: their scores against all documents are what memory holds. */
const BLOCK = 64;

/** Queries at a time over so many documents: each takes its scores, which are sorted in a copy. */
export const searchBlock = (documents: number, memory = Number.POSITIVE_INFINITY): number =>
  Math.max(1, Math.min(BLOCK, Math.floor(memory / (8 * documents))));

/**
 * Exact search by dot product: the best documents of each query, on ONNX Runtime in blocks of queries.
 * @param queries [n, dimensions] row-major
 * @param documents [m, dimensions] row-major
 * @param depth documents a query; all where there are fewer
 * @returns positions and scores, [n, k] row-major, best first
 */
export async function search(
  queries: Float32Array,
  documents: Float32Array,
  dimensions: number,
  depth: number,
  watch: RunControl = {},
): Promise<Hits> {
  const searcher = await openExactSearch(documents, dimensions, depth);
  try {
    return await searcher.find(queries, watch);
  } finally {
    await searcher.release();
  }
}

/** The same with the session kept open, for many calls of few queries. */
export async function openExactSearch(documents: Float32Array, dimensions: number, depth: number) {
  const m = documents.length / dimensions;
  const k = Math.min(depth, m);
  const graph = new Graph(14);
  const q = new Expr(graph, graph.input('queries', 'float32', ['n', dimensions]));
  const d = new Expr(graph, graph.input('documents', 'float32', ['m', dimensions]));
  const [scores, indices] = q
    .op('Gemm', [d], { transB: 1 })
    .ops('TopK', [q.ints(k)], 2, { axis: -1, largest: 1, sorted: 1 });
  graph.output(scores.value, 'scores');
  graph.output(indices.value, 'indices');
  const session = await Session.load(graph);
  return {
    async find(queries: Float32Array, watch: RunControl = {}): Promise<Hits> {
      const n = queries.length / dimensions;
      const hits: Hits = { k, indices: new Int32Array(n * k), scores: new Float32Array(n * k) };
      const block = searchBlock(m, watch.memory);
      for (let at = 0; at < n; at += block) {
        watch.signal?.throwIfAborted();
        const rows = Math.min(block, n - at);
        const found = await session.run({
          queries: {
            dtype: 'float32',
            dims: [rows, dimensions],
            data: queries.subarray(at * dimensions, (at + rows) * dimensions),
          },
          documents: { dtype: 'float32', dims: [m, dimensions], data: documents },
        });
        hits.scores.set(found.scores.data as Float32Array, at * k);
        const positions = found.indices.data as BigInt64Array;
        for (let i = 0; i < positions.length; i++) hits.indices[at * k + i] = Number(positions[i]);
        watch.onProgress?.({ stage: 'search', done: at + rows, total: n, unit: 'queries' });
      }
      return hits;
    },
    release: () => session.release(),
  };
}

/** Documents as a student with perhaps fewer dimensions searches them: their prefix at unit length, or as they are. */
export const cutTo = (n: number, { dimensions, data }: { dimensions: number; data: Float32Array }): Float32Array =>
  n < dimensions ? prefix(data, dimensions, n) : data;
/** The first n dimensions of each row, L2-normalised again. */
export function prefix(vectors: Float32Array, dimensions: number, n: number): Float32Array {
  const rows = vectors.length / dimensions;
  const out = new Float32Array(rows * n);
  for (let r = 0; r < rows; r++) {
    let square = 0;
    for (let k = 0; k < n; k++) square += vectors[r * dimensions + k] ** 2;
    const norm = Math.sqrt(square) || 1;
    for (let k = 0; k < n; k++) out[r * n + k] = vectors[r * dimensions + k] / norm;
  }
  return out;
}
