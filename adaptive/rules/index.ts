/** @file The deferral rules by name; adding one is a file and a line here. */
import { entropyRule, gapRule, marginRule } from './confidence.ts';
import { diff01, diffNdcg } from './post-hoc.ts';
import type { Rule } from './rule.ts';
import { diffSelected } from './selected.ts';

export const rules = {
  'diff-01': diff01,
  'diff-ndcg': diffNdcg,
  'diff-selected': diffSelected,
  entropy: entropyRule,
  gap: gapRule,
  margin: marginRule,
} as const satisfies Record<string, Rule>;

export type RuleName = keyof typeof rules;
export type { Parameters, Rule } from './rule.ts';
