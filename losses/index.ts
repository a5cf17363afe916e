/** @file All losses, by the names that configs use. */
import { bce } from './bce.ts';
import { embeddingMatching } from './embedding-matching.ts';
import { gramMatching } from './gram-matching.ts';
import { inBatchKL } from './in-batch-kl.ts';
import { infoNCE } from './info-nce.ts';
import { kl } from './kl.ts';
import { m3se } from './m3se.ts';
import { marginMSE } from './margin-mse.ts';
import { mse } from './mse.ts';
import { pairMatching } from './pair-matching.ts';
import { rankDistil } from './rank-distil.ts';
import { relativeGeometry } from './relative-geometry.ts';
import { similarityPreserving } from './similarity-preserving.ts';
import { slam } from './slam.ts';

export const losses = {
  bce,
  'embedding-matching': embeddingMatching,
  'gram-matching': gramMatching,
  'in-batch-kl': inBatchKL,
  'info-nce': infoNCE,
  kl,
  m3se,
  'margin-mse': marginMSE,
  mse,
  'pair-matching': pairMatching,
  'rank-distil': rankDistil,
  'relative-geometry': relativeGeometry,
  'similarity-preserving': similarityPreserving,
  slam,
} as const;

export { type ArrayInput, defineLoss, type Evaluation, type Loss, type LossInput, type LossInputs } from './loss.ts';
export { type MatryoshkaOptions, matryoshka } from './matryoshka.ts';
export { type PrefixRelationsOptions, prefixRelations } from './prefix-relations.ts';
export { loadLoss } from './user-loss.ts';
export { type WeightedLoss, weightedSum } from './weighted-sum.ts';
export {
  bce,
  embeddingMatching,
  gramMatching,
  inBatchKL,
  infoNCE,
  kl,
  m3se,
  marginMSE,
  mse,
  pairMatching,
  rankDistil,
  relativeGeometry,
  similarityPreserving,
  slam,
};
