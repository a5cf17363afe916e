/**
 * @file The anisotropic loss of codes: the error along a vector counts more than the error across it, since a query with a high
 * score points along the vector. Codes and centroids that minimise it.
 */
import { cholesky, rowProducts, solve } from '../../math/linear-algebra.ts';
import type { Vectors } from './codec.ts';

/** Centroids a part: one byte. */
export const CENTROIDS = 256;

/** ScaNN's threshold T / ||x||: 0.2 up to 128 dimensions and 0.2 (128 / d)^0.75 above. */
export const scannThreshold = (dimensions: number): number => 0.2 * Math.min(1, (128 / dimensions) ** 0.75);

/**
 * How much the error along a vector counts against the error across it: only the first changes the score of a query that is near.
 *
 *     eta = (d - 1) t^2 / (1 - t^2)
 *
 * @param t T / ||x||, the least cosine of the queries that matter
 * @source Guo et al., "Accelerating large-scale inference with anisotropic vector quantization", ICML 2020 (arXiv 1908.10396),
 * and ScaNN's noise_shaping_utils.h
 */
export function anisotropy(dimensions: number, t = scannThreshold(dimensions)): number {
  return ((dimensions - 1) * t * t) / (1 - t * t);
}

/** The threshold that gives this eta: the inverse of `anisotropy`. */
export const thresholdOf = (dimensions: number, eta: number): number => Math.sqrt(eta / (eta + dimensions - 1));

/** The anisotropic loss of one vector's code: eta times the squared error along it, plus that across it. */
export function anisotropicLoss(x: ArrayLike<number>, code: ArrayLike<number>, eta: number): number {
  let [along, square, norm] = [0, 0, 0];
  for (let k = 0; k < x.length; k++) {
    const r = x[k] - code[k];
    along += r * x[k];
    square += r * r;
    norm += x[k] * x[k];
  }
  const parallel = norm ? along ** 2 / norm : 0;
  return eta * parallel + square - parallel;
}

/**
 * The code of each vector: first the nearest centroid of each part by itself (or the codes given), then the parts in turn, each
 * with the error along x that the others leave, by ||r||^2 + (eta - 1) (r . u)^2, u = x / ||x||.
 *
 * @param centroids [parts, 256, width]
 * @returns [n, parts]
 */
export function assign(
  { data, dimensions: D }: Vectors,
  centroids: Float32Array,
  parts: number,
  eta: number,
  { sweeps, codes: before }: { sweeps: number; codes?: Uint8Array },
): Uint8Array {
  const width = D / parts;
  const n = data.length / D;
  const codes = before?.slice() ?? new Uint8Array(n * parts);
  const tables = Array.from({ length: parts }, (_, j) => ({
    dimensions: width,
    data: Float64Array.from(centroids.subarray(j * CENTROIDS * width, (j + 1) * CENTROIDS * width)),
  }));
  const squares = new Float64Array(parts * CENTROIDS);
  for (let c = 0; c < squares.length; c++) for (let k = 0; k < width; k++) squares[c] += centroids[c * width + k] ** 2;
  const x = new Float64Array(D);
  const dots = new Float64Array(parts * CENTROIDS);
  for (let i = 0; i < n; i++) {
    let norm = 0;
    for (let k = 0; k < D; k++) {
      x[k] = data[i * D + k];
      norm += x[k] ** 2;
    }
    for (let j = 0; j < parts; j++) rowProducts(tables[j], { x, from: j * width }, { out: dots, at: j * CENTROIDS });
    /** The centroid of part j with the least loss, where the other parts of the code have this product with x. */
    const best = (j: number, others: number, weight: number): number => {
      let least = Number.POSITIVE_INFINITY;
      let found = 0;
      for (let c = 0, at = j * CENTROIDS; c < CENTROIDS; c++, at++) {
        const dot = dots[at];
        const along = norm - others - dot; // r . x
        const loss = squares[at] - 2 * dot + weight * along * along;
        if (loss < least) {
          least = loss;
          found = c;
        }
      }
      return found;
    };
    let product = 0;
    for (let j = 0; j < parts; j++) {
      if (!before) codes[i * parts + j] = best(j, 0, 0);
      product += dots[j * CENTROIDS + codes[i * parts + j]];
    }
    if (!norm) continue;
    for (let sweep = 0; sweep < sweeps; sweep++)
      for (let j = 0; j < parts; j++) {
        const others = product - dots[j * CENTROIDS + codes[i * parts + j]];
        const chosen = best(j, others, (eta - 1) / norm);
        codes[i * parts + j] = chosen;
        product = others + dots[j * CENTROIDS + chosen];
      }
  }
  return codes;
}

/**
 * Centroids with the least anisotropic loss for given codes, part after part, each given the others: of the vectors y (their part)
 * that have a centroid, with w = (eta - 1) / ||x||^2 and a = r . x of the other parts,
 *
 *     (count I + sum w y y^T) c = sum (1 + w (a + y . y)) y
 *
 * A centroid that no vector has stays as it is.
 *
 * @param centroids [parts, 256, width], not changed
 */
export function refit(
  { data, dimensions: D }: Vectors,
  codes: Uint8Array,
  centroids: Float32Array,
  parts: number,
  eta: number,
): Float32Array {
  const width = D / parts;
  const n = data.length / D;
  const out = centroids.slice();
  const weights = new Float64Array(n);
  /** r . x over all parts. */
  const along = new Float64Array(n);
  const alongPart = (i: number, j: number): number => {
    let s = 0;
    for (let k = 0, at = (j * CENTROIDS + codes[i * parts + j]) * width; k < width; k++) {
      const y = data[i * D + j * width + k];
      s += y * (y - out[at + k]);
    }
    return s;
  };
  for (let i = 0; i < n; i++) {
    let norm = 0;
    for (let k = 0; k < D; k++) norm += data[i * D + k] ** 2;
    weights[i] = norm ? (eta - 1) / norm : 0;
    for (let j = 0; j < parts; j++) along[i] += alongPart(i, j);
  }
  for (let j = 0; j < parts; j++) {
    const members = membersOf(codes, parts, j);
    for (let i = 0; i < n; i++) along[i] -= alongPart(i, j);
    for (const [c, rows] of members.entries()) {
      if (!rows.length) continue;
      const left = new Float64Array(width * width);
      const right = new Float64Array(width);
      for (let k = 0; k < width; k++) left[k * width + k] = rows.length;
      for (const i of rows) {
        const y = data.subarray(i * D + j * width, i * D + (j + 1) * width);
        let square = 0;
        for (let k = 0; k < width; k++) square += y[k] * y[k];
        const scale = 1 + weights[i] * (along[i] + square);
        for (let k = 0; k < width; k++) {
          right[k] += scale * y[k];
          const w = weights[i] * y[k];
          for (let l = 0; l < width; l++) left[k * width + l] += w * y[l];
        }
      }
      out.set(solve(cholesky({ n: width, data: left }), right), (j * CENTROIDS + c) * width);
    }
    for (let i = 0; i < n; i++) along[i] += alongPart(i, j);
  }
  return out;
}

/** The rows that have each centroid of part j. */
function membersOf(codes: Uint8Array, parts: number, j: number): number[][] {
  const members = Array.from({ length: CENTROIDS }, (): number[] => []);
  for (let i = 0; i < codes.length / parts; i++) members[codes[i * parts + j]].push(i);
  return members;
}
