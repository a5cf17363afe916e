/** @file Earlier answers: hits and loss by hand, and the promise over many draws. */
import { expect, test } from 'vitest';
import { type Arrival, answerCurve, certifyAnswers, SIMILARITIES } from '../../adaptive/answers.ts';
import { Random } from '../../math/random.ts';

test('hits and loss at a threshold', () => {
  const arrivals = [
    { similarity: Number.POSITIVE_INFINITY, loss: 0 },
    { similarity: 0.97, loss: 0.2 },
    { similarity: 0.9, loss: 0.6 },
    { similarity: Number.NEGATIVE_INFINITY, loss: 0 },
  ];
  const at = (threshold: number) => answerCurve(arrivals).find((p) => p.threshold === threshold);
  expect(at(Number.POSITIVE_INFINITY)).toEqual({
    threshold: Number.POSITIVE_INFINITY,
    hits: 0.25,
    risk: 0,
    lossOfHits: 0,
  });
  expect(at(0.97)).toMatchObject({ hits: 0.5, risk: 0.05 });
  expect(at(0.97)?.lossOfHits).toBeCloseTo(0.1, 12);
  expect(at(0.8)).toMatchObject({ hits: 0.75, risk: 0.2 });
});

/** The less alike, the more is lost. */
function stream(n: number, seed: number): Arrival[] {
  const random = Random.of(seed, 'arrivals');
  return Array.from({ length: n }, () => {
    const similarity = 0.8 + 0.2 * random.uniform();
    return { similarity, loss: random.uniform() < 3 * (1 - similarity) ? random.uniform() : 0 };
  });
}

test('the promise fails in at most delta of draws, and answers are taken', () => {
  const population = answerCurve(stream(20_000, 1));
  let violations = 0;
  for (let d = 0; d < 100; d++) {
    const { threshold, guarantee } = certifyAnswers(stream(400, 100 + d), { alpha: 0.02, delta: 0.1 });
    expect(guarantee.certified).toBe(true);
    violations += Number(population[SIMILARITIES.indexOf(threshold)].risk > 0.02);
  }
  expect(violations / 100).toBeLessThanOrEqual(0.1);
  expect(certifyAnswers(stream(400, 5), { alpha: 0.02, delta: 0.1 }).guarantee.hits).toBeGreaterThan(0.1);
});

test('too few queries: only the same text, and it says how many are needed', () => {
  const { threshold, guarantee } = certifyAnswers(stream(30, 2), { alpha: 0.01, delta: 0.1 });
  expect(threshold).toBe(Number.POSITIVE_INFINITY);
  expect(guarantee).toMatchObject({ certified: false, needed: 238, risk: 0 });
});
