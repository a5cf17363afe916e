import { expect, test } from 'vitest';
import {
  alignment,
  anisotropy,
  brier,
  calibrationError,
  confidenceSlope,
  effectiveRank,
  lastLayerKernel,
  learnedShare,
  linearCka,
  logisticLoss,
  negativeLogLikelihood,
  neighbourOverlap,
  platt,
  supervisionComplexity,
  temperature,
  topProbabilities,
  uniformity,
} from '../../../evaluation/diagnostics/index.ts';
import { eigenvalues } from '../../../math/linear-algebra.ts';
import type { Rows } from '../../../math/numbers.ts';
import { sigmoid } from '../../../math/numbers.ts';
import { Random } from '../../../math/random.ts';

const square = (...rows: number[][]) => ({ n: rows.length, data: Float64Array.from(rows.flat()) });
const normal = (random: Random, n: number, dimensions: number): Rows & { data: Float64Array } => ({
  dimensions,
  data: Float64Array.from({ length: n * dimensions }, () => random.normal()),
});

test('supervision complexity of the worked examples', () => {
  const K = square([2, 1], [1, 2]);
  expect(supervisionComplexity(K, [1, 1], 0).complexity).toBeCloseTo(0.816497, 6);
  const against = supervisionComplexity(K, [1, -1], 0);
  expect(against.complexity).toBeCloseTo(Math.SQRT2, 6);
  expect(against.adjusted).toBeCloseTo(Math.SQRT2, 6);
  expect(supervisionComplexity(square([20, 10], [10, 20]), [1, -1], 0).adjusted).toBeCloseTo(Math.SQRT2, 6);
  const Y = [3, -4, 1];
  const I = square([1, 0, 0], [0, 1, 0], [0, 0, 1]);
  expect(supervisionComplexity(I, Y, 0).adjusted).toBeCloseTo(Math.hypot(...Y) / Math.sqrt(3), 10);
  expect(() => supervisionComplexity(square([1, 1], [1, 1]), [1, 0], 0)).toThrow(
    'a 2 x 2 matrix is not positive definite at row 1; add a larger ridge',
  );
  expect(() => supervisionComplexity(K, [1, 2, 3])).toThrow('expected 3 x 3 numbers, one row a target, received 4');
});

test('labels that follow the kernel are simpler than the same labels shuffled, soft ones simpler still', () => {
  const random = Random.of(3);
  const [n, D] = [100, 5];
  const x = normal(random, n, D);
  const data = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      let d = 0;
      for (let k = 0; k < D; k++) d += (x.data[i * D + k] - x.data[j * D + k]) ** 2;
      data[i * n + j] = Math.exp(-d / 10) + (i === j ? 1e-3 : 0);
    }
  const labels = Array.from({ length: n }, (_, i) => Math.sign(x.data[i * D]));
  const soft = Array.from({ length: n }, (_, i) => Math.tanh(x.data[i * D]));
  const at = (y: number[]) => supervisionComplexity({ n, data }, y, 0).adjusted;
  expect(at(random.shuffle([...labels]))).toBeGreaterThan(1.3 * at(labels));
  expect(at(soft)).toBeLessThan(0.3 * at(labels));
});

test("the last layer's kernel is that of finite differences", () => {
  const random = Random.of(5);
  const [n, H, D] = [3, 4, 2];
  const [hq, hd] = [normal(random, n, H), normal(random, n, H)];
  const W = Array.from({ length: D * H }, () => random.normal());
  const embed = (w: number[], h: Float64Array, i: number) =>
    Array.from({ length: D }, (_, r) =>
      Array.from({ length: H }, (_, k) => w[r * H + k] * h[i * H + k]).reduce((a, b) => a + b),
    );
  const rows = (h: Float64Array): Rows => ({
    dimensions: D,
    data: Array.from({ length: n }, (_, i) => embed(W, h, i)).flat(),
  });
  const score = (w: number[], i: number) =>
    embed(w, hq.data, i).reduce((s, v, k) => s + v * embed(w, hd.data, i)[k], 0);
  const gradient = (i: number) =>
    W.map((_, k) => {
      const at = (h: number) =>
        score(
          W.map((v, j) => (j === k ? v + h : v)),
          i,
        );
      return (at(1e-5) - at(-1e-5)) / 2e-5;
    });
  const { data } = lastLayerKernel(
    { queryHidden: hq, documentHidden: hd, queryEmbeddings: rows(hq.data), documentEmbeddings: rows(hd.data) },
    true,
  );
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      const [a, b] = [gradient(i), gradient(j)];
      expect(data[i * n + j]).toBeCloseTo(
        a.reduce((s, v, k) => s + v * b[k], 0),
        6,
      );
    }
});

