/** @file Logistic and conditional logistic regression, by Newton's method in float64. */
import { cholesky, solve } from './linear-algebra.ts';
import { logSumExp, sigmoid } from './numbers.ts';

/** A table of features, row-major [n, width]. */
export interface Features {
  readonly width: number;
  readonly data: Float64Array;
}

const ROUNDS = 50;

/**
 * P(y = 1) = sigmoid(x w + b), maximum of the penalised likelihood:
 *
 *     sum_i c_i (y_i log p_i + (1 - y_i) log(1 - p_i)) - ridge / 2 ||w||^2
 *
 * @param targets [n] from 0 to 1
 * @param ridge on w, not on b; features should have similar scales
 * @returns [width + 1] w, then b
 */
export function fitLogistic({ width, data }: Features, targets: ArrayLike<number>, ridge = 1): Float64Array {
  const size = width + 1;
  const w = new Float64Array(size);
  const x = (i: number, k: number): number => (k < width ? data[i * width + k] : 1);
  const value = (at: Float64Array): number => {
    let sum = 0;
    for (let i = 0; i < targets.length; i++) {
      let z = 0;
      for (let k = 0; k < size; k++) z += x(i, k) * at[k];
      sum += targets[i] * z - (Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))));
    }
    for (let k = 0; k < width; k++) sum -= (ridge / 2) * at[k] ** 2;
    return sum;
  };
  return newton(w, value, () => {
    const gradient = new Float64Array(size);
    const hessian = new Float64Array(size * size);
    for (let i = 0; i < targets.length; i++) {
      let z = 0;
      for (let k = 0; k < size; k++) z += x(i, k) * w[k];
      const p = sigmoid(z);
      for (let k = 0; k < size; k++) {
        gradient[k] += (targets[i] - p) * x(i, k);
        for (let l = 0; l <= k; l++) hessian[k * size + l] += p * (1 - p) * x(i, k) * x(i, l);
      }
    }
    for (let k = 0; k < width; k++) {
      gradient[k] -= ridge * w[k];
      hessian[k * size + k] += ridge;
    }
    return { gradient, hessian };
  });
}

/** x w + b of every row. */
export function linear({ width, data }: Features, w: Float64Array): Float64Array {
  return Float64Array.from({ length: data.length / width }, (_, i) => {
    let z = w[width] ?? 0;
    for (let k = 0; k < width; k++) z += data[i * width + k] * w[k];
    return z;
  });
}

/**
 * Conditional logit over the candidates of a list: P(n) = exp(x_n w) / sum_m exp(x_m w), maximum of the penalised likelihood.
 *
 * @param features [all candidates, width]
 * @param lists each with the positions of its candidates and of the right one
 * @returns [width] w
 * @source McFadden 1974
 */
export function fitConditionalLogit(
  { width, data }: Features,
  lists: readonly { from: number; to: number; right: number }[],
  ridge = 1,
): Float64Array {
  const w = new Float64Array(width);
  const score = (at: Float64Array, c: number): number => {
    let z = 0;
    for (let k = 0; k < width; k++) z += data[c * width + k] * at[k];
    return z;
  };
  const scores = (at: Float64Array, from: number, to: number): Float64Array =>
    Float64Array.from({ length: to - from }, (_, k) => score(at, from + k));
  const value = (at: Float64Array): number => {
    let sum = 0;
    for (const { from, to, right } of lists) sum += score(at, right) - logSumExp(scores(at, from, to));
    return sum - (ridge / 2) * at.reduce((s, v) => s + v * v, 0);
  };
  return newton(w, value, () => {
    const gradient = w.map((v) => -ridge * v);
    const hessian = new Float64Array(width * width);
    for (let k = 0; k < width; k++) hessian[k * width + k] = ridge;
    const mean = new Float64Array(width);
    for (const { from, to, right } of lists) {
      const z = scores(w, from, to);
      const total = logSumExp(z);
      mean.fill(0);
      for (let c = from; c < to; c++) {
        const p = Math.exp(z[c - from] - total);
        for (let k = 0; k < width; k++) {
          const xk = data[c * width + k];
          mean[k] += p * xk;
          for (let l = 0; l <= k; l++) hessian[k * width + l] += p * xk * data[c * width + l];
        }
      }
      for (let k = 0; k < width; k++) {
        gradient[k] += data[right * width + k] - mean[k];
        for (let l = 0; l <= k; l++) hessian[k * width + l] -= mean[k] * mean[l];
      }
    }
    return { gradient, hessian };
  });
}

/** Newton's method on a concave function; w is changed in place. `hessian` is the lower triangle of the negative Hessian. */
function newton(
  w: Float64Array,
  value: (at: Float64Array) => number,
  slope: () => { gradient: Float64Array; hessian: Float64Array },
): Float64Array {
  const n = w.length;
  let best = value(w);
  for (let round = 0; round < ROUNDS; round++) {
    const { gradient, hessian } = slope();
    for (let k = 0; k < n; k++) hessian[k * n + k] += 1e-9;
    const move = solve(cholesky({ n, data: hessian }), gradient);
    let share = 1;
    let next = w.map((v, k) => v + move[k]);
    let reached = value(next);
    while (!(reached >= best) && share > 1e-6) {
      share /= 2;
      next = w.map((v, k) => v + share * move[k]);
      reached = value(next);
    }
    if (!(reached > best + 1e-12 * Math.abs(best))) break;
    w.set(next);
    best = reached;
  }
  return w;
}
