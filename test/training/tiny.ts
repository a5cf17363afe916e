/** @file A tiny encoder and batches for the tests of training. */

import { infoNCE } from '../../losses/info-nce.ts';
import { Random } from '../../math/random.ts';
import { bertGraph } from '../../models/bert.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import type { TokenBatch } from '../../training/batches/length-groups.ts';
import type { DualEncoderStepOptions } from '../../training/step/dual-encoder-step.ts';

const tiny = { vocabularySize: 300, hidden: 16, layers: 2, heads: 2, intermediate: 32, maxLength: 24 };

export const tinyStep = (): DualEncoderStepOptions => ({
  encoder: bertGraph(tiny, Random.of(3, 'weights')),
  pooling: 'mean',
  normalize: true,
  losses: [{ loss: infoNCE(), weight: 1 }],
  session: { threads: 1 },
});

/** Texts of uneven length; the last document is the first again. */
export function batchOf(n: number, seed = 0): StepBatch {
  const random = Random.of(seed, 'batch');
  const half = (longest: number): TokenBatch => {
    const b = { rows: n, length: longest, ids: new BigInt64Array(n * longest), mask: new BigInt64Array(n * longest) };
    for (let r = 0; r < n; r++)
      for (let i = 0; i < 2 + random.integer(longest - 1); i++) {
        b.ids[r * longest + i] = BigInt(5 + random.integer(290));
        b.mask[r * longest + i] = 1n;
      }
    return { ...b, typeIds: new BigInt64Array(n * longest) };
  };
  const [queries, documents] = [half(6), half(17)];
  for (const a of [documents.ids, documents.mask]) a.copyWithin((n - 1) * 17, 0, 17);
  const square = (at: (i: number) => number) =>
    ({ dtype: 'float32', dims: [n, n], data: Float32Array.from({ length: n * n }, (_, i) => at(i)) }) as const;
  return {
    queries,
    documents: [documents],
    candidates: { dtype: 'int64', dims: [n, 1], data: BigInt64Array.from({ length: n }, (_, i) => BigInt(i)) },
    arrays: { positives: square((i) => Number(Math.floor(i / n) === i % n)), inBatch: square(() => 1) },
    weights: { dtype: 'float32', dims: [n], data: Float32Array.from({ length: n }, (_, i) => 1 + i / n) },
  };
}
