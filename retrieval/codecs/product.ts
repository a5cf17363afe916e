/** @file Product quantisation: a vector as one of 256 centroids in each of m parts, with the loss that inner products need. */
import { kMeans } from '../../math/k-means.ts';
import { symmetricEigen } from '../../math/linear-algebra.ts';
import { Random } from '../../math/random.ts';
import type { Codec, Vectors } from './codec.ts';
import { lookedUp } from './look-up.ts';

const CENTROIDS = 256;
/** Vectors that centroids are learned from, and rounds of k-means. */
const SAMPLE = 8192;
const ROUNDS = 12;
/** Times each part of a code is chosen again given the others. */
const SWEEPS = 2;

/**
 * How much the error along a vector counts against the error across it: only the first changes the score of a query that is near.
 *
 *     eta = (d - 1) t^2 / (1 - t^2), t = 0.2 up to 128 dimensions and 0.2 (128 / d)^0.75 above
 *
 * @source Guo et al., "Accelerating large-scale inference with anisotropic vector quantization", ICML 2020 (arXiv 1908.10396),
 * and ScaNN's noise_shaping_utils.h
 */
export function anisotropy(dimensions: number, t = 0.2 * Math.min(1, (128 / dimensions) ** 0.75)): number {
  return ((dimensions - 1) * t * t) / (1 - t * t);
}

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

/** Product quantisation in so many bytes a vector. Dimensions are rotated so that each part holds as much variance. */
export function product(parts: number): Codec {
  const of = (dimensions: number): number => {
    if (dimensions % parts) throw new RangeError(`${dimensions} dimensions are not a multiple of ${parts} parts`);
    return dimensions / parts;
  };
  return {
    about: `${parts} parts of a vector, each as one of 256 centroids; re-score what it finds`,
    bytes: () => parts,
    learn: (sample, seed) => {
      const width = of(sample.dimensions);
      const some = drawn(sample, SAMPLE, seed);
      const rotation = balancedRotation(some, parts);
      const turned = rotate(some, rotation);
      const n = turned.data.length / turned.dimensions;
      const centroids = new Float32Array(parts * CENTROIDS * width);
      for (let j = 0; j < parts; j++) {
        const part = new Float32Array(n * width);
        for (let i = 0; i < n; i++)
          for (let k = 0; k < width; k++) part[i * width + k] = turned.data[i * turned.dimensions + j * width + k];
        const found = kMeans(
          { dimensions: width, data: part },
          { clusters: Math.min(CENTROIDS, n), iterations: ROUNDS, seed: seed + j },
        ).centroids.data;
        centroids.set(found, j * CENTROIDS * width);
      }
      return { rotation, centroids };
    },
    encode: (vectors, learned) => assign(rotate(vectors, learned.rotation), learned.centroids, parts),
    scorer: (query, learned) => {
      const width = of(query.length);
      const turned = rotate({ data: query, dimensions: query.length }, learned.rotation).data;
      const sums = new Float32Array(parts * CENTROIDS);
      for (let j = 0; j < parts; j++)
        for (let c = 0; c < CENTROIDS; c++) {
          let s = 0;
          for (let k = 0; k < width; k++)
            s += turned[j * width + k] * learned.centroids[(j * CENTROIDS + c) * width + k];
          sums[j * CENTROIDS + c] = s;
        }
      return lookedUp(sums, parts);
    },
  };
}

