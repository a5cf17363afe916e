import { expect, test } from 'vitest';
import { Random } from '../../math/random.ts';

test('a stream is named by seed and component and goes on from its state', () => {
  const a = Random.of(1, 'batches');
  const b = Random.of(1, 'batches');
  expect([a.uniform(), a.integer(10)]).toEqual([b.uniform(), b.integer(10)]);
  expect(Random.of(1, 'dropout').uniform()).not.toBe(Random.of(1, 'batches').uniform());
  const resumed = Random.fromState(a.state);
  expect([resumed.uniform(), resumed.normal()]).toEqual([a.uniform(), a.normal()]);
});

test('uniform is in [0, 1) with the mean and variance of a uniform', () => {
  const r = Random.of(3);
  const n = 20_000;
  const draws = Array.from({ length: n }, () => r.uniform());
  expect(Math.min(...draws)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...draws)).toBeLessThan(1);
  expect(draws.reduce((s, x) => s + x, 0) / n).toBeCloseTo(0.5, 1);
});
