/**
 * @file Cells: documents grouped by their nearest of some centroids, so that a search scans the cells near its query alone
 * (an inverted file).
 * @source Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI 33 (2011), section IV
 */
import { Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import { Session } from '../engine/runtime/session.ts';
import { Random } from '../math/random.ts';
import type { Vectors } from './codecs/index.ts';
import { place } from './codecs/kernel.ts';
import { float32 } from './codecs/scalar.ts';
import { topK } from './top-k.ts';

/** Which rows of a part's codes are whose: codes stand cell by cell, documents in the order in which they were added. */
export interface Cells {
  /** [cells + 1] where the rows of a cell begin, and where the last ones end. */
  readonly starts: Int32Array;
  /** [count] the document of each row. */
  readonly order: Int32Array;
  /** [count] the row of each document. */
  readonly rowOf: Int32Array;
}

/** Rounds of k-means; vectors a cell that it sees at most. */
const [ROUNDS, SEEN] = [6, 64];
/** Vectors at a time: their products with all centroids are what memory holds. */
const BLOCK = 4096;

/**
 * Centroids by Lloyd's algorithm on a random part of the vectors. A cell that loses all of its vectors takes one at random.
 * @returns [cells, dimensions] row-major
 */
export async function learnCells({ data, dimensions: D }: Vectors, cells: number, seed: number): Promise<Float32Array> {
  const random = Random.of(seed, 'cells');
  const n = data.length / D;
  const order = random.shuffle(Int32Array.from({ length: n }, (_, i) => i)).subarray(0, Math.min(n, SEEN * cells));
  const some = new Float32Array(order.length * D);
  for (const [i, from] of order.entries()) some.set(data.subarray(from * D, (from + 1) * D), i * D);
  let centroids = Float32Array.from({ length: cells * D }, (_, i) => some[i % some.length]);
  for (let round = 0; round < ROUNDS; round++) {
    const nearest = await assign({ data: some, dimensions: D }, centroids);
    const counts = new Int32Array(cells);
    const sums = new Float32Array(cells * D);
    for (let i = 0; i < nearest.length; i++) {
      counts[nearest[i]]++;
      for (let k = 0, c = nearest[i] * D; k < D; k++) sums[c + k] += some[i * D + k];
    }
    for (let c = 0; c < cells; c++) {
      const alone = counts[c] ? -1 : random.integer(nearest.length);
      for (let k = 0; k < D; k++) sums[c * D + k] = counts[c] ? sums[c * D + k] / counts[c] : some[alone * D + k];
    }
    centroids = sums;
  }
  return centroids;
}

/** The nearest centroid of each vector: of ||x - c||^2 the part that differs is x . c - ||c||^2 / 2. @returns [n] */
export async function assign({ data, dimensions: D }: Vectors, centroids: Float32Array): Promise<Int32Array> {
  const cells = centroids.length / D;
  const bias = Float32Array.from({ length: cells }, (_, c) => {
    let square = 0;
    for (let k = c * D; k < (c + 1) * D; k++) square += centroids[k] ** 2;
    return -square / 2;
  });
  const graph = new Graph(14);
  const x = new Expr(graph, graph.input('x', 'float32', ['n', D]));
  const c = new Expr(graph, graph.input('c', 'float32', [cells, D]));
  const b = new Expr(graph, graph.input('b', 'float32', [cells]));
  graph.output(x.op('Gemm', [c, b], { transB: 1 }).op('ArgMax', [], { axis: 1, keepdims: 0 }).value, 'nearest');
  const session = await Session.load(graph);
  const n = data.length / D;
  const nearest = new Int32Array(n);
  try {
    for (let at = 0; at < n; at += BLOCK) {
      const end = Math.min(n, at + BLOCK);
      const found = await session.run({
        x: { dtype: 'float32', dims: [end - at, D], data: data.subarray(at * D, end * D) },
        c: { dtype: 'float32', dims: [cells, D], data: centroids },
        b: { dtype: 'float32', dims: [cells], data: bias },
      });
      for (const [i, cell] of (found.nearest.data as BigInt64Array).entries()) nearest[at + i] = Number(cell);
    }
  } finally {
    await session.release();
  }
  return nearest;
}

/** Rows cell by cell, within a cell in the order of the documents. */
export function cellsOf(nearest: Int32Array, cells: number): Cells {
  const starts = new Int32Array(cells + 1);
  for (const c of nearest) starts[c + 1]++;
  for (let c = 0; c < cells; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  const order = new Int32Array(nearest.length);
  const rowOf = new Int32Array(nearest.length);
  for (let i = 0; i < nearest.length; i++) {
    rowOf[i] = next[nearest[i]]++;
    order[rowOf[i]] = i;
  }
  return { starts, order, rowOf };
}

/** Of cells as they were stored. */
export function readCells(starts: Int32Array, order: Int32Array): Cells {
  const rowOf = new Int32Array(order.length);
  for (let row = 0; row < order.length; row++) rowOf[order[row]] = row;
  return { starts, order, rowOf };
}

/** The cell of each document. */
export function nearestOf({ starts, order }: Cells): Int32Array {
  const nearest = new Int32Array(order.length);
  for (let c = 0; c + 1 < starts.length; c++)
    for (let row = starts[c]; row < starts[c + 1]; row++) nearest[order[row]] = c;
  return nearest;
}

/** Codes of `bytes` each, cell by cell. */
export function inCells(codes: Uint8Array, bytes: number, { order }: Cells): Uint8Array {
  const out = new Uint8Array(codes.length);
  for (let row = 0; row < order.length; row++)
    out.set(codes.subarray(order[row] * bytes, (order[row] + 1) * bytes), row * bytes);
  return out;
}

const placedCentroids = new WeakMap<Float32Array, Uint8Array>();

/** Cells by their centroid's product with the query, the best `probes` first; more where they hold too few documents. */
export function nearCells(
  query: Float32Array,
  centroids: Float32Array,
  probes: number,
  enough: (cells: Int32Array) => boolean,
): Int32Array {
  const cells = centroids.length / query.length;
  const table =
    placedCentroids.get(centroids) ?? place(float32.encode({ data: centroids, dimensions: query.length }, {}));
  placedCentroids.set(centroids, table);
  const scores = new Float32Array(cells);
  float32.scorer(query, {})(table, 0, cells, scores);
  for (let asked = Math.min(cells, probes); ; asked = Math.min(cells, 2 * asked)) {
    const { indices } = topK(scores, asked);
    if (asked === cells || enough(indices)) return indices;
  }
}
