/** @file Opens an optimizer on the host: the generic rule, or a faster dedicated back end. */
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { type OptimizerOptions, optimizers } from '../optimizers/index.ts';
import type { Parameter } from '../step/training-step.ts';
import { AdamWHost } from './adamw-host.ts';
import { type HostOptimizer, RuleHost } from './rule-host.ts';

export type { HostOptimizer } from './rule-host.ts';

export function hostOptimizer(
  parameters: readonly Parameter[],
  { optimizer = 'adamw', ...settings }: OptimizerOptions = {},
  session?: SessionOptions,
): HostOptimizer {
  if (optimizer === 'adamw') return new AdamWHost(parameters, settings);
  return new RuleHost(optimizers[optimizer](settings), parameters, settings, session);
}
