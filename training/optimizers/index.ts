/** @file All optimizers, by the names that configs use. */
import { adamW } from './adamw.ts';
import { lion } from './lion.ts';
import { muon } from './muon.ts';
import type { Optimizer, OptimizerSettings } from './optimizer.ts';
import { scheduleFree } from './schedule-free.ts';
import { sgd } from './sgd.ts';

export const optimizers = {
  adamw: adamW,
  lion,
  muon,
  'schedule-free': scheduleFree,
  sgd,
} satisfies Record<string, (settings?: OptimizerSettings) => Optimizer>;

export type OptimizerName = keyof typeof optimizers;

/** An optimizer's name with its settings. */
export interface OptimizerOptions extends OptimizerSettings {
  /** `adamw` by default. */
  optimizer?: OptimizerName;
}
