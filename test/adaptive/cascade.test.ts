/** @file Cascades: served orders by hand, the ends of the way, the guarantee over many draws, drift. */
import { describe, expect, test } from 'vitest';
import { evaluateCascade, shareOfOracle } from '../../adaptive/curve.ts';
import { drift } from '../../adaptive/drift.ts';
import { type Calibrated, fitCascade, fullQuality, qualityOf } from '../../adaptive/fit.ts';
import { needsOf, type Policy, serve, stopAt } from '../../adaptive/policy.ts';
import { statesOf } from '../../adaptive/quality.ts';
import { features, servedOrder } from '../../adaptive/rules/states.ts';
import { Random } from '../../math/random.ts';
import { mean } from '../../math/resampling.ts';

/** Queries with one relevant document of 100; the student is surer where it is right, the teacher is mostly right. */
function world(n: number, seed: number): Calibrated[] {
  const random = Random.of(seed, 'cascade');
  return Array.from({ length: n }, () => {
    const hard = random.uniform() < 0.4;
    const truth = hard ? random.integer(40) : random.integer(2);
    const spread = hard ? 0.002 : 0.02;
    const student = Float32Array.from({ length: 100 }, (_, i) => 0.9 - spread * i - 0.0005 * random.uniform());
    const teacher = Float32Array.from({ length: 100 }, (_, i) => (i === truth ? 4 : -2) + 1.2 * random.normal());
    const grades = Float64Array.from({ length: 100 }, (_, i) => Number(i === truth));
    return { student, teacher, grades, ideal: [1] };
  });
}
const base = { depths: [5, 10, 20, 50, 100], fusion: 0, rule: 'margin', parameters: [] } as const;
const served = (q: Calibrated, policy: Policy) => serve(q.student, policy, (from, to) => q.teacher.subarray(from, to));

test('documents the teacher has scored come first by joined score, the rest in the student’s order', () => {
  const query = { student: Float32Array.of(0.9, 0.8, 0.7, 0.6), teacher: Float32Array.of(-1, 2, 1, 9) };
  expect([...servedOrder(query, 0, 0)]).toEqual([0, 1, 2, 3]);
  expect([...servedOrder(query, 3, 0)]).toEqual([1, 2, 0, 3]);
  expect([...servedOrder(query, 3, 40)]).toEqual([0, 1, 2, 3]);
  expect([...servedOrder(query, 4, 0)]).toEqual([3, 1, 2, 0]);
});

test('quality by grades is nDCG@10; without, gains of 10 to 1 for the teacher’s ten', () => {
  const query = { student: Float32Array.of(0.9, 0.8), teacher: Float32Array.of(0, 1) };
  expect(qualityOf({ ...query, grades: [0, 1], ideal: [1] }, Int32Array.of(0, 1))).toBeCloseTo(1 / Math.log2(3), 12);
  expect(qualityOf({ ...query, grades: [0, 0], ideal: [] }, Int32Array.of(0, 1))).toBe(0);
  const dcg = (first: number, second: number) => first + second / Math.log2(3);
  expect(qualityOf(query, Int32Array.of(0, 1))).toBeCloseTo(dcg(9, 10) / dcg(10, 9), 12);
});

describe('the ends of the way', () => {
  const queries = world(50, 1);
  test('-Infinity is the whole re-ranking, Infinity the student alone', async () => {
    for (const q of queries) {
      const all = await served(q, { ...base, threshold: Number.NEGATIVE_INFINITY });
      expect(all.scored).toBe(100);
      expect([...all.order]).toEqual([...servedOrder(q, 100, 0)]);
      const none = await served(q, { ...base, threshold: Number.POSITIVE_INFINITY });
      expect(none.scored).toBe(0);
      expect([...none.order]).toEqual(Array.from({ length: 100 }, (_, i) => i));
    }
  });
  test('fewer documents are scored as the threshold rises', async () => {
    const q = queries[0];
    let before = Number.POSITIVE_INFINITY;
    for (const threshold of [-1, 0.05, 0.3, 0.6, 0.9, 2]) {
      const { scored } = await served(q, { ...base, threshold });
      expect(scored).toBeLessThanOrEqual(before);
      before = scored;
    }
  });
  test('a list that is shorter than the first chunk, of one document, of none', async () => {
    for (const length of [3, 1, 0]) {
      const student = Float32Array.from({ length }, (_, i) => 1 - i);
      const { order, scored } = await serve(student, { ...base, threshold: Number.NEGATIVE_INFINITY }, (from, to) =>
        Float32Array.from({ length: to - from }, (_, i) => from + i),
      );
      expect(scored).toBe(length);
      expect([...order]).toEqual(Array.from({ length }, (_, i) => length - 1 - i));
    }
  });
});

