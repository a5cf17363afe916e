/** @file P-values by hand, and the promise of Learn-then-Test over many draws. */
import { describe, expect, test } from 'vitest';
import { learnThenTest } from '../../adaptive/calibration/learn-then-test.ts';
import { betting, binomial, hoeffding, hoeffdingBentkus, queriesNeeded } from '../../adaptive/calibration/p-values.ts';
import { Random } from '../../math/random.ts';

/** n losses of 0 and 1 with the mean given. */
const bits = (n: number, mean: number): Float64Array =>
  Float64Array.from({ length: n }, (_, i) => Number(i < Math.round(n * mean)));

describe('p-values', () => {
  test.each([
    [200, 0.05, 0.1, 0.02194],
    [100, 0, 0.05, 0.005921],
    [59, 0, 0.05, 0.048495],
    [500, 0.02, 0.05, 0.00125],
    [200, 0.03, 0.05, 0.336],
    [300, 0.03, 0.05, 0.177],
    [400, 0.03, 0.05, 0.0965],
    [600, 0.03, 0.05, 0.0307],
    [100, 0.05, 0.05, 1],
  ])('Hoeffding-Bentkus of %i losses with mean %d against %d', (n, mean, alpha, p) => {
    const digits = p > 0.03 ? 3 : 5;
    expect(hoeffdingBentkus(bits(n, mean), alpha, 0.1)).toBeCloseTo(p, digits);
  });
  test('the exact binomial and the simple Hoeffding', () => {
    expect(binomial(bits(200, 0.05), 0.1, 0.1)).toBeCloseTo(0.008071, 6);
    expect(hoeffding(bits(200, 0.05), 0.1, 0.1)).toBeCloseTo(Math.exp(-1), 6);
  });
  test('a loss that is 15 of 100 counts as 15', () => {
    const fifteen = Float64Array.from({ length: 100 }, () => 0.15);
    expect(hoeffdingBentkus(fifteen, 0.3, 0.1)).toBeLessThanOrEqual(hoeffdingBentkus(bits(100, 0.15), 0.3, 0.1));
  });
  test('queries that certify without any loss', () => {
    expect([0.05, 0.02, 0.01].map((alpha) => queriesNeeded(alpha, 0.1))).toEqual([45, 114, 230]);
    expect([0.05, 0.02, 0.01].map((alpha) => queriesNeeded(alpha, 0.1, 'hoeffding-bentkus'))).toEqual([45, 114, 230]);
    // The betting bound begins with small bets: without any loss it takes a few more.
    for (const alpha of [0.05, 0.01]) {
      const n = queriesNeeded(alpha, 0.1, 'betting');
      expect(betting(new Float64Array(n), alpha, 0.1)).toBeLessThanOrEqual(0.1);
      expect(betting(new Float64Array(n - 1), alpha, 0.1)).toBeGreaterThan(0.1);
    }
  });
  test('the betting bound needs fewer queries than Hoeffding-Bentkus where losses vary little', () => {
    const random = Random.of(0, 'losses');
    const losses = Float64Array.from({ length: 300 }, () => 0.06 * random.uniform());
    expect(betting(losses, 0.05, 0.1)).toBeLessThan(0.1);
    expect(betting(losses, 0.05, 0.1)).toBeLessThan(hoeffdingBentkus(losses, 0.05, 0.1));
    expect(
      betting(
        Float64Array.from({ length: 300 }, () => 0.05),
        0.05,
        0.1,
      ),
    ).toBe(1);
  });
});

describe('Learn-then-Test', () => {
  test('stops at the first failure, though a later setting would pass', () => {
    const { at, pValues } = learnThenTest([bits(300, 0), bits(300, 0.5), bits(300, 0)], { alpha: 0.05, delta: 0.1 });
    expect(at).toBe(0);
    expect(pValues).toHaveLength(2);
  });
  test('too few queries certify nothing, and it says how many are needed', () => {
    expect(learnThenTest([bits(20, 0)], { alpha: 0.01, delta: 0.1 })).toMatchObject({ at: -1, needed: 238 });
  });
  test.each(['betting', 'hoeffding-bentkus'] as const)('%s: the promise fails in at most delta of draws', (bound) => {
    // Bernoulli losses with risk 0.3 (1 - lambda), from the safest lambda on.
    const grid = Array.from({ length: 21 }, (_, i) => 0.3 * (i / 20));
    const random = Random.of(7, 'draws');
    let violations = 0;
    const draws = 400;
    for (let d = 0; d < draws; d++) {
      const uniform = Float64Array.from({ length: 300 }, () => random.uniform());
      const losses = grid.map((risk) => uniform.map((u) => Number(u < risk)));
      const { at } = learnThenTest(losses, { alpha: 0.1, delta: 0.1, bound });
      expect(at).toBeGreaterThan(0);
      if (grid[at] > 0.1 + 1e-12) violations++;
    }
    expect(violations / draws).toBeLessThanOrEqual(0.1);
  });
  test('refuses values that are not losses or risks', () => {
    expect(() => learnThenTest([Float64Array.of(1.5)], { alpha: 0.1, delta: 0.1 })).toThrow('a loss is 1.5');
    expect(() => learnThenTest([Float64Array.of(Number.NaN)], { alpha: 0.1, delta: 0.1 })).toThrow('a loss is NaN');
    expect(() => learnThenTest([], { alpha: 0, delta: 0.1 })).toThrow('alpha is 0');
  });
});