/** Each part's best centroid given the other parts, by the anisotropic loss: ||r||^2 + (eta - 1) (r . u)^2, u = x / ||x||. */
function assign({ data, dimensions: D }: Vectors, centroids: Float32Array, parts: number): Uint8Array {
  const width = D / parts;
  const extra = anisotropy(D) - 1;
  const n = data.length / D;
  const codes = new Uint8Array(n * parts);
  const squares = new Float32Array(parts * CENTROIDS);
  for (let c = 0; c < squares.length; c++) for (let k = 0; k < width; k++) squares[c] += centroids[c * width + k] ** 2;
  const dots = new Float32Array(parts * CENTROIDS);
  for (let i = 0; i < n; i++) {
    let norm = 0;
    for (let k = 0; k < D; k++) norm += data[i * D + k] ** 2;
    for (let j = 0; j < parts; j++)
      for (let c = 0; c < CENTROIDS; c++) {
        let s = 0;
        for (let k = 0, at = (j * CENTROIDS + c) * width; k < width; k++)
          s += data[i * D + j * width + k] * centroids[at + k];
        dots[j * CENTROIDS + c] = s;
      }
    // First the nearest of each part by itself, then parts in turn with the error along x that the others leave.
    let code = 0;
    for (let j = 0; j < parts; j++) {
      let [least, best] = [Number.POSITIVE_INFINITY, 0];
      for (let c = 0; c < CENTROIDS; c++) {
        const loss = squares[j * CENTROIDS + c] - 2 * dots[j * CENTROIDS + c];
        if (loss < least) [least, best] = [loss, c];
      }
      codes[i * parts + j] = best;
      code += dots[j * CENTROIDS + best];
    }
    if (!norm) continue;
    for (let sweep = 0; sweep < SWEEPS; sweep++)
      for (let j = 0; j < parts; j++) {
        const others = code - dots[j * CENTROIDS + codes[i * parts + j]];
        let [least, best] = [Number.POSITIVE_INFINITY, 0];
        for (let c = 0; c < CENTROIDS; c++) {
          const dot = dots[j * CENTROIDS + c];
          const along = norm - others - dot; // r . x
          const loss = squares[j * CENTROIDS + c] - 2 * dot + (extra * along * along) / norm;
          if (loss < least) [least, best] = [loss, c];
        }
        codes[i * parts + j] = best;
        code = others + dots[j * CENTROIDS + best];
      }
  }
  return codes;
}

/** [D, D] row-major; a vector x becomes x R. Principal directions, dealt out so that parts hold like variance. */
function balancedRotation({ data, dimensions: D }: Vectors, parts: number): Float32Array {
  const n = data.length / D;
  const covariance = new Float64Array(D * D);
  for (let i = 0; i < n; i++)
    for (let a = 0; a < D; a++) {
      const x = data[i * D + a];
      for (let b = 0; b <= a; b++) covariance[a * D + b] += x * data[i * D + b];
    }
  for (let a = 0; a < D; a++) for (let b = 0; b < a; b++) covariance[b * D + a] = covariance[a * D + b];
  const { values, vectors } = symmetricEigen({ n: D, data: covariance });
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
  const width = D / parts;
  const room = new Array<number>(parts).fill(width);
  // Log variances are added up: the next largest goes to the part with the least so far (Ge et al., OPQ, CVPR 2013).
  const sums = new Array<number>(parts).fill(0);
  const rotation = new Float32Array(D * D);
  const floor = Math.max(1e-12, 1e-9 * values[order[0]]);
  for (const k of order) {
    let into = -1;
    for (let j = 0; j < parts; j++) if (room[j] && (into < 0 || sums[j] < sums[into])) into = j;
    const column = into * width + (width - room[into]);
    room[into]--;
    sums[into] += Math.log(Math.max(floor, values[k]) / floor);
    for (let a = 0; a < D; a++) rotation[a * D + column] = vectors[a * D + k];
  }
  return rotation;
}

function rotate({ data, dimensions: D }: Vectors, rotation: Float32Array): Vectors {
  const n = data.length / D;
  const out = new Float32Array(data.length);
  for (let i = 0; i < n; i++)
    for (let a = 0; a < D; a++) {
      const x = data[i * D + a];
      if (x) for (let b = 0; b < D; b++) out[i * D + b] += x * rotation[a * D + b];
    }
  return { data: out, dimensions: D };
}

function drawn({ data, dimensions: D }: Vectors, most: number, seed: number): Vectors {
  const n = data.length / D;
  if (n <= most) return { data, dimensions: D };
  const order = Random.of(seed, 'product').shuffle(Int32Array.from({ length: n }, (_, i) => i));
  const out = new Float32Array(most * D);
  for (let i = 0; i < most; i++) out.set(data.subarray(order[i] * D, (order[i] + 1) * D), i * D);
  return { data: out, dimensions: D };
}