test('the slope of confidence of the worked example', () => {
  const { slope, intercept } = confidenceSlope([0.6, 0.8, 0.9], [0.7, 0.9, 0.97]);
  expect(slope).toBeCloseTo(1.464027, 6);
  expect(intercept).toBeCloseTo(0.22688, 5);
});

test('a student that is its teacher has slope 1, one of twice the logits slope 2, and Theil-Sen is not moved by odd points', () => {
  const logits = Array.from({ length: 41 }, (_, i) => -4 + 0.2 * i);
  const p = logits.map(sigmoid);
  const same = confidenceSlope(p, p);
  expect(same.slope).toBeCloseTo(1, 10);
  expect(same.intercept).toBeCloseTo(0, 10);
  const twice = logits.map((z) => sigmoid(2 * z));
  expect(confidenceSlope(p, twice).slope).toBeCloseTo(2, 9);
  const odd = [...twice];
  odd[0] = 0.999999;
  odd[40] = 1e-6;
  const bent = confidenceSlope(p, odd);
  expect(bent.slope).toBeLessThan(1.9);
  expect(bent.theilSen.slope).toBeCloseTo(2, 6);
  const tops = topProbabilities({ offsets: [0, 3, 4], scores: [4, 2, 1, 7] }, [3, 2, 0, 7], { teacher: 1, student: 1 });
  expect(tops.teacher.length).toBe(1);
  expect(tops.teacher[0]).toBeCloseTo(0.843795, 6);
  expect(tops.student[0]).toBeCloseTo(0.705385, 6);
});

test('distilling twice squares what gradient descent has learned', () => {
  const [strong, weak] = [1, 0.1].map((l) => learnedShare(l, 0.5, 10));
  expect(strong).toBeCloseTo(0.999023, 6);
  expect(weak).toBeCloseTo(0.401263, 6);
  expect(strong ** 2).toBeCloseTo(0.998048, 6);
  expect(weak ** 2).toBeCloseTo(0.161012, 6);
  expect(weak / strong).toBeCloseTo(0.4017, 4);
  expect((weak / strong) ** 2).toBeCloseTo(0.1613, 4);
});

test('calibration error of the worked example; the edges of bins', () => {
  const [p, y] = [
    [0.9, 0.8, 0.7, 0.6],
    [1, 1, 0, 1],
  ];
  expect(calibrationError(p, y).error).toBeCloseTo(0.35, 12);
  expect(calibrationError(p, y, { bins: 1 }).error).toBeCloseTo(0, 12);
  expect(calibrationError([0, 1, 1, 0], [0, 1, 1, 0]).error).toBe(0);
  // (lo, hi]: 0.1 and 0 share the first bin, 0.2 is in the second.
  expect(calibrationError([0, 0.1, 0.2], [0, 0, 0]).bins.map((b) => b.count)).toEqual([2, 1]);
  expect(calibrationError(p, y, { bins: 2, kind: 'mass' }).bins.map((b) => b.count)).toEqual([2, 2]);
  expect(brier(p, y)).toBeCloseTo((0.01 + 0.04 + 0.49 + 0.16) / 4, 12);
  expect(negativeLogLikelihood([0.5, 0.25], [1, 0])).toBeCloseTo((Math.log(2) - Math.log(0.75)) / 2, 12);
});

