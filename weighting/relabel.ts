/** @file New soft labels in place of weights: the posterior of the right candidate given all sources. */

import { fitConditionalLogit, linear } from '../math/logistic-regression.ts';
import { listOf, logSumExp } from '../math/numbers.ts';
import { positionsOf } from '../math/ragged.ts';
import { candidateFeatures } from './features.ts';
import { defineWeighting, labelledLists, pseudoLabels, type Weighting } from './weighting.ts';

export interface CalibratedPosteriorOptions {
  /** Penalty on the coefficients. */
  ridge?: number;
  /** Labelled queries: `relevant` gives the known candidate almost all of the probability, `posterior` keeps the estimate. */
  labelled?: 'relevant' | 'posterior';
  /** Sources used in addition to the teacher, as far as given. */
  use?: readonly ('second' | 'student')[];
}

/** Probability left to the other candidates where the right one is known. */
const DOUBT = 1e-3;

/**
 * log P(candidate n is the right one | scores by teacher, second teacher, student), by a conditional logit fitted on the
 * labelled queries:
 *
 *     target_n = x_n w - log sum_m exp(x_m w)
 *
 * `targets` take the place of the teacher's scores in `kl` (temperature 1, all candidates of the list); weights are all 1.
 * `right` is the posterior of the teacher's own best candidate. The estimate does not account for lists without a relevant
 * document.
 *
 * @example
 * const { targets } = calibratedPosterior().weigh({ teacher, second: bm25Scores, labelled: { queries, relevant } })
 */
export const calibratedPosterior = ({
  ridge = 1,
  labelled: known = 'relevant',
  use = ['second', 'student'],
}: CalibratedPosteriorOptions = {}): Weighting =>
  defineWeighting('calibrated-posterior', ['labelled'], (inputs) => {
    const given = {
      ...inputs,
      second: use.includes('second') ? inputs.second : undefined,
      student: use.includes('student') ? inputs.student : undefined,
    };
    const features = candidateFeatures(given);
    const w = fitConditionalLogit(features, labelledLists(inputs), ridge);
    const z = linear(features, w);
    const { offsets } = inputs.teacher;
    const targets = new Float32Array(z.length);
    for (let i = 0; i + 1 < offsets.length; i++) {
      const total = logSumExp(listOf({ offsets, scores: z }, i));
      for (const c of positionsOf(offsets, i)) targets[c] = z[c] - total;
    }
    const right = Float64Array.from(pseudoLabels(inputs.teacher), (c) => (c < 0 ? 0 : Math.exp(targets[c])));
    if (known === 'relevant')
      for (const { from, to, right: truth } of labelledLists(inputs))
        for (let c = from; c < to && to - from > 1; c++)
          targets[c] = Math.log(c === truth ? 1 - DOUBT : DOUBT / (to - from - 1));
    return { weights: new Float32Array(offsets.length - 1).fill(1), right, targets };
  });
