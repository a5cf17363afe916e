/** @file Relative clipping: its threshold, PyTorch's figures where it cuts, and the norm of weights at equilibrium. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../../config/parse.ts';
import { Random } from '../../../math/random.ts';
import { clippedSGD } from '../../../training/optimizers/clipped-sgd.ts';
import { hostOptimizer } from '../../../training/updates/host-optimizer.ts';

const settings = { optimizer: 'clipped-sgd' as const, weightDecay: 0.01 };

test('the threshold is 2 sqrt(2 decay / lr), also at a rate of 0', () => {
  const most = (rate: number): number => clippedSGD({ weightDecay: 0.01 }).factors(1, rate, {}).most;
  expect(most(0.1)).toBeCloseTo(2 * 0.447214, 5);
  expect(most(0)).toBeLessThan(Number.POSITIVE_INFINITY);
});

// Made with PyTorch 2.13 as test/training/optimizers/reference.ts, with a weight decay of 1e-4: every step is cut to about 0.13.
test("where it cuts, four steps are PyTorch's", async () => {
  const [W, b] = [
    { name: 'W', dims: [3, 5], table: false, data: Float32Array.from({ length: 15 }, (_, i) => Math.sin(1 + i)) },
    { name: 'b', dims: [5], table: false, data: Float32Array.from({ length: 5 }, (_, i) => Math.cos(i)) },
  ].map((p) => ({ ...p, gradient: new Float32Array(p.data.length) }));
  const own = hostOptimizer([W, b], { ...settings, weightDecay: 1e-4 });
  for (let k = 0; k < 4; k++) {
    W.gradient.set(Float32Array.from({ length: 15 }, (_, i) => Math.sin(0.7 * i + k)));
    b.gradient.set(Float32Array.from({ length: 5 }, (_, i) => Math.cos(1.3 * i + 2 * k)));
    await own.step(0.05);
  }
  await own.release();
  const expected = {
    W: [
      0.8291932, 0.8993856, 0.1382439, -0.7512888, -0.9476209, -0.2676471, 0.6636826, 0.9878384, 0.4031067, -0.5562828,
      -1.0097399, -0.5392342, 0.425841, 1.0019519, 0.6619762,
    ],
    b: [0.9936179, 0.5376828, -0.4111662, -0.9847084, -0.6557973],
  };
  for (const [i, v] of expected.W.entries()) expect(Math.abs(W.data[i] - v)).toBeLessThan(2e-6);
  for (const [i, v] of expected.b.entries()) expect(Math.abs(b.data[i] - v)).toBeLessThan(2e-6);
});

test('gradients of a scale-invariant loss bring |theta|^4 to lr sigma^2 / (decay (2 - lr decay))', async () => {
  const random = Random.of(0, 'gradients');
  const data = Float32Array.from({ length: 64 }, () => 0.125);
  const p = { name: 'W', dims: [8, 8], table: false, data, gradient: new Float32Array(64) };
  const own = hostOptimizer([p], settings);
  let fourth = 0;
  for (let k = 0; k < 4000; k++) {
    // Orthogonal to the weights, of length 1 / |theta|.
    const drawn = Float64Array.from({ length: 64 }, () => random.normal());
    const norm = Math.hypot(...data);
    const along = drawn.reduce((s, v, i) => s + v * data[i], 0) / norm ** 2;
    const free = drawn.map((v, i) => v - along * data[i]);
    const length = Math.hypot(...free);
    p.gradient.set(free.map((v) => v / length / norm));
    await own.step(0.1);
    if (k === 3999) fourth = Math.hypot(...data) ** 4;
  }
  await own.release();
  expect(fourth).toBeCloseTo(0.1 / (0.01 * (2 - 0.001)), 1);
});

test('without weight decay, or a learning rate, it is refused', () => {
  const config = (train: object) => () =>
    parseConfig({ data: { path: 'data' }, student: { model: 'model' }, train: { optimizer: 'clipped-sgd', ...train } });
  expect(config({})).toThrow("has no learning rate by default; give 'train.learningRate', some thousands of times");
  expect(config({ learningRate: 1, weightDecay: 0 })).toThrow('which is 0');
  expect(config({ learningRate: 1 })().train).toMatchObject({ optimizer: 'clipped-sgd', weightDecay: 0.01 });
});
