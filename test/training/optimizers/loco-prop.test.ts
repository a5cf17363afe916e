/** @file What LocoProp reads of a step, and where its two kinds are the same. */
import { expect, test } from 'vitest';
import { HostLearner } from '../../../training/host-learner.ts';
import { dualEncoderOnHost } from '../../../training/step/dual-encoder-step.ts';
import type { Parameter } from '../../../training/step/training-step.ts';
import { hostOptimizer } from '../../../training/updates/host-optimizer.ts';
import { batchOf, tinyStep } from '../tiny.ts';

test('a step gives the inputs of every product of tokens, without padding, and what stands before an activation', async () => {
  const step = await dualEncoderOnHost({ ...tinyStep(), products: true });
  const batch = batchOf(4);
  await step.run(batch);
  const products = step.parameters.filter((p) => p.product);
  expect(products.length).toBe(12);
  // The last document is the first again, and is encoded once.
  const [{ mask, length }] = batch.documents;
  const tokens = [...batch.queries.mask, ...mask.subarray(0, 3 * length)].filter(Boolean).length;
  for (const { name, dims, data, product, multiplied } of products) {
    expect(product?.link?.op).toBe(/intermediate/.test(name) ? 'Gelu' : undefined);
    const [outs, ins] = dims;
    const x = multiplied?.x.data as Float32Array;
    const rows = Array.from({ length: x.length / ins }, (_, r) => x.subarray(r * ins, (r + 1) * ins));
    const shown = rows.flatMap((row, r) => (row.some(Boolean) ? [r] : []));
    expect(shown.length).toBe(tokens);
    const before = multiplied?.before?.data as Float32Array | undefined;
    if (!before) continue;
    const bias = step.parameters.find((p) => p.name === name.replace('weight', 'bias'))?.data as Float32Array;
    for (const r of shown)
      for (let o = 0; o < outs; o++) {
        const sum = rows[r].reduce((s, v, i) => s + v * data[o * ins + i], bias[o]);
        expect(before[r * outs + o]).toBeCloseTo(sum, 4);
      }
  }
  await step.release();
});

test('without an activation both kinds are the same; inputs of zeros make ten steps of RMSprop, and no gradient none', async () => {
  const moved = async (optimizer: 'locoprop-s' | 'locoprop-m', scale: number, gradient: number) => {
    const p: Parameter = {
      name: 'w',
      dims: [2, 3],
      table: false,
      data: Float32Array.from([0.5, -1, 2, 1, 0, -0.3]),
      gradient: new Float32Array(6).fill(gradient),
      product: { turned: true },
      multiplied: {
        x: { dtype: 'float32', dims: [4, 3], data: Float32Array.from({ length: 12 }, (_, i) => scale * Math.cos(i)) },
      },
    };
    const own = hostOptimizer([p], { optimizer, weightDecay: 0 });
    await own.step(0.01);
    await own.release();
    return [...p.data];
  };
  expect(await moved('locoprop-m', 1, 0.2)).toEqual(await moved('locoprop-s', 1, 0.2));
  expect(await moved('locoprop-s', 1, 0)).toEqual([...Float32Array.from([0.5, -1, 2, 1, 0, -0.3])]);
  const [first] = await moved('locoprop-s', 0, 0.2);
  // All local gradients are 2: mean squares 4 (1 - 0.9^k).
  let expected = 0.5;
  for (let k = 1; k <= 10; k++)
    expected -= (0.01 * Math.max(1 - (k - 1) / 10, 0.25) * 2) / (Math.sqrt(4 * (1 - 0.9 ** k)) + 1e-5);
  expect(first).toBeCloseTo(expected, 5);
});

test('a training that gives no inputs is refused', async () => {
  const step = await dualEncoderOnHost(tinyStep());
  expect(() => new HostLearner(step, { optimizer: 'locoprop-s' })).toThrow(
    "'train.optimizer: locoprop-s' reads the inputs of an encoder's products, which this training does not give",
  );
  await step.release();
});
