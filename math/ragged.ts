/** @file Ragged lists: flat arrays with offsets; the elements of list i are offsets[i] .. offsets[i + 1] (exclusive). */

/** List i as a view of the flat array. */
export const rowOf = <T>(flat: { subarray(from: number, to: number): T }, offsets: ArrayLike<number>, i: number): T =>
  flat.subarray(offsets[i], offsets[i + 1]);

/** Number of elements of list i. */
export const lengthOf = (offsets: ArrayLike<number>, i: number): number => offsets[i + 1] - offsets[i];

/** Positions of the elements of list i in the flat array. */
export const positionsOf = (offsets: ArrayLike<number>, i: number): number[] =>
  Array.from({ length: lengthOf(offsets, i) }, (_, k) => offsets[i] + k);

/** [n + 1] offsets of n consecutive lists of these lengths. */
export function offsetsOf(lengths: ArrayLike<number>): Int32Array {
  const offsets = new Int32Array(lengths.length + 1);
  for (let i = 0; i < lengths.length; i++) offsets[i + 1] = offsets[i] + lengths[i];
  return offsets;
}

/** Offsets of the lists of b after those of a, whose flat arrays are joined. */
export function joinedOffsets(a: Int32Array, b: Int32Array): Int32Array {
  const offsets = new Int32Array(a.length + b.length - 1);
  offsets.set(a);
  const end = a[a.length - 1];
  for (let i = 1; i < b.length; i++) offsets[a.length + i - 1] = end + b[i];
  return offsets;
}
