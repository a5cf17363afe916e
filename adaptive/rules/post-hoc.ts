/** @file Post-hoc rules: fitted on queries with labels to predict what more of the teacher would bring. */
import { cholesky, solve } from '../../math/linear-algebra.ts';
import { fitLogistic } from '../../math/logistic-regression.ts';
import { type Examples, linearNeed, type Parameters, type Rule, standardised } from './rule.ts';
import { FEATURES } from './states.ts';

const RIDGE = 1;

/** Ridge regression of the gain in quality. @source Narasimhan et al., NeurIPS 2022, with nDCG in place of accuracy */
export const diffNdcg: Rule = {
  about: 'ridge regression of the gain in nDCG that scoring the whole list would still bring',
  fit: (examples) => {
    const { mean, deviation, data } = standardised(examples, FEATURES);
    const n = examples.gains.length;
    const size = FEATURES + 1;
    const x = (i: number, k: number): number => (k < FEATURES ? data[i * FEATURES + k] : 1);
    const A = new Float64Array(size * size);
    const b = new Float64Array(size);
    for (let i = 0; i < n; i++)
      for (let k = 0; k < size; k++) {
        b[k] += x(i, k) * examples.gains[i];
        for (let l = 0; l < size; l++) A[k * size + l] += x(i, k) * x(i, l);
      }
    for (let k = 0; k < size; k++) A[k * size + k] += k < FEATURES ? RIDGE : 1e-9;
    return [...mean, ...deviation, ...solve(cholesky({ n: size, data: A }), b)];
  },
  need: linearNeed,
};

/** Logistic regression of "the first document served is not the best". @source Narasimhan et al., NeurIPS 2022 (Diff-01) */
export const diff01: Rule = {
  about: 'logistic regression of whether the first document served is not the best that the whole list would give',
  fit: (examples: Examples): Parameters => {
    const { mean, deviation, data } = standardised(examples, FEATURES);
    return [...mean, ...deviation, ...fitLogistic({ width: FEATURES, data }, examples.wrong, RIDGE)];
  },
  need: linearNeed,
};
