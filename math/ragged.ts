/** @file Ragged lists: flat arrays with offsets; list i stands at offsets[i] .. offsets[i + 1]. */

/** List i as a view of the flat array. */
export const rowOf = <T>(flat: { subarray(from: number, to: number): T }, offsets: ArrayLike<number>, i: number): T =>
  flat.subarray(offsets[i], offsets[i + 1]);
