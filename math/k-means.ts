/** @file k-means clustering. */
import { InputError } from '../common/errors.ts';
import { countOf, type Rows, squaredDistance } from './numbers.ts';
import { drawFrom, Random } from './random.ts';

export interface KMeansOptions {
  clusters: number;
  /** Maximum of iterations; it stops earlier once no point changes its cluster. */
  iterations?: number;
  seed?: number;
}

export interface Clusters {
  /** [n] each point's cluster. */
  assignment: Int32Array;
  centroids: Rows & { data: Float64Array };
  /** Sum of squared distances to the centroids after each iteration; never increases. */
  inertia: number[];
}

/**
 * Lloyd's algorithm from a k-means++ start. An empty cluster takes the point farthest from its centroid.
 * Cost: iterations x n x clusters x D.
 *
 * @throws InputError where there are more clusters than points
 */
export function kMeans(rows: Rows, { clusters, iterations = 20, seed = 0 }: KMeansOptions): Clusters {
  const n = countOf(rows);
  if (!Number.isInteger(clusters) || clusters < 1 || clusters > n)
    throw new InputError({
      code: 'selection.clusters',
      subject: 'the number of clusters',
      expected: `a whole number from 1 to ${n}, the number of points`,
      received: String(clusters),
    });
  const D = rows.dimensions;
  const centroids = { dimensions: D, data: start(rows, clusters, Random.of(seed, 'k-means')) };
  const assignment = new Int32Array(n).fill(-1);
  const distances = new Float64Array(n);
  const inertia: number[] = [];
  for (let round = 0; round < iterations; round++) {
    let moved = 0;
    for (let i = 0; i < n; i++) {
      let [best, at] = [Number.POSITIVE_INFINITY, 0];
      for (let c = 0; c < clusters; c++) {
        const d = squaredDistance(rows, i, centroids, c);
        if (d < best) [best, at] = [d, c];
      }
      distances[i] = best;
      if (assignment[i] !== at) moved++;
      assignment[i] = at;
    }
    inertia.push(distances.reduce((a, b) => a + b, 0));
    if (!moved) break;
    moveCentroids(rows, assignment, distances, centroids.data, clusters);
  }
  return { assignment, centroids, inertia };
}

function start(rows: Rows, clusters: number, random: Random): Float64Array {
  const [n, D] = [countOf(rows), rows.dimensions];
  const data = new Float64Array(clusters * D);
  const nearest = new Float64Array(n).fill(Number.POSITIVE_INFINITY);
  let at = random.integer(n);
  for (let c = 0; c < clusters; c++) {
    for (let k = 0; k < D; k++) data[c * D + k] = rows.data[at * D + k];
    for (let i = 0; i < n; i++) nearest[i] = Math.min(nearest[i], squaredDistance(rows, i, rows, at));
    const next = drawFrom((i) => nearest[i], n, random);
    at = next >= 0 ? next : random.integer(n);
  }
  return data;
}

function moveCentroids(
  rows: Rows,
  assignment: Int32Array,
  distances: Float64Array,
  centroids: Float64Array,
  clusters: number,
): void {
  const D = rows.dimensions;
  const counts = new Int32Array(clusters);
  for (const c of assignment) counts[c]++;
  for (let c = 0; c < clusters; c++) {
    if (counts[c]) continue;
    let far = -1;
    for (let i = 0; i < assignment.length; i++)
      if (counts[assignment[i]] > 1 && (far < 0 || distances[i] > distances[far])) far = i;
    if (far < 0) continue;
    counts[assignment[far]]--;
    [assignment[far], counts[c], distances[far]] = [c, 1, 0];
  }
  centroids.fill(0);
  for (let i = 0; i < assignment.length; i++)
    for (let k = 0; k < D; k++) centroids[assignment[i] * D + k] += rows.data[i * D + k];
  for (let c = 0; c < clusters; c++) for (let k = 0; k < D && counts[c]; k++) centroids[c * D + k] /= counts[c];
}
