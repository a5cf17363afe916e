/** @file Products of rows, next to those of one after another. */
import { expect, test } from 'vitest';
import { rowProducts } from '../../math/linear-algebra.ts';
import { Random } from '../../math/random.ts';

test.each([
  [8, 5],
  [7, 3],
  [3, 1],
])('%i rows of %i numbers', (n, width) => {
  const random = Random.of(0, 'rows');
  const data = Float64Array.from({ length: n * width }, () => random.normal());
  const x = Float64Array.from({ length: width + 2 }, () => random.normal());
  const out = new Float64Array(n + 2).fill(9);
  rowProducts({ data, dimensions: width }, { x, from: 2 }, { out, at: 1 });
  const dot = (i: number) => x.subarray(2).reduce((s, v, k) => s + v * data[i * width + k], 0);
  expect([out[0], out[n + 1]]).toEqual([9, 9]);
  for (let i = 0; i < n; i++) expect(out[i + 1]).toBeCloseTo(dot(i), 12);
});