test('Platt scaling and temperature find the scale that scores were made with, and keep the order', () => {
  const random = Random.of(8);
  const scores = Array.from({ length: 20_000 }, () => 6 * random.normal());
  const y = scores.map((s) => Number(random.uniform() < sigmoid(0.5 * s - 1)));
  const { a, b, probability } = platt(scores, y);
  expect(Math.abs(a - 0.5)).toBeLessThan(0.03);
  expect(Math.abs(b + 1)).toBeLessThan(0.1);
  const p = scores.map(probability);
  expect(calibrationError(p, y).error).toBeLessThan(0.015);
  const order = (x: number[]) => x.map((_, i) => i).sort((i, j) => x[j] - x[i] || i - j);
  // Beyond about 36 either way a probability is 0 or 1 exactly; the order of what is within does not change.
  const within = scores.slice(0, 300);
  expect(order(within.map(probability))).toEqual(order(within));
  const sharp = scores.map((s) => Number(random.uniform() < sigmoid(s / 3)));
  const T = temperature(scores, sharp);
  expect(Math.abs(T - 3)).toBeLessThan(0.15);
  expect(
    logisticLoss(
      scores.map((s) => s / T),
      sharp,
    ),
  ).toBeLessThan(logisticLoss(scores, sharp));
  const sure = platt([-2, -1, 1, 2], [0, 0, 1, 1]);
  expect(Number.isFinite(sure.a) && sure.a > 0).toBe(true);
});

test('CKA is 1 for a turned and scaled copy and less for another space; neighbours are the same in the copy', () => {
  const random = Random.of(9);
  const x = normal(random, 60, 2);
  const turned: Rows = {
    dimensions: 3,
    data: Array.from({ length: 60 }, (_, i) => {
      const [a, b] = [x.data[2 * i], x.data[2 * i + 1]];
      return [3 * (0.6 * a - 0.8 * b), 3 * (0.8 * a + 0.6 * b), 0];
    }).flat(),
  };
  expect(linearCka(x, x)).toBeCloseTo(1, 10);
  expect(linearCka(x, turned)).toBeCloseTo(1, 10);
  expect(linearCka(x, normal(random, 60, 2))).toBeLessThan(0.3);
  expect(neighbourOverlap(x, turned, 5)).toBe(1);
  expect(neighbourOverlap(x, normal(random, 60, 2), 5)).toBeLessThan(0.4);
  expect(() => linearCka(x, normal(random, 50, 2))).toThrow(
    'two spaces of embeddings: expected as many rows, 60, received 50',
  );
});

test('effective rank counts directions; eigenvalues are those of a known matrix', () => {
  const eigen = eigenvalues(square([2, 1], [1, 2]));
  expect(eigen[0]).toBeCloseTo(3, 12);
  expect(eigen[1]).toBeCloseTo(1, 12);
  expect(effectiveRank({ dimensions: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1] })).toBeCloseTo(3, 10);
  expect(effectiveRank({ dimensions: 3, data: [1, 2, 3, 2, 4, 6, 3, 6, 9, 4, 8, 12] })).toBeCloseTo(1, 5);
  const wide = normal(Random.of(2), 5, 8);
  const tall: Rows = {
    dimensions: 5,
    data: Array.from({ length: 8 }, (_, k) => [0, 1, 2, 3, 4].map((i) => wide.data[i * 8 + k])).flat(),
  };
  expect(effectiveRank(wide)).toBeCloseTo(effectiveRank(tall), 8);
});

test('uniformity, alignment and anisotropy of points on the circle', () => {
  const corners: Rows = { dimensions: 2, data: [1, 0, 0, 1, -1, 0, 0, -1] };
  // Four pairs at squared distance 2 and two at 4.
  expect(uniformity(corners)).toBeCloseTo(Math.log((4 * Math.exp(-4) + 2 * Math.exp(-8)) / 6), 12);
  expect(anisotropy(corners)).toBeCloseTo(-1 / 3, 12);
  expect(anisotropy({ dimensions: 2, data: [1, 0, 2, 0, 5, 0] })).toBeCloseTo(1, 12);
  expect(alignment(corners, { dimensions: 2, data: [1, 0, 0, 1, 1, 0, 0, -1] })).toBe(1);
  expect(uniformity({ dimensions: 2, data: [1, 0, 1, 0] })).toBeCloseTo(0, 12);
});
