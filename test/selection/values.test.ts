import { expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import {
  candidateSelections,
  kMeans,
  overlapAt,
  refreshesAt,
  refreshNegatives,
  topicBatches,
} from '../../selection/index.ts';
import { entropyDisagreement, keepEach } from '../../selection/iwes.ts';
import { inclusion, robustDistribution, systematicSample } from '../../selection/rad.ts';
import { perturb } from '../../selection/tgt.ts';
import { drawBalanced } from '../../selection/topics.ts';
import { uncertaintyOf } from '../../selection/uncertainty.ts';

const closeTo = (found: ArrayLike<number>, expected: readonly number[], digits = 6): void => {
  expect(found.length).toBe(expected.length);
  for (const [i, e] of expected.entries()) expect(found[i]).toBeCloseTo(e, digits);
};

test('uncertainty of the worked example', () => {
  expect(uncertaintyOf([0.5, 0.3, 0.2], 'entropy')).toBeCloseTo(0.937231, 6);
  expect(uncertaintyOf([0.5, 0.3, 0.2], 'margin')).toBeCloseTo(1 - 0.2, 12);
  expect(uncertaintyOf([0.9, 0.1], 'entropy')).toBeCloseTo(0.468996, 6);
});

test('of two outcomes all three uncertainties give one order', () => {
  const p = [0.93, 0.55, 0.71, 0.5, 0.2];
  const order = (kind: 'margin' | 'entropy' | 'least-confidence') =>
    p
      .map((v, i) => [uncertaintyOf([v, 1 - v], kind), i])
      .sort(([a], [b]) => b - a)
      .map(([, i]) => i);
  expect(order('entropy')).toEqual(order('margin'));
  expect(order('least-confidence')).toEqual(order('margin'));
});

test('RAD of the worked examples', () => {
  const a = robustDistribution([1, 0.5, 0.25], 1);
  expect(a.support).toBe(2);
  expect(a.value).toBeCloseTo(0.333333, 6);
  closeTo(a.probabilities, [0.333333, 0.666667, 0]);
  const b = robustDistribution([1, 0.9, 0.8, 0.1], 1);
  expect(b.support).toBe(3);
  closeTo(b.probabilities, [0.297521, 0.330579, 0.371901, 0]);
  expect(b.value).toBeCloseTo(0.595041, 6);
});

test('RAD without errors takes the most uncertain, of equals all, and does not see the scale of gains', () => {
  closeTo(robustDistribution([0.2, 0.9, 0.4], 0).probabilities, [0, 1, 0]);
  closeTo(robustDistribution([0.3, 0.3, 0.3, 0.3], 1).probabilities, [0.25, 0.25, 0.25, 0.25]);
  const g = [1, 0.9, 0.8, 0.1];
  closeTo(
    robustDistribution(
      g.map((v) => 7 * v),
      1,
    ).probabilities,
    Array.from(robustDistribution(g, 1).probabilities),
    12,
  );
  closeTo(robustDistribution(g, 4).probabilities, [0.25, 0.25, 0.25, 0.25]);
});

test('RAD is the best answer to the worst adversary: no other distribution gains more', () => {
  const random = Random.of(11);
  for (let round = 0; round < 30; round++) {
    const n = 2 + random.integer(5);
    const g = Array.from({ length: n }, () => 0.05 + random.uniform());
    const wrong = random.integer(n);
    // The adversary takes the largest q_i g_i.
    const worst = (q: ArrayLike<number>) =>
      g
        .map((v, i) => v * q[i])
        .sort((a, b) => a - b)
        .slice(0, n - wrong)
        .reduce((a, b) => a + b, 0);
    const { probabilities, value } = robustDistribution(g, wrong);
    expect(worst(probabilities)).toBeCloseTo(value, 9);
    for (let k = 0; k < 200; k++) {
      const other = g.map(() => random.uniform() ** 3);
      const sum = other.reduce((a, b) => a + b, 0);
      expect(worst(other.map((v) => v / sum))).toBeLessThanOrEqual(value + 1e-9);
    }
  }
});

test('inclusion probabilities sum to the budget, are capped, and are met by systematic sampling', () => {
  const q = [0.5, 0.2, 0.1, 0.1, 0.06, 0.04, 0];
  const gains = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4];
  const pi = inclusion(q, gains, 3);
  expect(pi.reduce((a, b) => a + b, 0)).toBeCloseTo(3, 10);
  expect(Math.max(...pi)).toBeLessThanOrEqual(1);
  expect(pi[2] / pi[4]).toBeCloseTo(0.1 / 0.06, 10);
  const counts = new Array(q.length).fill(0);
  const random = Random.of(4);
  const runs = 4000;
  for (let k = 0; k < runs; k++) {
    const drawn = systematicSample(pi, [0, 1, 2, 3, 4, 5, 6], random);
    expect(drawn.length).toBe(3);
    expect(new Set(drawn).size).toBe(3);
    for (const i of drawn) counts[i]++;
  }
  for (const [i, p] of pi.entries()) expect(Math.abs(counts[i] / runs - p)).toBeLessThan(0.03);
  closeTo(inclusion([0, 1, 0], [0.2, 0.9, 0.4], 2), [0, 1, 1]);
});

