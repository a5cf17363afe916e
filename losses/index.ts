/** @file All losses, by the names that configs use. */
import { embeddingMatching } from './embedding-matching.ts';
import { infoNCE } from './info-nce.ts';
import { kl } from './kl.ts';
import { marginMSE } from './margin-mse.ts';

export const losses = {
  'embedding-matching': embeddingMatching,
  'info-nce': infoNCE,
  kl,
  'margin-mse': marginMSE,
} as const;

export { type ArrayInput, defineLoss, type Evaluation, type Loss, type LossInput, type LossInputs } from './loss.ts';
export { embeddingMatching, infoNCE, kl, marginMSE };
