/** @file Every loss, a line each. */
export { activationL1 } from './activation-l1.ts';
export { bce } from './bce.ts';
export { embeddingMatching } from './embedding-matching.ts';
export { flops } from './flops.ts';
export { gramMatching } from './gram-matching.ts';
export { inBatchKL } from './in-batch-kl.ts';
export { infoNCE } from './info-nce.ts';
export { kl } from './kl.ts';
export { loadBalance } from './load-balance.ts';
export { m3se } from './m3se.ts';
export { marginMSE } from './margin-mse.ts';
export { mse } from './mse.ts';
export { pairMatching } from './pair-matching.ts';
export { rankDistil } from './rank-distil.ts';
export { relativeGeometry } from './relative-geometry.ts';
export { similarityPreserving } from './similarity-preserving.ts';
export { slam } from './slam.ts';