test('IWeS: disagreement of the worked example', () => {
  expect(entropyDisagreement(0.9, 0.6)).toBeCloseTo(0.305377, 6);
});

test('IWeS: kept losses over their probabilities sum to all losses', () => {
  const random = Random.of(21);
  const n = 2000;
  const losses = Array.from({ length: n }, () => random.uniform() * 2);
  const p = losses.map((l) => 0.1 + 0.4 * l);
  let total = 0;
  const runs = 50;
  for (let k = 0; k < runs; k++) for (const i of keepEach(p, random)) total += losses[i] / p[i] / runs;
  const mean = losses.reduce((a, b) => a + b, 0) / n;
  expect(Math.abs(total / n - mean)).toBeLessThan(0.01);
});

test('TGT: no perturbation is the embedding itself, and the cosine falls as 1 / sqrt(1 + sigma^2)', () => {
  const random = Random.of(6);
  const e = Array.from({ length: 384 }, () => random.normal());
  const norm = Math.hypot(...e);
  closeTo(
    perturb(e, 0, random),
    e.map((v) => v / norm),
    12,
  );
  const cosines = Array.from({ length: 50 }, () =>
    perturb(e, 0.7, random).reduce((s, v, i) => s + (v * e[i]) / norm, 0),
  );
  expect(cosines.reduce((a, b) => a + b, 0) / 50).toBeCloseTo(1 / Math.sqrt(1 + 0.49), 2);
});

/** A positive of 0.8 and four candidates. */
const mined = { offsets: [0, 5], scores: [0.8, 0.79, 0.77, 0.75, 0.5], positives: [1, 0, 0, 0, 0] };
const kept = (options: Parameters<(typeof candidateSelections)['positive-aware']>[0]) => {
  const { indices, flagged } = candidateSelections['positive-aware']({ count: 4, ...options }).select(mined);
  return { scores: Array.from(indices.subarray(1), (k) => mined.scores[k]), flagged: Array.from(flagged ?? []) };
};

test('positive-aware mining of the worked example; a candidate at the threshold is dropped', () => {
  expect(kept({ filter: 'percentage' }).scores).toEqual([0.75, 0.5]);
  expect(kept({ filter: 'margin', threshold: 0.05 }).scores).toEqual([0.5]);
  expect(kept({ filter: 'absolute' }).scores).toEqual([0.5]);
  expect(kept({ filter: 'margin', threshold: 0 }).scores).toEqual([0.79, 0.77, 0.75, 0.5]);
});

test('where nothing passes the safest negatives are taken and the list is flagged', () => {
  expect(kept({ filter: 'margin', threshold: Number.POSITIVE_INFINITY, count: 2 })).toEqual({
    scores: [0.75, 0.5],
    flagged: [0],
  });
});

test('a percentage of logits is refused', () => {
  expect(() =>
    candidateSelections['positive-aware']().select({ offsets: [0, 2], scores: [7.5, 3], positives: [1, 0] }),
  ).toThrow(
    "a percentage of the positive's score (selection.filter: percentage): expected scores that are probabilities or cosines, " +
      "received a score of 7.5; use filter 'margin' with a threshold of 1 to 3 for logits",
  );
});

test('injected false negatives are filtered out', () => {
  const random = Random.of(3);
  const [lists, length] = [200, 12];
  const offsets = Array.from({ length: lists + 1 }, (_, i) => i * length);
  const scores = offsets.slice(1).flatMap(() => [
    0.8,
    ...Array.from({ length: 2 }, () => 0.78 + 0.04 * random.uniform()), // unlabelled relevant documents
    ...Array.from({ length: length - 3 }, () => 0.7 * random.uniform()),
  ]);
  const positives = scores.map((_, i) => Number(i % length === 0));
  const falseOnes = (s: { indices: Int32Array }) =>
    Array.from(s.indices).filter((i) => [1, 2].includes(i % length)).length;
  expect(falseOnes(candidateSelections['top-k']({ count: 4 }).select({ offsets, scores, positives }))).toBe(2 * lists);
  expect(falseOnes(candidateSelections['positive-aware']({ count: 4 }).select({ offsets, scores, positives }))).toBe(0);
});

