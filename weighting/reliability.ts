/** @file Weights by the probability that the teacher is right, learned from labelled queries. */

import { fitLogistic, linear } from '../math/logistic-regression.ts';
import { sigmoid } from '../math/numbers.ts';
import { listFeatures } from './features.ts';
import { knownRight } from './weighted-distillation.ts';
import { defineWeighting, labelledRight, type Weighting } from './weighting.ts';

export interface ReliabilityOptions {
  /** Penalty on the regression's coefficients, whose features have variance 1. */
  ridge?: number;
  /** w = P(right)^power: 1 weights by the probability, larger numbers favour confident ones. */
  power?: number;
}

/**
 * w = P(pseudo-label right), by logistic regression on the scores of teacher, second teacher and student (see listFeatures);
 * labelled queries have P = 1; scaled to mean 1.
 *
 * `second` and `student` are used where given. A second teacher of another kind is most informative: BM25 with a dense teacher.
 * Recomputed as the student learns.
 *
 * @example reliability().weigh({ teacher, second: bm25Scores, labelled: { queries, relevant } })
 */
export const reliability = ({ ridge = 3, power = 1 }: ReliabilityOptions = {}): Weighting =>
  defineWeighting('reliability', ['labelled'], (inputs) => {
    const features = listFeatures(inputs);
    const known = Array.from(inputs.labelled?.queries ?? []);
    const { width, data } = features;
    const own = Float64Array.from(known.flatMap((i) => Array.from(data.subarray(i * width, (i + 1) * width))));
    const w = fitLogistic({ width, data: own }, labelledRight(inputs), ridge);
    const right = linear(features, w).map(sigmoid);
    return { weights: knownRight(inputs, right, power), right };
  });
