/** @file The map from token states to token vectors: its start, and its use outside of a graph. */
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { Rows } from '../../math/numbers.ts';
import { Random } from '../../math/random.ts';

/**
 * The directions in which states differ most (principal components about 0): products of projected states come nearest to those of
 * the states themselves.
 * @param states a sample [n, width]
 * @returns [width, dimensions]
 */
export function principalStart(states: Rows, dimensions: number): Tensor<'float32'> {
  const W = states.dimensions;
  const moments = secondMoments(states);
  const random = Random.of(0, 'principal start');
  // One direction a row.
  let rows = Float64Array.from({ length: dimensions * W }, () => random.normal());
  for (let i = 0; i < ITERATIONS; i++) {
    orthonormalise(rows, dimensions, W);
    rows = multiplied(rows, moments, dimensions, W);
  }
  orthonormalise(rows, dimensions, W);
  const out = new Float32Array(W * dimensions);
  for (let k = 0; k < dimensions; k++) for (let i = 0; i < W; i++) out[i * dimensions + k] = rows[k * W + i];
  return { dtype: 'float32', dims: [W, dimensions], data: out };
}

/** Of orthogonal iteration; the directions are a start, which training changes. */
const ITERATIONS = 12;

/** [W, W] mean outer product of the rows. */
function secondMoments({ dimensions: W, data }: Rows): Float64Array {
  const n = data.length / W;
  const moments = new Float64Array(W * W);
  const row = new Float64Array(W);
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < W; a++) row[a] = data[i * W + a];
    for (let a = 0; a < W; a++) {
      const x = row[a] / n;
      for (let b = 0; b < W; b++) moments[a * W + b] += x * row[b];
    }
  }
  return moments;
}

/** Rows times a symmetric matrix. */
function multiplied(rows: Float64Array, matrix: Float64Array, n: number, W: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(n * W);
  for (let k = 0; k < n; k++)
    for (let a = 0; a < W; a++) {
      const x = rows[k * W + a];
      for (let b = 0; b < W; b++) out[k * W + b] += x * matrix[a * W + b];
    }
  return out;
}

/** Gram and Schmidt's method, in place. */
function orthonormalise(rows: Float64Array, n: number, W: number): void {
  for (let k = 0; k < n; k++) {
    const own = rows.subarray(k * W, (k + 1) * W);
    for (let j = 0; j < k; j++) {
      const other = rows.subarray(j * W, (j + 1) * W);
      let dot = 0;
      for (let i = 0; i < W; i++) dot += own[i] * other[i];
      for (let i = 0; i < W; i++) own[i] -= dot * other[i];
    }
    const size = Math.max(Math.hypot(...own), 1e-30);
    for (let i = 0; i < W; i++) own[i] /= size;
  }
}

/** Token states through the map, at unit length. @param states [n, width] @returns [n, dimensions] */
export function projected(states: Rows, { dims: [width, D], data: map }: Tensor<'float32'>): Rows {
  const n = states.data.length / width;
  const out = new Float32Array(n * D);
  const sums = new Float64Array(D);
  for (let i = 0; i < n; i++) {
    sums.fill(0);
    for (let a = 0; a < width; a++) {
      const x = states.data[i * width + a];
      for (let k = 0; k < D; k++) sums[k] += x * map[a * D + k];
    }
    let size = 0;
    for (let k = 0; k < D; k++) size += sums[k] * sums[k];
    size = Math.max(Math.sqrt(size), 1e-12);
    for (let k = 0; k < D; k++) out[i * D + k] = sums[k] / size;
  }
  return { dimensions: D, data: out };
}
