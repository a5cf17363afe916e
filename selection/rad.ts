/** @file Robust active distillation: selects informative queries, robust to the teacher's mistakes. */
import { descending } from '../math/numbers.ts';
import { Random } from '../math/random.ts';
import { defineQuerySelection, type QuerySelection } from './selection.ts';
import { listUncertainty, type Uncertainty } from './uncertainty.ts';

export interface RadOptions {
  /** Divides the student's scores: 0.05 for cosines, 1 for logits. */
  temperature?: number;
  /** Gain of a query: how informative its label is. */
  gain?: Uncertainty;
  /** Cost of a wrong teacher label in units of gain; 0 if it is merely useless. */
  penalty?: number;
}

/** Lower bound of gains, since the solution divides by them. */
const FLOOR = 1e-6;

/**
 * The sampling distribution of the largest gain when an adversary chooses which points the teacher gets wrong.
 *
 *     max_q min_{|S| = wrong} sum_{i not in S} q_i g_i
 *     with g sorted in descending order: G_k = (k - (1 + M) wrong) / sum_{i <= k} 1 / g_i,  k* = argmax_k G_k,
 *     q_i = (1 / g_i) / sum_{j <= k*} 1 / g_j for i <= k*, else 0
 *
 * Among the k* most informative points, those of smaller gain are drawn more often, so that all have the same expected gain.
 * Uniform where the teacher is wrong too often for any G_k to be positive.
 *
 * @param gains [n] positive numbers
 * @param wrong how many of the n points the teacher gets wrong
 * @param penalty M
 * @source Baykal et al., ICLR 2023 (arXiv 2210.01213); the term with M is derived here
 */
export function robustDistribution(
  gains: ArrayLike<number>,
  wrong: number,
  penalty = 0,
): { probabilities: Float64Array; support: number; value: number } {
  const n = gains.length;
  const order = descending(gains);
  const inverse = (k: number): number => 1 / Math.max(FLOOR, gains[order[k]]);
  let [value, support, total, sum] = [0, 0, 0, 0];
  for (let k = 0; k < n; k++) {
    sum += inverse(k);
    const own = (k + 1 - (1 + penalty) * wrong) / sum;
    // Points of equal gain enter the support together; otherwise it would depend on their order.
    const tied = k + 1 < n && gains[order[k + 1]] === gains[order[k]];
    if (!tied && own > value) [value, support, total] = [own, k + 1, sum];
  }
  const probabilities = new Float64Array(n);
  if (!support) return { probabilities: probabilities.fill(1 / n), support: n, value: 0 };
  for (let k = 0; k < support; k++) probabilities[order[k]] = inverse(k) / total;
  return { probabilities, support, value };
}

/**
 * Inclusion probabilities of b points drawn without replacement: min(1, c q_i), with c such that they sum to b. If fewer than b
 * points have positive probability, the others are added by gain.
 */
export function inclusion(q: ArrayLike<number>, gains: ArrayLike<number>, b: number): Float64Array {
  const pi = new Float64Array(q.length);
  let left = Array.from({ length: q.length }, (_, i) => i).filter((i) => q[i] > 0);
  let budget = Math.min(b, q.length);
  if (left.length <= budget) {
    for (const i of left) pi[i] = 1;
    const others = descending(gains).filter((i) => !(q[i] > 0));
    for (const i of others.subarray(0, budget - left.length)) pi[i] = 1;
    return pi;
  }
  for (;;) {
    const total = left.reduce((s, i) => s + q[i], 0);
    const capped = left.filter((i) => (budget * q[i]) / total >= 1);
    if (!capped.length) {
      for (const i of left) pi[i] = (budget * q[i]) / total;
      return pi;
    }
    for (const i of capped) pi[i] = 1;
    budget -= capped.length;
    left = left.filter((i) => pi[i] === 0);
    if (!left.length || !budget) return pi;
  }
}

/**
 * Systematic sampling: exactly sum(pi) points, each with inclusion probability pi_i, none twice.
 * @param order in which the points are visited; by gain, so that every range of gains is represented
 */
export function systematicSample(pi: ArrayLike<number>, order: ArrayLike<number>, random: Random): Int32Array {
  const chosen: number[] = [];
  const start = random.uniform();
  let [sum, total] = [0, 0];
  for (let k = 0; k < order.length; k++) total += pi[order[k]];
  const count = Math.round(total);
  for (let k = 0; k < order.length && chosen.length < count; k++) {
    sum += pi[order[k]];
    // Rounding errors of the sum must not remove a point from the sample.
    if (sum * (count / total) > start + chosen.length - 1e-9) chosen.push(order[k]);
  }
  return Int32Array.from(chosen);
}

/**
 * Queries drawn from the robust distribution, without replacement.
 *
 * Gains are the student's uncertainty; with `teacherErrors` each is multiplied by the probability that the teacher is right
 * (our variant). The teacher is assumed to be wrong on `teacherError` x n queries.
 *
 * @example rad({ temperature: 0.05 }).select({ count, student, teacherError: 0.3 }, { budget: 1000, seed: 1 })
 */
export function rad({ temperature = 1, gain = 'margin', penalty = 0 }: RadOptions = {}): QuerySelection {
  return defineQuerySelection('rad', ['student', 'teacherError'], (inputs, pool, budget, seed) => {
    const { student, teacherError = 0, teacherErrors } = inputs;
    const all = listUncertainty(student as NonNullable<typeof student>, gain, temperature);
    const gains = Float64Array.from(pool, (i) => Math.max(FLOOR, all[i] * (teacherErrors ? 1 - teacherErrors[i] : 1)));
    const { probabilities } = robustDistribution(gains, teacherError * pool.length, penalty);
    const pi = inclusion(probabilities, gains, budget);
    const drawn = systematicSample(pi, descending(gains), Random.of(seed, 'select rad'));
    return { indices: drawn.map((k) => pool[k]) };
  });
}
