/** @file Whether a student exaggerates its teacher's confidence: the slope of its logits against the teacher's. */
import { listOf, logit, mean, type ScoreLists, softmax, topTwo } from '../../math/numbers.ts';
import { quantile } from '../../math/resampling.ts';

export interface Line {
  slope: number;
  intercept: number;
}

/** Slope of the student's confidence against the teacher's, with its interval. */
export interface ConfidenceSlope extends Line {
  /** The median of the slopes between all pairs (Theil-Sen), robust to outliers. */
  theilSen: Line;
  points: number;
}

/**
 * Fits logit(p_student) = a logit(p_teacher) + b; a > 1 where the student exaggerates.
 *
 * With `winsorise`, logits beyond the 1st and 99th percentile are clipped to them; otherwise saturated ones dominate.
 *
 * @param teacher [n] probabilities
 * @param student [n] probabilities of the same outcomes; where scores of pairs are compared both must be calibrated on the same
 * labels, or the slope is one of scales
 * @source after Nagarajan et al., NeurIPS 2023 (arXiv 2301.12923); the regression is ours
 */
export function confidenceSlope(
  teacher: ArrayLike<number>,
  student: ArrayLike<number>,
  { winsorise = false }: { winsorise?: boolean } = {},
): ConfidenceSlope {
  const drawnIn = (p: ArrayLike<number>): Float64Array => {
    const x = Float64Array.from(p, logit);
    if (!winsorise || !x.length) return x;
    const [low, high] = [quantile(x, 0.01), quantile(x, 0.99)];
    return x.map((v) => Math.min(high, Math.max(low, v)));
  };
  const [x, y] = [drawnIn(teacher), drawnIn(student)];
  return { ...leastSquares(x, y), theilSen: theilSen(x, y), points: x.length };
}

/**
 * The same over lists, with the probability that each side gives to the teacher's best candidate. Lists shorter than two are left
 * out.
 */
export function topProbabilities(
  teacher: ScoreLists,
  student: ArrayLike<number>,
  temperatures: { teacher: number; student: number },
): { teacher: Float64Array; student: Float64Array } {
  const pairs: [number, number][] = [];
  for (let i = 0; i + 1 < teacher.offsets.length; i++) {
    const t = listOf(teacher, i);
    if (t.length < 2) continue;
    const { at } = topTwo(t);
    const s = listOf({ offsets: teacher.offsets, scores: student }, i);
    pairs.push([softmax(t, temperatures.teacher)[at], softmax(s, temperatures.student)[at]]);
  }
  return { teacher: Float64Array.from(pairs, ([t]) => t), student: Float64Array.from(pairs, ([, s]) => s) };
}

/** Least squares; NaN where x is constant. */
export function leastSquares(x: ArrayLike<number>, y: ArrayLike<number>): Line {
  const [mx, my] = [mean(x), mean(y)];
  let [xx, xy] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    xx += (x[i] - mx) ** 2;
    xy += (x[i] - mx) * (y[i] - my);
  }
  const slope = xy / xx;
  return { slope, intercept: my - slope * mx };
}

/** Above this number points are thinned evenly, since the number of pairs is quadratic. */
const MOST = 2000;

/** Median of the slopes between all pairs of points, and the median residual. */
export function theilSen(x: ArrayLike<number>, y: ArrayLike<number>): Line {
  const step = Math.max(1, Math.ceil(x.length / MOST));
  const slopes: number[] = [];
  for (let i = 0; i < x.length; i += step)
    for (let j = 0; j < i; j += step) if (x[i] !== x[j]) slopes.push((y[i] - y[j]) / (x[i] - x[j]));
  const slope = slopes.length ? quantile(slopes, 0.5) : Number.NaN;
  return {
    slope,
    intercept: quantile(
      Float64Array.from(x, (v, i) => y[i] - slope * v),
      0.5,
    ),
  };
}

/**
 * The fraction of a direction that gradient descent from 0 has learned after T steps, 1 - (1 - step eigenvalue)^T. A student
 * distilled from that learns its square, so that weak directions shrink.
 */
export const learnedShare = (eigenvalue: number, step: number, steps: number): number =>
  1 - (1 - step * eigenvalue) ** steps;
