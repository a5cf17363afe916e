/** @file First and second moments of vectors, and how many dimensions they use. */
import type { Square } from './linear-algebra.ts';
import type { Rows } from './numbers.ts';

/** Sums over vectors: of x, and of x x^T. */
export interface Moments {
  readonly count: number;
  /** [D] */
  readonly first: Float64Array;
  readonly second: Square;
}

export function momentsOf({ data, dimensions: D }: Rows): Moments {
  const first = new Float64Array(D);
  const second = new Float64Array(D * D);
  for (let i = 0; i < data.length / D; i++)
    for (let a = 0; a < D; a++) {
      const x = data[i * D + a];
      first[a] += x;
      for (let b = 0; b <= a; b++) second[a * D + b] += x * data[i * D + b];
    }
  for (let a = 0; a < D; a++) for (let b = 0; b < a; b++) second[b * D + a] = second[a * D + b];
  return { count: data.length / D, first, second: { n: D, data: second } };
}

/**
 * Dimensions that vectors use: the participation ratio (tr C)^2 / tr C^2 of their covariance, D where all directions vary alike.
 * 1 for vectors that do not vary.
 */
export function effectiveDimensions({ count, first, second: { n: D, data } }: Moments): number {
  let [trace, squares] = [0, 0];
  for (let a = 0; a < D; a++)
    for (let b = 0; b < D; b++) {
      const c = data[a * D + b] - (first[a] * first[b]) / count;
      squares += c * c;
      if (a === b) trace += c;
    }
  return trace > 0 && squares > 0 ? trace ** 2 / squares : 1;
}
