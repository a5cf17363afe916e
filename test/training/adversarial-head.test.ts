/** @file DAFT's layer: moved features against their definition, the checks of its specification, and what training does. */
import { describe, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import {
  adversarialHead,
  adversarialScores,
  cleanScores,
  type FeatureLists,
  type LinearHead,
  labelLoss,
  lengthOf,
} from '../../training/adversarial-head.ts';

const D = 5;
const lists = (seed: number, n = 40, each = 4): FeatureLists => {
  const random = Random.of(seed);
  const features = Float32Array.from({ length: n * each * D }, () => random.normal());
  const labels = new Float32Array(n * each);
  for (let i = 0; i < n; i++) labels[i * each] = 1;
  // The last list has two positives.
  labels[(n - 1) * each] = labels[(n - 1) * each + 1] = 0.5;
  return { dimensions: D, features, offsets: Int32Array.from({ length: n + 1 }, (_, i) => i * each), labels };
};
const head = { weight: Float64Array.of(1, -0.5, 0.25, 0, 2), bias: 0.3 };
const options = { epsilon: 0.5, steps: 60, learningRate: 0.01 };

test('features move by epsilon along the gradient of the label loss, each its own', () => {
  const all = lists(1);
  const epsilon = 0.7;
  const moved = adversarialScores(all, head, epsilon);
  const clean = cleanScores(all, head);
  const h = 1e-5;
  for (const pair of [0, 1, 6, 156, 157, 159]) {
    // The gradient of the loss with respect to the pair's features, by differences.
    const gradient = Float64Array.from({ length: D }, (_, k) => {
      const at = (sign: number) =>
        labelLoss(
          clean.map((z, j) => (j === pair ? z + sign * h * head.weight[k] : z)),
          all,
        );
      return (at(1) - at(-1)) / (2 * h);
    });
    const length = lengthOf(gradient);
    const r = gradient.map((g) => (epsilon * g) / length);
    expect(lengthOf(r)).toBeCloseTo(epsilon, 9);
    expect(moved[pair]).toBeCloseTo(clean[pair] + r.reduce((s, x, k) => s + x * head.weight[k], 0), 6);
  }
});

describe('the checks of the method', () => {
  test('with epsilon 0 the teacher and its scores stay as they are: plain distillation', () => {
    const all = lists(2);
    expect(adversarialHead(all, head, { ...options, epsilon: 0 })).toEqual(head);
    expect(adversarialScores(all, head, 0)).toEqual(cleanScores(all, head));
  });

  test.each([0.01, 0.5, 5])('the adversarial loss is at least the clean one, epsilon %d', (epsilon) => {
    for (let seed = 0; seed < 5; seed++) {
      const all = lists(seed);
      expect(labelLoss(adversarialScores(all, head, epsilon), all)).toBeGreaterThan(
        labelLoss(cleanScores(all, head), all),
      );
    }
  });
});

test('training brings the scores of moved features nearer to the distribution of the teacher', () => {
  const all = lists(3);
  const softmax = (z: Float64Array) =>
    Float64Array.from(z, (_, j) => {
      const from = j - (j % 4);
      const e = [0, 1, 2, 3].map((k) => Math.exp(z[from + k]));
      return e[j - from] / e.reduce((a, b) => a + b);
    });
  const target = softmax(cleanScores(all, head));
  const away = (own: LinearHead) => {
    const q = softmax(adversarialScores(all, own, options.epsilon));
    return target.reduce((s, p, j) => s + p * Math.log(p / q[j]), 0) / 40;
  };
  const trained = adversarialHead(all, head, options);
  expect(away(trained)).toBeLessThan(0.9 * away(head));
  expect(trained.bias).toBe(head.bias);
});
