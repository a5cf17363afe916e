/**
 * @file Calibration of probabilities: measures (ECE, Brier score, likelihood) and corrections (Platt and temperature scaling).
 */

import { fitLogistic } from '../../math/logistic-regression.ts';
import { logSigmoid, sigmoid } from '../../math/numbers.ts';

/** The calibration error and its bins. */
export interface CalibrationError {
  /** sum_b n_b / n |positives in b / n_b - mean probability in b|. */
  error: number;
  /** Non-empty bins, lowest first. */
  bins: { count: number; probability: number; positives: number }[];
}

/**
 * Expected calibration error of the probability of the positive class.
 *
 * @param p [n] probabilities of class 1, not folded to the larger class
 * @param y [n] 0 or 1
 * @param kind `width`: bins (lo, hi] of equal width, p = 0 in the first; `mass`: bins of equal count
 * @source Naeini et al. 2015
 */
export function calibrationError(
  p: ArrayLike<number>,
  y: ArrayLike<number>,
  { bins = 10, kind = 'width' }: { bins?: number; kind?: 'width' | 'mass' } = {},
): CalibrationError {
  const n = p.length;
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => p[a] - p[b] || a - b);
  const held = Array.from({ length: bins }, () => ({ count: 0, probability: 0, positives: 0 }));
  for (const [rank, i] of order.entries()) {
    // A product such as 0.7 x 10 exceeds 7 only by rounding.
    const at = kind === 'width' ? Math.ceil(p[i] * bins - 1e-9) - 1 : Math.floor((rank * bins) / n);
    const bin = held[Math.min(bins - 1, Math.max(0, at))];
    bin.count++;
    bin.probability += p[i];
    bin.positives += y[i];
  }
  const filled = held.filter((b) => b.count);
  return {
    error: filled.reduce((s, b) => s + Math.abs(b.positives - b.probability), 0) / n,
    bins: filled.map((b) => ({ ...b, probability: b.probability / b.count })),
  };
}

/** Mean squared error of probabilities. */
export function brier(p: ArrayLike<number>, y: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += (p[i] - y[i]) ** 2;
  return sum / p.length;
}

/** Mean negative log-likelihood in nats; probabilities are clipped to [1e-12, 1 - 1e-12]. */
export function negativeLogLikelihood(p: ArrayLike<number>, y: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum -= Math.log(Math.max(1e-12, y[i] ? p[i] : 1 - p[i]));
  return sum / p.length;
}

/** Slope and intercept of log-odds on a score, fitted by `platt`. */
export interface Platt {
  a: number;
  b: number;
  /** sigmoid(a s + b). */
  probability(score: number): number;
}

/**
 * Platt scaling: the a and b of largest likelihood of sigmoid(a s + b), with smoothed targets, so that separable labels give
 * finite values: (N+ + 1) / (N+ + 2) and 1 / (N- + 2).
 *
 * Ranking does not change where a > 0.
 * @source Platt 1999, with the targets of the same paper
 */
export function platt(scores: ArrayLike<number>, labels: ArrayLike<number>): Platt {
  let positives = 0;
  for (let i = 0; i < labels.length; i++) positives += labels[i] ? 1 : 0;
  const negatives = labels.length - positives;
  const targets = Float64Array.from(labels, (y) => (y ? (positives + 1) / (positives + 2) : 1 / (negatives + 2)));
  const [a, b] = fitLogistic({ width: 1, data: Float64Array.from(scores) }, targets, 0);
  return { a, b, probability: (s) => sigmoid(a * s + b) };
}

/**
 * Temperature scaling: the T of largest likelihood of softmax(z / T) (for two classes: sigmoid(s / T)) on labelled scores.
 * @source Guo et al. 2017 (arXiv 1706.04599)
 */
export function temperature(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  // Convex in 1 / T: bisection of the slope on a logarithmic scale.
  const slope = (inverse: number): number => {
    let sum = 0;
    for (let i = 0; i < scores.length; i++) sum += scores[i] * ((labels[i] ? 1 : 0) - sigmoid(inverse * scores[i]));
    return sum;
  };
  let [low, high] = [1e-6, 1e6];
  for (let round = 0; round < 200; round++) {
    const middle = Math.sqrt(low * high);
    if (slope(middle) > 0) low = middle;
    else high = middle;
  }
  return 1 / Math.sqrt(low * high);
}

/** Mean negative log-likelihood of sigmoid(s) in nats, without overflow. */
export function logisticLoss(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum -= logSigmoid(labels[i] ? scores[i] : -scores[i]);
  return sum / scores.length;
}
