/** @file Comparison of two systems: values from the literature's formulas, seeds, coverage of intervals, fidelity. */
import { expect, test } from 'vitest';
import { compareEvaluations, largestDifferences, retentionSentence } from '../../evaluation/metrics/compare.ts';
import type { RunEvaluation } from '../../evaluation/metrics/evaluate.ts';
import { affineKl, fidelity, overlapAt, pairAgreement, rbo } from '../../evaluation/metrics/fidelity.ts';
import { Random } from '../../math/random.ts';
import { kendallTauB, spearman } from '../../math/rank-correlation.ts';
import {
  bootstrap,
  bootstrapMean,
  holm,
  MANY_QUERIES,
  mean,
  quantile,
  retention,
  retentions,
  signFlip,
} from '../../math/resampling.ts';

test('the sign-flip test is exact on few queries', () => {
  expect(signFlip([0.1, 0.2, -0.05, 0.15, 0])).toEqual({ p: 0.25, exact: true });
  expect(signFlip([0, 0, 0])).toEqual({ p: 1, exact: true });
});

test('on many queries it agrees with the exact value and depends on its seed alone', () => {
  const random = Random.of(1, 'test');
  const d = Float64Array.from({ length: 60 }, () => 0.2 + random.normal());
  const { p, exact } = signFlip(d, { seed: 3 });
  expect(exact).toBe(false);
  expect(signFlip(d, { seed: 3 }).p).toBe(p);
  // The normal approximation of the same test.
  const z = Math.abs(d.reduce((a, b) => a + b, 0)) / Math.sqrt(d.reduce((a, b) => a + b * b, 0));
  const normal = 2 * (1 - cdf(z));
  expect(Math.abs(p - normal)).toBeLessThan(0.015);
});

/** Of the standard normal distribution, by Simpson's rule. */
function cdf(z: number): number {
  const n = 2000;
  let s = 0;
  for (let i = 0; i <= n; i++) s += (i === 0 || i === n ? 1 : i % 2 ? 4 : 2) * Math.exp(-(((i / n) * z) ** 2) / 2);
  return 0.5 + (s * z) / n / 3 / Math.sqrt(2 * Math.PI);
}

test("Holm's correction", () => {
  const adjusted = holm([0.01, 0.04, 0.03]);
  for (const [i, p] of [0.03, 0.06, 0.06].entries()) expect(adjusted[i]).toBeCloseTo(p, 12);
  expect(holm([0.9, 0.8])).toEqual([1, 1]);
});

test('quantiles interpolate as NumPy does', () => {
  expect(quantile([3, 1, 2, 4], 0.25)).toBe(1.75);
  expect(quantile([5], 0.9)).toBe(5);
});

test('a bootstrap interval of the mean is as wide as theory says', () => {
  const random = Random.of(2, 'test');
  const x = Float64Array.from({ length: 400 }, () => random.normal());
  const { value, low, high } = bootstrapMean(x, { samples: 4000 });
  expect(value).toBeCloseTo(mean(x), 12);
  expect((high - low) / 2).toBeCloseTo((1.96 * Math.sqrt(mean(x.map((v) => (v - value) ** 2)))) / 20, 2);
});

test('retention is a ratio over paired queries: of itself it is 1 without width', () => {
  const x = Float64Array.from({ length: 50 }, (_, i) => (i % 5) / 4);
  expect(retention(x, x)).toEqual({ value: 1, low: 1, high: 1 });
  expect(
    retention(
      x.map((v) => v / 2),
      x,
    ),
  ).toEqual({ value: 0.5, low: 0.5, high: 0.5 });
  const shuffled = Random.of(5, 'test').shuffle(x.slice());
  const { low, high } = retention(shuffled, x, { samples: 2000 });
  expect(low).toBeLessThan(0.95);
  expect(high).toBeGreaterThan(1.05);
});

const evaluation = (values: number[]): RunEvaluation => ({
  queryIds: values.map((_, i) => `q${i}`),
  perQuery: { 'ndcg@10': Float64Array.from(values) },
  means: { 'ndcg@10': mean(values) },
});

test('a comparison counts wins, ties and losses and lists the largest differences', () => {
  const [a, b] = [evaluation([1, 0.5, 0, 0.2]), evaluation([0.5, 0.5, 0.5, 0.1])];
  const [row] = compareEvaluations(a, b);
  expect(row).toMatchObject({ metric: 'ndcg@10', wins: 2, ties: 1, losses: 1 });
  expect(row.difference).toBeCloseTo(0.025, 12);
  expect(retentionSentence(row, "the teacher's")).toMatch(
    /^keeps 106\.3 % \[[\d.]+, [\d.]+\] of the teacher's ndcg@10$/,
  );
  const { best, worst } = largestDifferences(a, b, 'ndcg@10', 5);
  expect(best.map((q) => q.queryId)).toEqual(['q0', 'q3']);
  expect(worst.map((q) => q.queryId)).toEqual(['q2']);
  expect(() => compareEvaluations(a, evaluation([1]))).toThrow(RangeError);
});

