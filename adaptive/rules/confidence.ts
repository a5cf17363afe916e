/** @file Rules that read the confidence of the ranking that would be served now (Chow's rule, by several measures). */

import type { Rule } from './rule.ts';
import { featureNames } from './states.ts';

const [margin, entropy, gap, teacherMargin, asked] = (
  ['margin', 'entropy', 'gap', 'teacherMargin', 'asked'] as const
).map((name) => featureNames.indexOf(name));

/** Asked already: a query whose scores are clear needs no more. The two kinds of margin are compared by their ranks alone. */
const chow = (about: string, own: (f: Float64Array) => number): Rule => ({
  about,
  fit: () => [],
  need: (f) => (f[asked] > 0 ? 1 / (1 + Math.exp(f[teacherMargin])) : own(f)),
});

export const marginRule = chow('1 - (p(first) - p(second)) of the student', (f) => 1 - f[margin]);
export const entropyRule = chow('entropy of the first ten, over ln 10', (f) => f[entropy] / Math.LN10);
export const gapRule = chow('exp(-20 (first score - tenth))', (f) => Math.exp(-20 * f[gap]));
