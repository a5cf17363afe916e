/** @file Post-hoc rules: fitted on queries with labels to predict what more of the teacher would bring. */
import { fitLogistic } from '../../math/logistic-regression.ts';
import { type Examples, linearNeed, type Parameters, RIDGE, type Rule, ridge, standardised } from './rule.ts';
import { FEATURES } from './states.ts';

/** Ridge regression of the gain in quality. @source Narasimhan et al., NeurIPS 2022, with nDCG in place of accuracy */
export const diffNdcg: Rule = {
  about: 'ridge regression of the gain in nDCG that scoring the whole list would still bring',
  fit: (examples) => {
    const { mean, deviation, data } = standardised(examples, FEATURES);
    const all = Array.from({ length: FEATURES }, (_, k) => k);
    return [...mean, ...deviation, ...ridge(data, FEATURES, all, examples.gains)];
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
