/** @file Sums gradients of equal tokens before they are added to a table: a device serializes additions to the same row. */

import { roundUp } from '../../math/numbers.ts';

/** Occurrences of a token that are summed together. */
export const CHUNK = 16;

export interface RowChunks {
  /** Number of chunks, one of a few values: the last chunks may be empty. */
  chunks: number;
  /** [chunks, CHUNK] positions of one token's occurrences; where there are fewer, the position after the last. */
  places: BigInt64Array;
  /** [chunks] the token of each. A token that occurs often has several chunks. */
  tokens: BigInt64Array;
}

/** @param ids token ids of a group of texts, padding included */
export function rowChunks(ids: BigInt64Array): RowChunks {
  // Low words: token ids are below 2^31, and a number made of a bigint costs more than all the rest.
  const low = lowWords(ids);
  let most = 0;
  for (let i = 0; i < ids.length; i++) if (low[2 * i] > most) most = low[2 * i];
  const count = new Int32Array(most + 1);
  const order: number[] = [];
  for (let i = 0; i < ids.length; i++) if (count[low[2 * i]]++ === 0) order.push(low[2 * i]);
  const first = new Int32Array(most + 1);
  let used = 0;
  for (const token of order) {
    first[token] = used * CHUNK;
    used += Math.ceil(count[token] / CHUNK);
  }
  const chunks = roundedUp(used);
  const places = new BigInt64Array(chunks * CHUNK).fill(BigInt(ids.length));
  const tokens = new BigInt64Array(chunks);
  const [placed, named] = [lowWords(places), lowWords(tokens)];
  let chunk = 0;
  for (const token of order) for (let from = 0; from < count[token]; from += CHUNK) named[2 * chunk++] = token;
  for (let i = 0; i < ids.length; i++) placed[2 * first[low[2 * i]]++] = i;
  return { chunks, places, tokens };
}

/**
 * Rounds up to one of eight values per octave. A device caches buffers of every size: with an arbitrary count in each step, 500
 * steps of 64 queries and 512 documents filled the 80 GB of an H100.
 */
function roundedUp(n: number): number {
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(n)) - 3);
  return roundUp(n, step);
}

/** The numbers of an array of bigints below 2^31, at even positions: every machine that Node runs on has the low word first. */
const lowWords = (array: BigInt64Array): Int32Array => new Int32Array(array.buffer, array.byteOffset, 2 * array.length);
