/** @file Sparse gradients of tables: rows with the same table index are summed. */
import type { Parameter } from './training-step.ts';

export type Rows = NonNullable<Parameter['rows']>;

export interface SummedRows {
  /** [n, width] sums of the table rows that have a gradient. */
  values: Float32Array;
  /** For each table row, its position in `values`, or -1. */
  slots: Int32Array;
}

/** @param slots is overwritten, so that it can be reused; negative indices count from the table's end */
export function sumRows(
  rows: Rows,
  [count, width]: readonly number[],
  slots: Int32Array = new Int32Array(count),
): SummedRows {
  slots.fill(-1);
  let used = 0;
  const place = (index: bigint): number => (index < 0n ? Number(index) + count : Number(index));
  for (const { indices } of rows)
    for (const index of indices) {
      const row = place(index);
      if (slots[row] < 0) slots[row] = used++;
    }
  const values = new Float32Array(used * width);
  for (const { indices, rows: own } of rows)
    for (let i = 0; i < indices.length; i++) {
      const [from, to] = [i * width, slots[place(indices[i])] * width];
      for (let k = 0; k < width; k++) values[to + k] += own[from + k];
    }
  return { values, slots };
}

/** Appends rows to a parameter's; once they far outnumber the table's rows, they are replaced by their sums. */
export function addRows(p: Parameter, more: Rows): void {
  const rows = [...(p.rows ?? []), ...more];
  p.rows = rows;
  if (rows.reduce((n, r) => n + r.indices.length, 0) <= 2 * p.dims[0]) return;
  const { values, slots } = sumRows(rows, p.dims);
  const indices = new BigInt64Array(values.length / p.dims[1]);
  for (const [row, slot] of slots.entries()) if (slot >= 0) indices[slot] = BigInt(row);
  p.rows = [{ indices, rows: values }];
}
