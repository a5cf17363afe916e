/** @file Groups the texts of a step by length: each text once, with little padding per group. */

import { type BlockSize, deviceLength } from '../../data/batches.ts';
import { roundUp } from '../../math/numbers.ts';

/** A padded batch of token ids, row-major. */
export interface TokenBatch {
  rows: number;
  length: number;
  ids: BigInt64Array;
  mask: BigInt64Array;
  typeIds: BigInt64Array;
}

export interface LengthGroups {
  groups: TokenBatch[];
  /** For each input batch, the positions of its rows among the rows of all groups. */
  places: BigInt64Array[];
}

interface Row {
  batch: TokenBatch;
  row: number;
  /** Tokens up to the last unmasked one. */
  length: number;
}

/**
 * Collects the texts of several batches (equal ones once), sorts them by length and splits them into groups, each padded to its
 * longest text, so that there is little padding and groups have similar sizes.
 *
 * @param groups the exact number of groups, so that one graph serves every step. An empty group has one unused token.
 * @param padId padding token id
 */
export function groupByLength(batches: readonly TokenBatch[], groups: number, padId: number): LengthGroups {
  const { rows, rowOf } = uniqueRows(batches);
  const order = rows.map((_, i) => i).sort((a, b) => rows[a].length - rows[b].length || a - b);
  const bounds = bestBounds(
    order.map((i) => rows[i].length),
    groups,
  );
  const parts = Array.from({ length: groups }, (_, g) => order.slice(bounds[g], bounds[g + 1]));
  return assemble(rows, rowOf, parts, padId);
}

/** Weight of a group's size compared with its padded tokens: enough to split equal texts evenly, too little to pad for it. */
const BALANCE = 0.05;
/** Maximum number of possible group ends: with more texts only every second one counts, and so on. */
const MOST_ENDS = 256;

/**
 * Where to split sorted lengths so that sum(t + BALANCE t^2 / mean t) is least, t a group's rows times its longest.
 * @returns groups + 1 positions from 0 to the end, by dynamic programming over the possible group ends
 */
function bestBounds(lengths: readonly number[], groups: number): number[] {
  const n = lengths.length;
  const stride = Math.ceil(n / MOST_ENDS);
  const ends = Array.from({ length: Math.ceil(n / stride) + 1 }, (_, k) => Math.min(n, k * stride));
  const mean = lengths.reduce((a, b) => a + b, 0) / groups;
  const cost = (from: number, to: number): number => {
    const tokens = from === to ? 0 : (to - from) * lengths[to - 1];
    return tokens + (BALANCE * tokens * tokens) / mean;
  };
  let best = ends.map((end) => cost(0, end));
  const came: Int32Array[] = [];
  for (let g = 1; g < groups; g++) {
    const from = new Int32Array(ends.length);
    best = ends.map((end, e) => {
      let least = Number.POSITIVE_INFINITY;
      for (let k = 0; k <= e; k++) {
        const sum = best[k] + cost(ends[k], end);
        if (sum < least) [least, from[e]] = [sum, k];
      }
      return least;
    });
    came.push(from);
  }
  const bounds = [n];
  for (let g = groups - 1, e = ends.length - 1; g > 0; g--) {
    e = came[g - 1][e];
    bounds.unshift(ends[e]);
  }
  return [0, ...bounds];
}

/** Like groupByLength, with as many groups as needed for at most the given number of texts each. */
export function chunkByLength(batches: readonly TokenBatch[], texts: number, padId: number): LengthGroups {
  const { rows, rowOf } = uniqueRows(batches);
  const order = rows.map((_, i) => i).sort((a, b) => rows[a].length - rows[b].length || a - b);
  const parts = Array.from({ length: Math.ceil(rows.length / texts) }, (_, g) =>
    order.slice(g * texts, (g + 1) * texts),
  );
  return assemble(rows, rowOf, parts, padId);
}

/** The distinct texts, and the index among them of each row of each batch. */
function uniqueRows(batches: readonly TokenBatch[]): { rows: Row[]; rowOf: Int32Array[] } {
  const rows: Row[] = [];
  const seen = new Map<string, number>();
  const rowOf = batches.map((batch) => {
    const of = new Int32Array(batch.rows);
    for (let row = 0; row < batch.rows; row++) {
      const from = row * batch.length;
      let length = batch.length;
      while (length > 1 && !batch.mask[from + length - 1]) length--;
      const part = ({ buffer, byteOffset }: BigInt64Array): string =>
        Buffer.from(buffer, byteOffset + 8 * from, 8 * length).toString('latin1');
      const key = `${part(batch.ids)} ${part(batch.mask)} ${part(batch.typeIds)}`;
      let at = seen.get(key);
      if (at === undefined) {
        at = rows.length;
        seen.set(key, at);
        rows.push({ batch, row, length });
      }
      of[row] = at;
    }
    return of;
  });
  return { rows, rowOf };
}

function assemble(
  rows: readonly Row[],
  rowOf: readonly Int32Array[],
  parts: readonly number[][],
  padId: number,
  fill = (size: BlockSize): BlockSize => size,
): LengthGroups {
  const place = new Int32Array(rows.length);
  let next = 0;
  const groups = parts.map((part): TokenBatch => {
    if (!part.length) {
      next++;
      return {
        rows: 1,
        length: 1,
        ids: BigInt64Array.of(BigInt(padId)),
        mask: BigInt64Array.of(1n),
        typeIds: new BigInt64Array(1),
      };
    }
    const { rows: count, length } = fill({ rows: part.length, length: rows[part[part.length - 1]].length });
    const size = count * length;
    const ids = new BigInt64Array(size).fill(BigInt(padId));
    const [mask, typeIds] = [new BigInt64Array(size), new BigInt64Array(size)];
    for (const [r, i] of part.entries()) {
      const { batch, row, length: own } = rows[i];
      const from = row * batch.length;
      ids.set(batch.ids.subarray(from, from + own), r * length);
      mask.set(batch.mask.subarray(from, from + own), r * length);
      typeIds.set(batch.typeIds.subarray(from, from + own), r * length);
      place[i] = next++;
    }
    // Padding rows have one unused token each.
    for (let r = part.length; r < count; r++, next++) mask[r * length] = 1n;
    return { rows: count, length, ids, mask, typeIds };
  });
  return { groups, places: rowOf.map((of) => BigInt64Array.from(of, (i) => BigInt(place[i]))) };
}

/** Groups have few shapes: a device reuses memory of a known shape, and allocates slowly for a new one. */
const DEVICE_ROWS = 32;

/**
 * Like groupByLength, in groups of equal numbers of texts, with rows and lengths padded to multiples of 32.
 * @param most the model's maximum number of positions
 */
export function groupForDevice(
  batches: readonly TokenBatch[],
  groups: number,
  padId: number,
  most?: number,
): LengthGroups {
  const { rows, rowOf } = uniqueRows(batches);
  const order = rows.map((_, i) => i).sort((a, b) => rows[a].length - rows[b].length || a - b);
  const bound = (g: number): number => Math.round((g * order.length) / groups);
  const parts = Array.from({ length: groups }, (_, g) => order.slice(bound(g), bound(g + 1)));
  const fill = ({ rows: count, length }: BlockSize): BlockSize => ({
    rows: roundUp(count, DEVICE_ROWS),
    length: deviceLength(length, most),
  });
  return assemble(rows, rowOf, parts, padId, fill);
}