test('margin-balanced draws are even over the bins that hold a margin', () => {
  const random = Random.of(8);
  const margins = Array.from({ length: 400 }, () => random.uniform() ** 4 * 10);
  const [bins, draws] = [10, 5000];
  const [low, high] = [Math.min(...margins), Math.max(...margins)];
  const bin = (m: number) => Math.min(bins - 1, Math.floor(((m - low) / (high - low)) * bins));
  const drawn = new Array(bins).fill(0);
  for (let k = 0; k < draws; k++) drawn[bin(margins[drawBalanced(margins, bins, random)])]++;
  const chiSquare = drawn.reduce((s, c) => s + (c - draws / bins) ** 2 / (draws / bins), 0);
  expect(chiSquare).toBeLessThan(27.9); // the 0.999 quantile of chi-square with 9 degrees of freedom
  const raw = new Array(bins).fill(0);
  for (const m of margins) raw[bin(m)]++;
  expect(raw.reduce((s, c) => s + (c - 40) ** 2 / 40, 0)).toBeGreaterThan(500);
});

test('k-means finds separate groups and its inertia never rises', () => {
  const random = Random.of(5);
  const data = Array.from({ length: 90 }, (_, i) =>
    [10 * (i % 3), 5 * (i % 3 === 1 ? 1 : 0)].map((v) => v + random.normal()),
  ).flat();
  const { assignment, inertia } = kMeans({ dimensions: 2, data }, { clusters: 3, seed: 2 });
  for (let i = 3; i < 90; i++) expect(assignment[i]).toBe(assignment[i % 3]);
  expect(new Set(assignment).size).toBe(3);
  for (let k = 1; k < inertia.length; k++) expect(inertia[k]).toBeLessThanOrEqual(inertia[k - 1] + 1e-9);
  expect(() => kMeans({ dimensions: 2, data }, { clusters: 91 })).toThrow(
    'the number of clusters: expected a whole number from 1 to 90',
  );
});

test('topic batches hold every query once, each batch of as many topics as requested', () => {
  const topics = Array.from({ length: 320 }, (_, i) => i % 8);
  for (const topicsPerBatch of [1, 2]) {
    const { indices, offsets } = topicBatches(topics, { batch: 10, topicsPerBatch, seed: 3 });
    expect(Array.from(indices).sort((a, b) => a - b)).toEqual(topics.map((_, i) => i));
    for (let b = 0; b + 1 < offsets.length; b++) {
      const own = Array.from(indices.subarray(offsets[b], offsets[b + 1]));
      expect(own.length).toBe(10);
      if (b < 30) expect(new Set(own.map((i) => topics[i])).size).toBe(topicsPerBatch);
    }
  }
});

test('a refresh with the same student mines the same negatives; known positives stay out', () => {
  const hits = { k: 5, indices: [4, 9, 2, 7, 1, 3, 8, 0, 5, 6] };
  const relevant = (i: number) => new Set([[9], [3, 5]][i]);
  const first = refreshNegatives({ hits, relevant }, { count: 3 });
  expect(Array.from(first.documents)).toEqual([4, 2, 7, 8, 0, 6]);
  expect(first.overlap).toBeNaN();
  const again = refreshNegatives({ hits, relevant, previous: first }, { count: 3 });
  expect(Array.from(again.documents)).toEqual(Array.from(first.documents));
  expect(again.overlap).toBe(1);
  const other = refreshNegatives(
    { hits: { k: 5, indices: [1, 2, 4, 9, 7, 3, 1, 2, 4, 5] }, relevant, previous: first },
    { count: 3, keep: 1 / 3 },
  );
  expect(Array.from(other.documents)).toEqual([4, 1, 2, 8, 1, 2]);
  expect(other.overlap).toBeCloseTo((2 / 3 + 1 / 3) / 2, 12);
  expect(overlapAt(hits, { k: 5, indices: [4, 9, 2, 7, 1, 9, 9, 9, 9, 9] }, 5)).toBe(0.5);
  expect([0, 1, 2, 3, 4, 5, 6, 7].filter((s) => refreshesAt(s, { every: 3, warmup: 1 }))).toEqual([1, 4, 7]);
});
