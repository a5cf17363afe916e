/** @file The registry of optimizers. */
import * as members from './members.ts';
import type { Optimizer, OptimizerSettings } from './optimizer.ts';

/** All optimizers, by the names that configs use. */
export const optimizers = { ...members } satisfies Record<string, (settings?: OptimizerSettings) => Optimizer>;

export type OptimizerName = keyof typeof optimizers;

/** An optimizer's name with its settings. */
export interface OptimizerOptions extends OptimizerSettings {
  /** `adamw` by default. */
  optimizer?: OptimizerName;
}
