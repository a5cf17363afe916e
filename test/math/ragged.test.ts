import { expect, test } from 'vitest';
import { joinedOffsets, lengthOf, offsetsOf, positionsOf, rowOf } from '../../math/ragged.ts';

const lists = [[3, 1], [], [4, 1, 5]];
const offsets = offsetsOf(lists.map((l) => l.length));
const flat = Float32Array.from(lists.flat());

test('offsets of lengths: one more than there are lists, empty lists included', () => {
  expect(Array.from(offsets)).toEqual([0, 2, 2, 5]);
  expect(Array.from(offsetsOf([]))).toEqual([0]);
});

test('a row is a view of the flat array', () => {
  expect(lists.map((_, i) => Array.from(rowOf(flat, offsets, i)))).toEqual(lists);
  const own = flat.slice();
  rowOf(own, offsets, 2)[1] = 9;
  expect(Array.from(own)).toEqual([3, 1, 4, 9, 5]);
});

test('lengths and positions', () => {
  expect(lists.map((_, i) => lengthOf(offsets, i))).toEqual([2, 0, 3]);
  expect(lists.map((_, i) => positionsOf(offsets, i))).toEqual([[0, 1], [], [2, 3, 4]]);
  expect(positionsOf([7, 9], 0)).toEqual([7, 8]);
});

test('joined offsets address the joined flat arrays', () => {
  const more = [[], [2, 6]];
  const joined = joinedOffsets(offsets, offsetsOf(more.map((l) => l.length)));
  const all = Float32Array.from([...lists, ...more].flat());
  expect(Array.from(joined)).toEqual([0, 2, 2, 5, 5, 7]);
  expect([...lists, ...more].map((_, i) => Array.from(rowOf(all, joined, i)))).toEqual([...lists, ...more]);
  expect(Array.from(joinedOffsets(offsetsOf([]), offsets))).toEqual(Array.from(offsets));
  expect(Array.from(joinedOffsets(offsets, offsetsOf([])))).toEqual(Array.from(offsets));
});
