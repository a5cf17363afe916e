/**
 * @file Importance-weighted subset selection: draws by informativeness, with weights that keep the loss an estimate of the
 * pool's.
 */
import { eachList, listOf, type ScoreLists, softmax, topTwo } from '../math/numbers.ts';
import { Random } from '../math/random.ts';
import { defineQuerySelection, type QuerySelection } from './selection.ts';
import { uncertaintyOf } from './uncertainty.ts';

export interface IwesOptions {
  /** Divides the students' scores: 0.05 for cosines, 1 for logits. */
  temperature?: number;
  /**
   * `entropy`: H / log N of the student; `disagreement`: of two students on the entropy term of the first one's best candidate.
   */
  by?: 'entropy' | 'disagreement';
  /** Maximum weight; a cap trades bias for lower variance. */
  cap?: number;
  /** Minimum probability: queries that can never be drawn would bias the estimate. */
  floor?: number;
}

/** |P_f log2 P_f - P_g log2 P_g| of one outcome's probability under two models. */
export function entropyDisagreement(pf: number, pg: number): number {
  const term = (p: number): number => (p > 0 ? p * Math.log2(p) : 0);
  return Math.abs(term(pf) - term(pg));
}

/** Poisson sampling: each position is kept independently with its own probability. */
export function keepEach(probabilities: ArrayLike<number>, random: Random): Int32Array {
  return Int32Array.from({ length: probabilities.length }, (_, i) => i).filter(
    (i) => random.uniform() < probabilities[i],
  );
}

/**
 * Draws queries from the pool in random order and keeps each with probability p, until the budget is filled; the weights are
 * min(1 / p, cap). With a fixed p and no cap, the sum of kept losses / p estimates the sum over all without bias.
 *
 * The disagreement form is our interpretation of the method, not a formula printed in the paper.
 *
 * @source Citovsky et al., ICLR 2023 (arXiv 2301.12052)
 */
export function iwes({ temperature = 1, by = 'entropy', cap = 5, floor = 1e-3 }: IwesOptions = {}): QuerySelection {
  const needs = by === 'entropy' ? (['student'] as const) : (['student', 'second'] as const);
  return defineQuerySelection('iwes', needs, ({ student, second }, pool, budget, seed) => {
    const lists = student as ScoreLists;
    const p = eachList(lists, (scores, i) => {
      const own = softmax(scores, temperature);
      if (by === 'entropy') return uncertaintyOf(own, 'entropy');
      const { first, at } = topTwo(own);
      return at < 0 ? 0 : entropyDisagreement(first, softmax(listOf(second as ScoreLists, i), temperature)[at]);
    }).map((v) => Math.min(1, Math.max(floor, v)));
    const random = Random.of(seed, 'select iwes');
    const chosen: number[] = [];
    let left = random.shuffle(pool);
    while (chosen.length < budget) {
      const kept = new Set(
        keepEach(
          Float64Array.from(left, (i) => p[i]),
          random,
        ),
      );
      for (const k of kept) if (chosen.length < budget) chosen.push(left[k]);
      left = random.shuffle(left.filter((_, k) => !kept.has(k)));
    }
    return {
      indices: Int32Array.from(chosen),
      weights: Float32Array.from(chosen, (i) => Math.min(1 / p[i], cap)),
    };
  });
}
