/** @file A post-hoc rule of few features, which Sequential Attention chooses. */
import { cholesky, solve } from '../../math/linear-algebra.ts';
import { Random } from '../../math/random.ts';
import { SequentialAttention } from '../../math/sequential-attention.ts';
import { type Examples, linearNeed, RIDGE, type Rule, ridge, standardised } from './rule.ts';
import { FEATURES } from './states.ts';

const KEPT = 4;

/**
 * The features that explain the gains best, most important first: ridge regression under the mask, whose weights are solved for at every
 * gradient, as training in the limit would have them.
 */
export function selectFeatures(examples: Examples, keep: number): number[] {
  const { data } = standardised(examples, FEATURES);
  const n = examples.gains.length;
  const average = examples.gains.reduce((s, g) => s + g, 0) / n;
  const gram = new Float64Array(FEATURES * FEATURES);
  const moments = new Float64Array(FEATURES);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < FEATURES; k++) {
      moments[k] += data[i * FEATURES + k] * (examples.gains[i] - average);
      for (let l = 0; l < FEATURES; l++) gram[k * FEATURES + l] += data[i * FEATURES + k] * data[i * FEATURES + l];
    }
  const choice = new SequentialAttention({ features: FEATURES, keep, warmup: 1, random: Random.of(0, 'deferral') });
  while (!choice.finished) {
    const mask = choice.mask();
    const A = gram.map((v, at) => mask[Math.floor(at / FEATURES)] * v * mask[at % FEATURES]);
    for (let k = 0; k < FEATURES; k++) A[k * FEATURES + k] += RIDGE;
    const weights = solve(
      cholesky({ n: FEATURES, data: A }),
      moments.map((m, k) => m * mask[k]),
    );
    // d loss / d mask_k of |y - X diag(mask) w|^2 / 2: -w_k x_k (y - X diag(mask) w).
    choice.update(
      weights.map((w, k) => {
        let fitted = 0;
        for (let l = 0; l < FEATURES; l++) fitted += gram[k * FEATURES + l] * mask[l] * weights[l];
        return -w * (moments[k] - fitted);
      }),
    );
  }
  return choice.chosen;
}

/** Ridge regression of the gain in nDCG on four features. @source Yasuda et al., ICLR 2023 (arXiv 2209.14881) for their choice */
export const diffSelected: Rule = {
  // A choice costs some eighty small regressions, and `auto` fits each of its rules many times.
  byName: true,
  about: `ridge regression of the gain in nDCG on the ${KEPT} features that Sequential Attention chooses`,
  fit: (examples) => {
    const { mean, deviation, data } = standardised(examples, FEATURES);
    const kept = selectFeatures(examples, KEPT);
    const found = ridge(data, FEATURES, kept, examples.gains);
    const weights = new Float64Array(FEATURES + 1);
    kept.forEach((k, i) => {
      weights[k] = found[i];
    });
    weights[FEATURES] = found[kept.length];
    return [...mean, ...deviation, ...weights];
  },
  need: linearNeed,
};
