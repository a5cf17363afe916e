/** @file Rank correlations of lists with ties and with NaN. */
import { expect, test } from 'vitest';
import { kendallTauB, ranks, spearman } from '../../math/rank-correlation.ts';

test('ties have their mean rank, and a list with NaN ends with NaN', () => {
  expect([...ranks([3, 1, 3, 2])]).toEqual([2.5, 0, 2.5, 1]);
  expect(ranks([Number.NaN, 1, Number.NaN])).toHaveLength(3);
  expect(spearman([1, 2, 3, 4], [1, 4, 9, 16])).toBeCloseTo(1, 12);
  expect(spearman([1, 2, 3], [3, 2, 1])).toBeCloseTo(-1, 12);
  expect(spearman([1, Number.NaN, 3], [1, 2, 3])).toBeNaN();
  expect(spearman([1, 2, 3], Float32Array.of(1, 2, Number.NaN))).toBeNaN();
  expect(spearman([1, 1, 1], [1, 2, 3])).toBeNaN();
  expect(kendallTauB([1, 2, 3], [1, 3, 2])).toBeCloseTo(1 / 3, 12);
});