test('rank correlations, with ties and without', () => {
  const [t, s] = [
    [4, 2, 1, 0],
    [3, 3.5, 1, 0],
  ];
  expect(kendallTauB(t, s)).toBeCloseTo(2 / 3, 6);
  expect(spearman(t, s)).toBeCloseTo(0.8, 6);
  // SciPy: kendalltau([1, 2, 2, 3], [1, 3, 2, 2]) and spearmanr of the same.
  expect(kendallTauB([1, 2, 2, 3], [1, 3, 2, 2])).toBeCloseTo(0.4, 9);
  expect(spearman([1, 2, 2, 3], [1, 3, 2, 2])).toBeCloseTo(0.5, 9);
  expect(kendallTauB([1, 1], [1, 2])).toBeNaN();
  const cube = s.map((v) => v ** 3);
  expect(kendallTauB(t, cube)).toBeCloseTo(2 / 3, 12);
  expect(affineKl(t, s)).not.toBeCloseTo(affineKl(t, cube), 3);
});

test('overlap, rank-biased overlap, divergence, pairs', () => {
  expect(overlapAt(['a', 'b', 'c'], ['c', 'd', 'a'], 2)).toBe(0);
  expect(overlapAt(['a', 'b', 'c'], ['b', 'd', 'a'], 2)).toBe(0.5);
  expect(rbo(['a', 'b', 'c'], ['a', 'b', 'c'])).toBeCloseTo(1, 12);
  expect(rbo(['a', 'b'], ['c', 'd'])).toBe(0);
  // By hand at p = 0.9: overlaps 0, 1, 1 of depths 1, 2, 3.
  expect(rbo(['a', 'b', 'c'], ['b', 'a', 'c'])).toBeCloseTo(0.729 + (0.1 / 0.9) * (0.81 + 0.729), 9);
  // A list that is an affine image of the teacher's diverges by nothing.
  expect(affineKl([4, 2, 1, 0], [9, 5, 3, 1])).toBeCloseTo(0, 12);
  // t = (1, 0), s orders the other way: the fit turns it round.
  expect(affineKl([2, 0, 0], [1, 1, 0])).toBeCloseTo(expectedKl(), 9);
  expect(pairAgreement([4, 2, 1, 0], [3, 3.5, 1, 0], 1.5)).toBeCloseTo(3 / 4, 12);
});

/** t = (2, 0, 0), s = (1, 1, 0): slope = cov / var = (1/3 * 2/3 ... ) worked out as 1, so s' = (1, 1, 0). */
function expectedKl(): number {
  const p = [Math.exp(2), 1, 1].map((e) => e / (Math.exp(2) + 2));
  const q = [Math.E, Math.E, 1].map((e) => e / (2 * Math.E + 1));
  return p.reduce((s, v, i) => s + v * Math.log(v / q[i]), 0);
}

test('fidelity skips constant and short lists and counts them', () => {
  const list = (scores: number[]) => ({ ids: scores.map((_, i) => `d${i}`), scores });
  const student = new Map([
    ['a', list([3, 3.5, 1, 0])],
    ['b', list([1, 1, 1])],
    ['c', list([1])],
  ]);
  const teacher = new Map([
    ['a', list([4, 2, 1, 0])],
    ['b', list([3, 2, 1])],
    ['c', list([1])],
    ['d', list([1, 2])],
  ]);
  const f = fidelity(student, teacher);
  expect(f).toMatchObject({ queries: 1, skipped: 3 });
  expect(f.kendallTau).toBeCloseTo(2 / 3, 6);
  expect(f.spearman).toBeCloseTo(0.8, 6);
  expect(f.overlap10).toBe(1);
});

test('resamples by weights, for many queries: the intervals of drawn positions and of theory, the same for a seed', () => {
  const random = Random.of(5, 'many queries');
  const n = MANY_QUERIES + 1;
  const b = Float64Array.from({ length: n }, () => random.uniform());
  const a = b.map((v) => 0.9 * v + 0.1 * random.uniform());
  const options = { samples: 400, seed: 3 };
  const [ratio, same] = retentions(
    [
      [a, b],
      [b, b],
    ],
    options,
  );
  expect([same.value, same.low, same.high]).toEqual([1, 1, 1]);
  expect(ratio.value).toBeCloseTo(mean(a) / mean(b), 12);
  // The delta method: the deviation of a ratio of means.
  const errors = a.map((v, i) => v - ratio.value * b[i]);
  const deviation = Math.sqrt(mean(errors.map((e) => e * e)) / n) / mean(b);
  const drawn = bootstrap(n, (at) => at.reduce((s, i) => s + a[i], 0) / at.reduce((s, i) => s + b[i], 0), {
    samples: 200,
  });
  // An end's own noise is about a ninth (400 samples) and a seventh (200) of the deviation.
  for (const end of ['low', 'high'] as const) {
    const expected = ratio.value + (end === 'low' ? -1.96 : 1.96) * deviation;
    expect(Math.abs(ratio[end] - expected)).toBeLessThan(0.5 * deviation);
    expect(Math.abs(drawn[end] - ratio[end])).toBeLessThan(0.8 * deviation);
  }
  expect(retentions([[a, b]], options)[0]).toEqual(ratio);
  const one = bootstrapMean(a, options);
  expect(one.value).toBeCloseTo(mean(a), 12);
  const own = Math.sqrt(mean(a.map((v) => (v - one.value) ** 2)) / n);
  expect(Math.abs(one.high - one.low - 3.92 * own)).toBeLessThan(own);
});
