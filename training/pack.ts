/** @file From the padded batches of a step to groups of texts of like length: each text once, little of a group padding. */

/** A padded batch of token ids, row-major. */
export interface TokenBatch {
  rows: number;
  length: number;
  ids: BigInt64Array;
  mask: BigInt64Array;
  typeIds: BigInt64Array;
}

export interface Packed {
  groups: TokenBatch[];
  /** For each batch that came, where its rows are among the rows of all groups. */
  places: BigInt64Array[];
}

interface Row {
  batch: TokenBatch;
  row: number;
  /** Tokens up to the last that is not masked. */
  length: number;
}

/**
 * Gathers the texts of several batches, equal ones once, sorts them by length and parts them into groups of about as many
 * tokens, each padded to its own longest.
 *
 * @param groups how many groups come out: no more and no fewer, so that one graph serves every step. A group without a
 *   text is one token that nobody reads.
 * @param padId fills up shorter texts
 */
export function packGroups(batches: readonly TokenBatch[], groups: number, padId: number): Packed {
  const { rows, rowOf } = uniqueRows(batches);
  const order = rows.map((_, i) => i).sort((a, b) => rows[a].length - rows[b].length || a - b);
  const total = rows.reduce((n, r) => n + r.length, 0);
  const parts: number[][] = Array.from({ length: groups }, () => []);
  let tokens = 0;
  for (const i of order) {
    // A text belongs to the group in which its middle token falls.
    const middle = tokens + rows[i].length / 2;
    parts[Math.min(groups - 1, Math.floor((groups * middle) / total))].push(i);
    tokens += rows[i].length;
  }
  return assemble(rows, rowOf, parts, padId);
}

/** As packGroups, in as many groups as it takes for each to hold at most so many texts. */
export function packChunks(batches: readonly TokenBatch[], texts: number, padId: number): Packed {
  const { rows, rowOf } = uniqueRows(batches);
  const order = rows.map((_, i) => i).sort((a, b) => rows[a].length - rows[b].length || a - b);
  const parts = Array.from({ length: Math.ceil(rows.length / texts) }, (_, g) =>
    order.slice(g * texts, (g + 1) * texts),
  );
  return assemble(rows, rowOf, parts, padId);
}

/** Each different text once, and which of them each row of each batch is. */
function uniqueRows(batches: readonly TokenBatch[]): { rows: Row[]; rowOf: Int32Array[] } {
  const rows: Row[] = [];
  const seen = new Map<string, number>();
  const rowOf = batches.map((batch) => {
    const of = new Int32Array(batch.rows);
    for (let row = 0; row < batch.rows; row++) {
      const from = row * batch.length;
      let length = batch.length;
      while (length > 1 && !batch.mask[from + length - 1]) length--;
      const part = (a: BigInt64Array): string => a.subarray(from, from + length).join();
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
): Packed {
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
    const length = rows[part[part.length - 1]].length;
    const size = part.length * length;
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
    return { rows: part.length, length, ids, mask, typeIds };
  });
  return { groups, places: rowOf.map((of) => BigInt64Array.from(of, (i) => BigInt(place[i]))) };
}
