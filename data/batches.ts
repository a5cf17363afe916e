/** @file Batches of texts of similar length, to limit padding. */
import { roundUp } from '../math/numbers.ts';
import type { Tokens } from './tokenizer.ts';

/**
 * Groups positions so that a batch's rows times its longest text stays within `maxTokens`; longest batches first, so that a lack
 * of memory shows at once.
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

/** The size of a padded block of token ids. */
export interface BlockSize {
  rows: number;
  length: number;
}

/** Texts of a batch by position, and the block that they are padded to. */
export interface BatchShape extends BlockSize {
  at: number[];
}

/** On a device lengths are padded to a multiple of this. */
const DEVICE_LENGTHS = 32;

/**
 * The padded length of a text on a device.
 * @param most the model's maximum number of positions
 */
export const deviceLength = (length: number, most = Number.POSITIVE_INFINITY): number =>
  Math.max(length, Math.min(roundUp(length, DEVICE_LENGTHS), most));

/**
 * Like lengthBatches, with the block of each. On a device rows and lengths are padded to few shapes: a device caches memory for
 * every shape, and texts of 190 lengths filled the 80 GB of an H100.
 * @param most the model's maximum number of positions
 */
export function shapedBatches(
  lengths: readonly number[],
  maxTokens: number,
  onDevice: boolean,
  most?: number,
): BatchShape[] {
  const padded = onDevice ? lengths.map((n) => deviceLength(n, most)) : lengths;
  return lengthBatches(padded, maxTokens).map((at) => {
    const length = padded[at[0]];
    return { at, rows: onDevice ? Math.max(at.length, Math.floor(maxTokens / length)) : at.length, length };
  });
}

/** Token ids of several texts as one padded block, row-major int64, as encoders take them. */
export interface PaddedBatch extends BlockSize {
  ids: BigInt64Array;
  mask: BigInt64Array;
  typeIds: BigInt64Array;
}

/**
 * Pads on the right by default, where positions are the same as without padding.
 * @param shape the block's, by default as many rows as texts and as long as the longest; rows that fill up are one token each
 * @param side padding side of a block of fixed length, as the tokenizer gives it
 */
export function padBatch(
  texts: readonly Tokens[],
  padId: number,
  { rows, length }: BlockSize = {
    rows: texts.length,
    length: texts.reduce((n, t) => Math.max(n, t.ids.length), 1),
  },
  side: 'left' | 'right' = 'right',
): PaddedBatch {
  const ids = new BigInt64Array(rows * length).fill(BigInt(padId));
  const mask = new BigInt64Array(rows * length);
  const typeIds = new BigInt64Array(rows * length);
  for (const [r, { ids: own, typeIds: types }] of texts.entries()) {
    const start = r * length + (side === 'left' ? length - own.length : 0);
    for (let i = 0; i < own.length; i++) {
      ids[start + i] = BigInt(own[i]);
      mask[start + i] = 1n;
      if (types[i]) typeIds[start + i] = BigInt(types[i]);
    }
  }
  for (let r = texts.length; r < rows; r++) mask[r * length] = 1n;
  return { rows, length, ids, mask, typeIds };
}
