/** @file Linear least squares with a penalty on the weights, in float64. */
import { cholesky, solve } from './linear-algebra.ts';

export interface Linear {
  /** [width] */
  weights: Float64Array;
  intercept: number;
}

/** Penalties tried, as shares of the mean variance of a column. */
const PENALTIES = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1];

/**
 * min_w,b sum_i (x_i w + b - y_i)^2 + n p v ||w||^2, v the mean variance of the columns; p is the penalty of a small grid with the
 * least error on the rows that `heldOut` names, which take no part in the fit.
 *
 * @param x [n, width] row-major
 * @returns the map, and its predictions less the targets on the rows held out
 */
export function ridge(
  x: Float32Array,
  y: Float32Array,
  width: number,
  heldOut: (row: number) => boolean,
): { map: Linear; errors: Float64Array; targets: Float64Array } {
  const rows = Array.from({ length: y.length }, (_, i) => i);
  const [fitted, held] = [rows.filter((i) => !heldOut(i)), rows.filter(heldOut)];
  const n = Math.max(1, fitted.length);
  const centre = new Float64Array(width);
  let middle = 0;
  for (const i of fitted) {
    for (let k = 0; k < width; k++) centre[k] += x[i * width + k] / n;
    middle += y[i] / n;
  }
  const gram = new Float64Array(width * width);
  const moment = new Float64Array(width);
  const row = new Float64Array(width);
  for (const i of fitted) {
    for (let k = 0; k < width; k++) row[k] = x[i * width + k] - centre[k];
    for (let k = 0; k < width; k++) {
      moment[k] += row[k] * (y[i] - middle);
      for (let l = 0; l <= k; l++) gram[k * width + l] += row[k] * row[l];
    }
  }
  let trace = 0;
  for (let k = 0; k < width; k++) trace += gram[k * width + k];
  const candidates = PENALTIES.map((penalty) => {
    const data = gram.slice();
    for (let k = 0; k < width; k++) {
      for (let l = k + 1; l < width; l++) data[k * width + l] = gram[l * width + k];
      data[k * width + k] += penalty * Math.max(trace / width, 1e-12);
    }
    const weights = solve(cholesky({ n: width, data }), moment);
    const intercept = middle - weights.reduce((s, w, k) => s + w * centre[k], 0);
    const errors = Float64Array.from(held, (i) => {
      let z = intercept - y[i];
      for (let k = 0; k < width; k++) z += weights[k] * x[i * width + k];
      return z;
    });
    return { map: { weights, intercept }, errors, squares: errors.reduce((s, e) => s + e * e, 0) };
  });
  const best = candidates.reduce((a, b) => (b.squares < a.squares ? b : a));
  return { map: best.map, errors: best.errors, targets: Float64Array.from(held, (i) => y[i]) };
}
