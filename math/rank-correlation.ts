/** @file Rank correlations: Pearson, Spearman and Kendall tau-b. */

import { mean } from './resampling.ts';

export function moments(x: ArrayLike<number>, y: ArrayLike<number>) {
  const [mx, my] = [mean(x), mean(y)];
  let [covariance, varianceX, varianceY] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    covariance += (x[i] - mx) * (y[i] - my);
    varianceX += (x[i] - mx) ** 2;
    varianceY += (y[i] - my) ** 2;
  }
  return { mx, my, covariance, varianceX, varianceY };
}
export function ranks(values: ArrayLike<number>): Float64Array {
  const order = Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const out = new Float64Array(values.length);
  for (let i = 0; i < order.length; ) {
    // Not a number equals nothing, not even itself.
    let end = i + 1;
    while (end < order.length && values[order[end]] === values[order[i]]) end++;
    for (let k = i; k < end; k++) out[order[k]] = (i + end - 1) / 2;
    i = end;
  }
  return out;
}
/** Pearson's correlation; NaN where a list is constant. */
export function pearson(x: ArrayLike<number>, y: ArrayLike<number>): number {
  const { covariance, varianceX, varianceY } = moments(x, y);
  return covariance / Math.sqrt(varianceX * varianceY);
}
/** Spearman's rho: Pearson's correlation of the ranks, ties at their mean rank; NaN where a list is constant or holds NaN. */
export function spearman(x: ArrayLike<number>, y: ArrayLike<number>): number {
  if ([x, y].some((list) => Array.prototype.some.call(list, Number.isNaN))) return Number.NaN;
  return pearson(ranks(x), ranks(y));
}
/** Kendall's tau-b, which counts ties; NaN where a list is constant or has fewer than two entries. */
export function kendallTauB(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let [concordant, xOnly, yOnly] = [0, 0, 0];
  for (let i = 0; i < x.length; i++)
    for (let j = i + 1; j < x.length; j++) {
      const [a, b] = [Math.sign(x[i] - x[j]), Math.sign(y[i] - y[j])];
      concordant += a * b;
      xOnly += Math.abs(a);
      yOnly += Math.abs(b);
    }
  return concordant / Math.sqrt(xOnly * yOnly);
}
