/** @file Product quantisation: a rotated vector as one of 256 centroids in each of m parts, with the loss that inner products need. */
import { kMeans } from '../../math/k-means.ts';
import { rowProducts, type Square, symmetricEigen } from '../../math/linear-algebra.ts';
import { effectiveDimensions, momentsOf } from '../../math/moments.ts';
import { Random } from '../../math/random.ts';
import { anisotropy, assign, CENTROIDS, refit, scannThreshold, thresholdOf } from './anisotropic.ts';
import type { Codec, Vectors } from './codec.ts';
import { lookedUp } from './look-up.ts';

/** Vectors that centroids are learned from. */
const SAMPLE = 32_768;
/** Rounds of k-means, which the rounds of the anisotropic loss start from. */
const ROUNDS = 6;
const ANISOTROPIC_ROUNDS = 8;
/** Times each part of a code is chosen again given the others, when vectors are encoded. */
const SWEEPS = 2;
/** T / ||x|| of the loss, in the dimensions that the vectors use. */
const THRESHOLD = 0.2;

/**
 * Product quantisation in so many bytes a vector. Vectors and queries are rotated so that the variances of each part have the same
 * product; centroids and codes minimise the anisotropic loss. The rotation, the centroids and the loss's threshold are what is learned.
 */
export function product(parts: number): Codec {
  const of = (dimensions: number): number => {
    if (dimensions % parts) throw new RangeError(`${dimensions} dimensions are not a multiple of ${parts} parts`);
    return dimensions / parts;
  };
  return {
    about: `${parts} parts of a vector, each as one of 256 centroids; re-score what it finds`,
    bytes: () => parts,
    learn: (sample, seed) => {
      of(sample.dimensions);
      const some = drawn(sample, SAMPLE, seed);
      const moments = momentsOf(some);
      const rotation = balancedRotation(moments.second, parts);
      const turned = rotate(some, rotation);
      // Errors across a vector spread over the dimensions that the vectors use, not over all; the plain loss is the least.
      const eta = Math.max(1, anisotropy(effectiveDimensions(moments), THRESHOLD));
      let centroids = seeds(turned, parts, seed);
      // k-means: the nearest centroids, and their means.
      for (let round = 0; round < ROUNDS; round++)
        centroids = refit(turned, assign(turned, centroids, parts, 1, { sweeps: 0 }), centroids, parts, 1);
      let codes = assign(turned, centroids, parts, eta, { sweeps: 1 });
      for (let round = 0; round < ANISOTROPIC_ROUNDS; round++) {
        centroids = refit(turned, codes, centroids, parts, eta);
        codes = assign(turned, centroids, parts, eta, { sweeps: 1, codes });
      }
      return { rotation, centroids, threshold: Float32Array.of(thresholdOf(sample.dimensions, eta)) };
    },
    encode: (vectors, learned) => {
      // Centroids of an earlier version were learned by k-means alone; its codes had ScaNN's threshold.
      const eta = anisotropy(vectors.dimensions, learned.threshold?.[0] ?? scannThreshold(vectors.dimensions));
      return assign(rotate(vectors, learned.rotation), learned.centroids, parts, eta, { sweeps: SWEEPS });
    },
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

/** [parts, 256, width] centroids of each part that k-means starts from: vectors drawn by their distance (k-means++). */
function seeds({ data, dimensions: D }: Vectors, parts: number, seed: number): Float32Array {
  const width = D / parts;
  const n = data.length / D;
  const centroids = new Float32Array(parts * CENTROIDS * width);
  for (let j = 0; j < parts; j++) {
    const part = new Float32Array(n * width);
    for (let i = 0; i < n; i++) for (let k = 0; k < width; k++) part[i * width + k] = data[i * D + j * width + k];
    const found = kMeans(
      { dimensions: width, data: part },
      { clusters: Math.min(CENTROIDS, n), iterations: 0, seed: seed + j },
    ).centroids.data;
    centroids.set(found, j * CENTROIDS * width);
  }
  return centroids;
}

/** [D, D] row-major; a vector x becomes x R. Principal directions, dealt out so that parts hold like variance. */
function balancedRotation(second: Square, parts: number): Float32Array {
  const D = second.n;
  const { values, vectors } = symmetricEigen(second);
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

/** The columns of rotations as rows, kept so that a query does not wait for them. */
const turnedColumns = new WeakMap<Float32Array, Float64Array>();

function columnsOf(rotation: Float32Array, D: number): Float64Array {
  let columns = turnedColumns.get(rotation);
  if (!columns) {
    columns = new Float64Array(D * D);
    for (let a = 0; a < D; a++) for (let b = 0; b < D; b++) columns[b * D + a] = rotation[a * D + b];
    turnedColumns.set(rotation, columns);
  }
  return columns;
}

function rotate({ data, dimensions: D }: Vectors, rotation: Float32Array): Vectors {
  const columns = columnsOf(rotation, D);
  const out = new Float32Array(data.length);
  const x = new Float64Array(D);
  for (let at = 0; at < data.length; at += D) {
    for (let a = 0; a < D; a++) x[a] = data[at + a];
    rowProducts({ data: columns, dimensions: D }, { x }, { out, at });
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
