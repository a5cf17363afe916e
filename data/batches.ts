/** @file Batches of texts of like length, so that little of a batch is padding. */
import type { Tokens } from './tokenizer.ts';

/**
 * Groups positions so that a batch's rows times its longest stays within `maxTokens`; longest batches first, so that what
 * does not fit in memory fails at once.
 */
export function lengthBatches(
  lengths: ArrayLike<number>,
  maxTokens: number,
  maxRows = Number.POSITIVE_INFINITY,
): number[][] {
  const order = Array.from(lengths, (_, i) => i).sort((a, b) => lengths[b] - lengths[a] || a - b);
  const batches: number[][] = [];
  let batch: number[] = [];
  for (const i of order) {
    const longest = lengths[batch[0] ?? i];
    if (batch.length && ((batch.length + 1) * longest > maxTokens || batch.length >= maxRows)) {
      batches.push(batch);
      batch = [];
    }
    batch.push(i);
  }
  if (batch.length) batches.push(batch);
  return batches;
}

/** Token ids of several texts as one padded block, row-major int64, as encoders take them. */
export interface PaddedBatch {
  rows: number;
  length: number;
  ids: BigInt64Array;
  mask: BigInt64Array;
  typeIds: BigInt64Array;
}

/** Pads on the right to the longest text. */
export function padBatch(texts: readonly Tokens[], padId: number): PaddedBatch {
  const rows = texts.length;
  const length = texts.reduce((n, t) => Math.max(n, t.ids.length), 1);
  const ids = new BigInt64Array(rows * length).fill(BigInt(padId));
  const mask = new BigInt64Array(rows * length);
  const typeIds = new BigInt64Array(rows * length);
  for (const [r, { ids: own, typeIds: types }] of texts.entries())
    for (let i = 0; i < own.length; i++) {
      ids[r * length + i] = BigInt(own[i]);
      mask[r * length + i] = 1n;
      if (types[i]) typeIds[r * length + i] = BigInt(types[i]);
    }
  return { rows, length, ids, mask, typeIds };
}
