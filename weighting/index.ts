/** @file All weightings, by the names that configs use. */
import { calibratedPosterior } from './relabel.ts';
import { reliability } from './reliability.ts';
import { agreement, confidence, ensemble, entropyWeights, uniform } from './simple.ts';
import { coTeaching, smallLoss } from './trimming.ts';
import { errorProbability, weightedDistillation } from './weighted-distillation.ts';

/** Weightings by name. */
export const weightings = {
  agreement,
  'calibrated-posterior': calibratedPosterior,
  'co-teaching': coTeaching,
  confidence,
  ensemble,
  entropy: entropyWeights,
  'error-probability': errorProbability,
  reliability,
  'small-loss': smallLoss,
  uniform,
  'weighted-distillation': weightedDistillation,
} as const;

export { coTeach, keepShare, smallestLosses } from './trimming.ts';
export { distillationWeight } from './weighted-distillation.ts';
export type { Weighted, Weighting, WeightingInputs } from './weighting.ts';
