/** @file The registry of losses. */
import * as members from './members.ts';

/** All losses, by the names that configs use. */
export const losses = {
  'activation-l1': members.activationL1,
  bce: members.bce,
  'embedding-matching': members.embeddingMatching,
  flops: members.flops,
  'gram-matching': members.gramMatching,
  'in-batch-kl': members.inBatchKL,
  'info-nce': members.infoNCE,
  kl: members.kl,
  'load-balance': members.loadBalance,
  m3se: members.m3se,
  'margin-mse': members.marginMSE,
  mse: members.mse,
  'pair-matching': members.pairMatching,
  'rank-distil': members.rankDistil,
  'relative-geometry': members.relativeGeometry,
  'similarity-preserving': members.similarityPreserving,
  slam: members.slam,
} as const;

export { type LossDefinition, lossInputs } from './inputs.ts';
export { type ArrayInput, defineLoss, type Evaluation, type Loss, type LossInput, type LossInputs } from './loss.ts';
export { type MatryoshkaOptions, matryoshka } from './matryoshka.ts';
export * from './members.ts';
export type { Option, OptionTable } from './options.ts';
export { type PrefixRelationsOptions, prefixRelations } from './prefix-relations.ts';
export { loadLoss } from './user-loss.ts';
export { type WeightedLoss, weightedSum } from './weighted-sum.ts';
