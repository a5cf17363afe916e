/** @file Moments of vectors by hand; the dimensions that they use. */
import { expect, test } from 'vitest';
import { effectiveDimensions, momentsOf } from '../../math/moments.ts';
import { Random } from '../../math/random.ts';

test('sums of x and of x x^T', () => {
  const { count, first, second } = momentsOf({ dimensions: 2, data: [1, 2, 3, -1] });
  expect([count, ...first, ...second.data]).toEqual([2, 4, 1, 10, -1, -1, 5]);
});

test('the dimensions that vectors use do not count what all have in common', () => {
  const [n, D] = [2000, 24];
  const random = Random.of(0, 'moments');
  const used = (width: number, common: number) =>
    effectiveDimensions(
      momentsOf({
        dimensions: D,
        data: Float64Array.from({ length: n * D }, (_, at) => (at % D < width ? random.normal() : common)),
      }),
    );
  // A sample has somewhat fewer than the normal distribution: 1 / d + 1 / n in place of 1 / d.
  for (const width of [6, 24])
    for (const common of [0, 5]) expect(used(width, common) * (1 / width + 1 / n)).toBeCloseTo(1, 1);
  expect(effectiveDimensions(momentsOf({ dimensions: 3, data: [1, 1, 1, 1, 1, 1] }))).toBe(1);
});
