/** @file Every scorer of late interaction, a line each, by the name that configs use. */
import { crossAttention } from './cross-attention.ts';
import { kernelPooling } from './kernel-pooling.ts';
import { lite } from './lite.ts';
import { maxSim } from './max-sim.ts';
import type { LateScorer } from './scorer.ts';

/** The registry. */
export const lateScorers = {
  'max-sim': maxSim,
  'kernel-pooling': kernelPooling,
  'cross-attention': crossAttention,
  lite,
} satisfies Record<string, LateScorer>;
/** The name of a scorer. */
export type LateScorerName = keyof typeof lateScorers;
