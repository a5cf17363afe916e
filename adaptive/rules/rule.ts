/** @file The interface of deferral rules: estimates a query's need for more teacher scores from its current state. */
import { cholesky, solve } from '../../math/linear-algebra.ts';
import type { FEATURES } from './states.ts';

/** States of queries that a rule is fitted on. */
export interface Examples {
  /** [n, FEATURES] row-major. */
  readonly features: Float64Array;
  /** [n] quality that scoring the whole list would still add; negative where it would cost. */
  readonly gains: Float64Array;
  /** [n] whether the first document served is not the best that the whole list would give. */
  readonly wrong: Uint8Array;
}

/** A rule's numbers, as JSON keeps them. */
export type Parameters = readonly number[];

/** Members share this shape; `test/adaptive/rules.test.ts` holds each to it. */
export interface Rule {
  /** Description for docs and help. */
  readonly about: string;
  /** Whether `auto` leaves it out: it is asked for by name. */
  readonly byName?: true;
  /** Numbers from examples; a rule without any gives none. */
  fit(examples: Examples): Parameters;
  /**
   * The query's need for more teacher scores; only its order matters.
   * @param features of length `FEATURES`
   */
  need(features: Float64Array, parameters: Parameters): number;
}

/** Column means and deviations, so that weights of a fitted rule are of like size. */
export function standardised({ features }: Examples, width: typeof FEATURES | number) {
  const n = features.length / width;
  const mean = new Float64Array(width);
  const deviation = new Float64Array(width);
  for (let i = 0; i < n; i++) for (let k = 0; k < width; k++) mean[k] += features[i * width + k] / n;
  for (let i = 0; i < n; i++)
    for (let k = 0; k < width; k++) deviation[k] += (features[i * width + k] - mean[k]) ** 2 / n;
  for (let k = 0; k < width; k++) deviation[k] = Math.sqrt(deviation[k]) || 1;
  const data = features.map((v, i) => (v - mean[i % width]) / deviation[i % width]);
  return { mean, deviation, data };
}

/** Weight of the penalty on weights of standardised features. */
export const RIDGE = 1;

/**
 * Ridge regression of the gain in quality on some of the standardised features.
 * @param data [n, width] row-major @param columns those that are read
 * @returns a weight a column, then the intercept
 */
export function ridge(
  data: Float64Array,
  width: number,
  columns: readonly number[],
  gains: Float64Array,
): Float64Array {
  const size = columns.length + 1;
  const x = new Float64Array(size).fill(1);
  const A = new Float64Array(size * size);
  const b = new Float64Array(size);
  for (let i = 0; i < gains.length; i++) {
    for (let k = 0; k < columns.length; k++) x[k] = data[i * width + columns[k]];
    for (let k = 0; k < size; k++) {
      b[k] += x[k] * gains[i];
      for (let l = 0; l < size; l++) A[k * size + l] += x[k] * x[l];
    }
  }
  for (let k = 0; k < size; k++) A[k * size + k] += k < columns.length ? RIDGE : 1e-9;
  return solve(cholesky({ n: size, data: A }), b);
}

/** w x + b of the standardised features; parameters are means, deviations, weights, then the intercept. */
export function linearNeed(features: Float64Array, parameters: Parameters): number {
  const width = features.length;
  let z = parameters[3 * width];
  for (let k = 0; k < width; k++)
    z += (parameters[2 * width + k] * (features[k] - parameters[k])) / parameters[width + k];
  return z;
}
