import { expect, test } from 'vitest';
import { fitConditionalLogit, fitLogistic } from '../../math/logistic-regression.ts';
import { sigmoid } from '../../math/numbers.ts';
import { Random } from '../../math/random.ts';
import { coTeach, distillationWeight, keepShare, smallestLosses, weightings } from '../../weighting/index.ts';

const list = (scores: number[]) => ({ teacher: { offsets: [0, scores.length], scores } });
/** Weights relative to a list that is sure, so that scaling to mean 1 can be undone. */
const weightsOf = (
  weighting: { weigh(i: Parameters<ReturnType<typeof weightings.uniform>['weigh']>[0]): { weights: Float32Array } },
  scores: number[],
) => {
  const sure = [1e6, ...scores.slice(1).map(() => 0)];
  const { weights } = weighting.weigh({
    teacher: { offsets: [0, scores.length, 2 * scores.length], scores: [...scores, ...sure] },
  });
  return weights[0] / weights[1];
};

test.each([
  [0.2, 5, 0.555556],
  [0.5, 3, 0.5],
  [0, 7, 1],
  [0.3, 1, 1],
])('a weight with p = %d and distortion %d is %d', (p, distortion, expected) => {
  expect(distillationWeight(p, distortion)).toBeCloseTo(expected, 6);
});

test('the weight makes the noisy expectation the clean loss, exactly', () => {
  const [l1, l0, p] = [-Math.log(0.8), -Math.log(0.2), 0.2];
  const w = distillationWeight(p, l0 / l1);
  expect(w).toBeCloseTo(0.445928, 6);
  expect((1 - p) * l1 + p * l0).toBeCloseTo(0.500402, 6);
  expect(w * ((1 - p) * l1 + p * l0)).toBeCloseTo(0.223144, 6);
});

test('the weighted noisy loss is the clean one over a sample with a known error rate', () => {
  const random = Random.of(1);
  const n = 200_000;
  let [clean, noisy, weighted] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const z = random.normal();
    const y = z > 0;
    const p = Math.abs(z) < 0.5 ? 0.4 : 0.1;
    const [right, wrong] = [-Math.log(sigmoid(y ? 1.2 * z : -1.2 * z)), -Math.log(sigmoid(y ? -1.2 * z : 1.2 * z))];
    const seen = random.uniform() < p ? wrong : right;
    clean += right / n;
    noisy += seen / n;
    weighted += (distillationWeight(p, wrong / right) * seen) / n;
  }
  expect(clean).toBeCloseTo(0.3709, 2);
  expect(noisy).toBeCloseTo(0.5012, 2);
  expect(Math.abs(weighted - clean)).toBeLessThan(0.004);
});

test('confidence and entropy weights of the worked examples', () => {
  const nine = [Math.log(9), 0]; // p = 0.9
  expect(weightsOf(weightings.confidence(), nine)).toBeCloseTo(0.8, 6);
  expect(weightsOf(weightings.entropy(), nine)).toBeCloseTo(1 - 0.468996, 6);
  expect(weightsOf(weightings.entropy(), [2, 2, 2])).toBeCloseTo(0, 6);
  expect(weightsOf(weightings.confidence({ power: 0 }), nine)).toBeCloseTo(1, 6);
});

test('teachers that agree after scaling weigh 1, opposed ones exp(-lambda variance)', () => {
  const { weights } = weightings.ensemble({ lambda: 0.5 }).weigh({
    teacher: { offsets: [0, 2, 4], scores: [1, -1, 1, -1] },
    ensemble: [[20, 0, -3, 3]],
  });
  // Standardised: (1, -1) twice in the first list; (1, -1) and (-1, 1) in the second, variance 1.
  expect(weights[1] / weights[0]).toBeCloseTo(Math.exp(-0.5), 6);
});

test('agreement is the rank correlation, never below 0', () => {
  const { weights } = weightings.agreement().weigh({
    teacher: { offsets: [0, 4, 8, 12], scores: [4, 2, 1, 0, 4, 2, 1, 0, 4, 2, 1, 0] },
    student: [4, 2, 1, 0, 3, 3.5, 1, 0, 0, 1, 2, 4],
  });
  expect(weights[1] / weights[0]).toBeCloseTo(0.666667, 6);
  expect(weights[2]).toBe(0);
});