describe('fitting', () => {
  const options = { alpha: 0.02, delta: 0.1 };
  test('the served stream reaches what the simulation said', async () => {
    const { policy } = fitCascade(world(800, 2), options);
    const test = world(300, 3);
    const figures = evaluateCascade(test, policy);
    let [scored, quality] = [0, 0];
    for (const q of test) {
      const own = await served(q, policy);
      scored += own.scored / test.length;
      quality += qualityOf(q, own.order) / test.length;
    }
    expect(scored).toBeCloseTo(figures.pairs, 9);
    expect(quality).toBeCloseTo(figures.quality.value, 9);
  });
  test('it asks less than everything, and is better than random deferral', () => {
    const { policy, guarantee, deferred } = fitCascade(world(800, 2), options);
    expect(guarantee).toMatchObject({ certified: true, queries: 400, against: 'labels', loss: 'clipped' });
    expect(guarantee.pairs).toBeLessThan(60);
    expect(deferred).toBeGreaterThan(0);
    expect(shareOfOracle(evaluateCascade(world(400, 4), policy))).toBeGreaterThan(0.2);
  });
  test('the promise fails in at most delta of draws', () => {
    // The true risk of a policy, over far more queries than it was certified on.
    const population = world(1500, 5);
    const states = population.map((q) => {
      const { quality, features } = statesOf(q, base.depths, base.fusion);
      return { quality, needs: needsOf(q, base, features), full: fullQuality(q) };
    });
    const draws = 40;
    let violations = 0;
    for (let d = 0; d < draws; d++) {
      const { policy } = fitCascade(world(400, 100 + d), { alpha: 0.02, delta: 0.1, rule: 'margin', fusion: 0 });
      // Policies of one rule differ by their threshold alone, so each query's qualities are computed once.
      expect(policy).toEqual({ ...base, threshold: policy.threshold });
      const risk = mean(states.map((s) => Math.max(0, s.full - s.quality[stopAt(s.needs, policy.threshold)])));
      violations += Number(risk > 0.02);
    }
    expect(violations / draws).toBeLessThanOrEqual(0.1);
  });
  test('too few queries: everything is deferred, and the number of queries needed is reported', () => {
    const { policy, guarantee } = fitCascade(world(60, 6), { alpha: 0.01, delta: 0.1, fusion: 0 });
    expect(policy.threshold).toBe(Number.NEGATIVE_INFINITY);
    expect(guarantee).toMatchObject({ certified: false, needed: 238, queries: 30 });
    // Scores that are joined could lose: what falls back is the teacher alone.
    const fused = fitCascade(world(60, 6), { alpha: 0.01, delta: 0.1, fusion: 40 });
    expect([fused.policy.fusion, fused.guarantee.risk, fused.deferred]).toEqual([0, 0, 1]);
  });
  test('without labels the reference is the teacher’s order, and scores are not combined', () => {
    const queries = world(700, 7).map(({ student, teacher }) => ({ student, teacher }));
    const { policy, guarantee } = fitCascade(queries, { alpha: 0.05, delta: 0.1 });
    expect(policy.fusion).toBe(0);
    expect(guarantee.against).toBe("the teacher's order");
    expect(queries.map(fullQuality).every((v) => Math.abs(v - 1) < 1e-12)).toBe(true);
  });
  test('signed losses ask no more than clipped ones', () => {
    const clipped = fitCascade(world(800, 8), { ...options, rule: 'margin', fusion: 0 });
    const signed = fitCascade(world(800, 8), { ...options, rule: 'margin', fusion: 0, loss: 'signed' });
    expect(signed.guarantee.risk).toBeLessThanOrEqual(clipped.guarantee.risk + 1e-12);
  });
  test('some queries with grades and some without are refused', () => {
    const [a, b, ...rest] = world(10, 9);
    expect(() => fitCascade([a, { ...b, grades: undefined }, ...rest], options)).toThrow('some calibration queries');
    expect(() => fitCascade([a], options)).toThrow('1 calibration queries');
  });
});

test('features are finite at every depth, for lists of every length', () => {
  for (const length of [1, 2, 9, 10, 11, 100])
    for (const scored of [0, 1, 5, length])
      if (scored <= length) {
        const query = { student: new Float32Array(length).fill(0.5), teacher: new Float32Array(length).fill(1) };
        expect(features(query, scored, 0, 5).every(Number.isFinite)).toBe(true);
      }
});

describe('drift', () => {
  const random = Random.of(1, 'drift');
  const draw = (n: number, shift = 0) => Array.from({ length: n }, () => random.normal() + shift);
  test('the same stream rarely alarms, another does', () => {
    let alarms = 0;
    for (let i = 0; i < 200; i++) alarms += Number(drift(draw(300), draw(200), 0, 0.05).drifted);
    expect(alarms / 200).toBeLessThan(0.1);
    expect(drift(draw(300), draw(200, 1), 0)).toMatchObject({ drifted: true });
  });
  test('SciPy’s distance and p-value', () => {
    const a = Array.from({ length: 50 }, (_, i) => i / 50);
    const b = Array.from({ length: 40 }, (_, i) => 0.2 + i / 40);
    const found = drift(a, b, 0.5);
    // scipy.stats.ks_2samp(a, b, method='asymp') gives 0.22 and 0.2046.
    expect(found.distance).toBeCloseTo(0.22, 12);
    expect(found.pValue).toBeGreaterThan(0.15);
    expect(found.pValue).toBeLessThan(0.25);
    expect([found.deferred, found.expected]).toEqual([0.7, 0.5]);
  });
  test('an empty stream says nothing', () => expect(drift([1, 2], [], 0)).toMatchObject({ drifted: false, pValue: 1 }));
});