test('small losses of the worked example; no noise keeps all', () => {
  const losses = [1, 5, 2, 9];
  expect(Array.from(smallestLosses(losses, 0.5))).toEqual([0, 2]);
  const { weights } = weightings['small-loss']({ noise: 0.5, epochs: 10 }).weigh({
    ...list([1, 2, 3, 4]),
    teacher: { offsets: [0, 1, 2, 3, 4], scores: [0, 0, 0, 0] },
    losses,
    epoch: 10,
  });
  expect(Array.from(weights)).toEqual([1, 0, 1, 0]);
  const kept = losses.filter((_, i) => weights[i]);
  expect(kept.reduce((a, b) => a + b, 0) / kept.length).toBe(1.5);
  expect(smallestLosses(losses, keepShare(7, { noise: 0 })).length).toBe(4);
  expect([0, 5, 10, 20].map((e) => keepShare(e, { noise: 0.4 }))).toEqual([1, 0.8, 0.6, 0.6]);
  const taught = coTeach([1, 5, 2, 9], [4, 1, 2, 8], 0.5);
  expect(Array.from(taught.first)).toEqual(Array.from(smallestLosses([4, 1, 2, 8], 0.5)));
  expect(Array.from(taught.second)).toEqual([0, 2]);
});

test('logistic regression finds the coefficients that labels were drawn with', () => {
  const random = Random.of(2);
  const n = 20_000;
  const data = Float64Array.from({ length: 2 * n }, () => random.normal());
  const y = Float64Array.from({ length: n }, (_, i) =>
    Number(random.uniform() < sigmoid(1.5 * data[2 * i] - 0.5 * data[2 * i + 1] + 0.3)),
  );
  const [a, b, c] = fitLogistic({ width: 2, data }, y, 1e-6);
  expect(Math.abs(a - 1.5)).toBeLessThan(0.08);
  expect(Math.abs(b + 0.5)).toBeLessThan(0.08);
  expect(Math.abs(c - 0.3)).toBeLessThan(0.08);
  // The gradient of the likelihood is 0 there.
  const gradient = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const e = y[i] - sigmoid(a * data[2 * i] + b * data[2 * i + 1] + c);
    for (const [k, x] of [data[2 * i], data[2 * i + 1], 1].entries()) gradient[k] += (e * x) / n;
  }
  for (const g of gradient) expect(Math.abs(g)).toBeLessThan(1e-8);
});

test('separable labels do not make the fit fail', () => {
  const w = fitLogistic({ width: 1, data: Float64Array.from([-2, -1, 1, 2]) }, [0, 0, 1, 1], 0.1);
  expect(w.every(Number.isFinite)).toBe(true);
  expect(w[0]).toBeGreaterThan(1);
});

test('a conditional logit finds the coefficients that choices were drawn with', () => {
  const random = Random.of(3);
  const [lists, length] = [5000, 4];
  const data = Float64Array.from({ length: lists * length }, () => random.normal());
  const choices = Array.from({ length: lists }, (_, i) => {
    // The largest of score + Gumbel noise is a draw from the softmax.
    const noisy = Array.from({ length }, (_, k) => 2 * data[i * length + k] - Math.log(-Math.log(random.uniform())));
    return { from: i * length, to: (i + 1) * length, right: i * length + noisy.indexOf(Math.max(...noisy)) };
  });
  expect(Math.abs(fitConditionalLogit({ width: 1, data }, choices, 1e-6)[0] - 2)).toBeLessThan(0.1);
});

test('the calibrated posterior is a distribution over each list, and knows the labelled ones', () => {
  const random = Random.of(4);
  const offsets = Array.from({ length: 201 }, (_, i) => 5 * i);
  const relevant = Array.from({ length: 1000 }, (_, c) => Number(c % 5 === 2));
  const scores = relevant.map((r) => r + random.normal());
  const second = relevant.map((r) => r + random.normal());
  const given = {
    teacher: { offsets, scores },
    second,
    labelled: { queries: Array.from({ length: 100 }, (_, i) => i), relevant },
  };
  const { targets = new Float32Array(0) } = weightings['calibrated-posterior']().weigh(given);
  for (let i = 0; i < 200; i++) {
    const own = Array.from(targets.subarray(5 * i, 5 * i + 5), Math.exp);
    expect(own.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
    if (i < 100) expect(own[2]).toBeCloseTo(0.999, 5);
  }
  const hits = (s: ArrayLike<number>) =>
    Array.from({ length: 100 }, (_, i) => Array.from(s).slice(5 * (100 + i), 5 * (101 + i))).filter(
      (l) => l.indexOf(Math.max(...l)) === 2,
    ).length;
  expect(hits(targets)).toBeGreaterThan(hits(scores));
});
