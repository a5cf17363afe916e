import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner, type Learner } from '../../training/host-learner.ts';
import { dualEncoderOnHost, dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import { train } from '../../training/trainer.ts';
import { batchOf, tinyStep } from './tiny.ts';

const adamw = { weightDecay: 0.1, clipNorm: 1 };
const host = async (): Promise<Learner> => new HostLearner(await dualEncoderOnHost(tinyStep()), adamw);
const device = (): Promise<Learner> =>
  dualEncoderStep(tinyStep(), false).then((step) => DeviceLearner.create(step, {}, adamw));
/** As CUDA trains: the same loop, on the processor here. */
const loop = (): Promise<Learner> =>
  dualEncoderStep(tinyStep(), false).then((step) =>
    DeviceLearner.create(step, {}, adamw, { loops: true, accumulates: true }),
  );

const from =
  <B>(batches: readonly B[]) =>
  async (k: number): Promise<B> =>
    batches[k];

function expectSame(a: ReadonlyMap<string, Tensor>, b: ReadonlyMap<string, Tensor>, digits: number): void {
  expect([...a.keys()].sort()).toEqual([...b.keys()].sort());
  for (const [name, { data }] of a) {
    const other = b.get(name)?.data as Float32Array;
    let most = 0;
    for (let i = 0; i < data.length; i++) most = Math.max(most, Math.abs(Number(data[i]) - other[i]));
    expect(most, name).toBeLessThan(10 ** -digits);
  }
}

test.each([
  ['resident', device],
  ['loop', loop],
] as const)(
  'the update inside the graph is the update outside: decay, clipping, rows of tables (%s)',
  async (_, make) => {
    const [a, b] = [await host(), await make()];
    for (let k = 0; k < 4; k++) {
      const [one, other] = [await a.step([batchOf(6, k)], k, 1e-2), await b.step([batchOf(6, k)], k, 1e-2)];
      expect(other.loss).toBeCloseTo(one.loss, 4);
      expect(other.gradientNorm / one.gradientNorm).toBeCloseTo(1, 4);
    }
    // Adam divides rounding by rounding where a gradient is zero by symmetry (the keys' bias): those move by chance.
    const steady = (w: ReadonlyMap<string, Tensor>) => new Map([...w].filter(([name]) => !name.includes('key.bias')));
    expectSame(steady(await b.weights()), steady(await a.weights()), 3);
    await Promise.all([a.release(), b.release()]);
  },
);

test.each([
  ['host', host],
  ['device', device],
  ['loop', loop],
] as const)('saved and restored, training on the %s goes on to the bit', async (_, make) => {
  const whole = await make();
  for (let k = 0; k < 2; k++) await whole.step([batchOf(6, k)], k, 1e-2);
  const saved = new Map([...(await whole.state())].map(([n, t]) => [n, { ...t, data: t.data.slice() } as Tensor]));
  const again = await make();
  await again.restore(saved, whole.updates);
  for (const learner of [whole, again]) await learner.step([batchOf(6, 2)], 2, 1e-2);
  expect(await again.weights()).toEqual(await whole.weights());
  await Promise.all([whole.release(), again.release()]);
});

test('a non-finite gradient changes no weight on the device', async () => {
  const learner = await device();
  const before = await learner.weights();
  const batch = batchOf(6);
  (batch.weights.data as Float32Array)[0] = Number.NaN;
  const { gradientNorm } = await learner.step([batch], 0, 1e-2);
  expect(gradientNorm).toBeNaN();
  expect(learner.updates).toBe(0);
  expect(await learner.weights()).toEqual(before);
  await learner.release();
});

test.each([
  ['device', device],
  ['loop', loop],
] as const)('several steps in one call are the steps one by one, to the bit, in any shapes (%s)', async (_, make) => {
  const [one, many] = [await make(), await make()];
  const batches = [6, 4, 5, 6, 3].map((n, k) => [batchOf(n, k)]);
  const rates = [1e-2, 5e-3, 1e-3, 5e-3, 1e-2];
  const alone = [];
  for (const [k, batch] of batches.entries()) alone.push(await one.step(batch, k, rates[k]));
  const together = [
    ...((await many.steps?.(from(batches), 0, rates.slice(0, 2))) ?? []),
    ...((await many.steps?.(from(batches.slice(2)), 2, rates.slice(2))) ?? []),
  ];
  expect(together).toEqual(alone);
  expect(many.updates).toBe(5);
  expect(await many.state()).toEqual(await one.state());
  await Promise.all([one.release(), many.release()]);
});

test.each([
  ['device', device],
  ['loop', loop],
] as const)(
  'a call ends with the step whose gradient is not finite; those after it change nothing (%s)',
  async (_, make) => {
    const [learner, other] = [await make(), await make()];
    const batches = [0, 1, 2, 3].map((k) => [batchOf(6, k)]);
    (batches[2][0].weights.data as Float32Array)[0] = Number.NaN;
    const made = await learner.steps?.(from(batches), 0, [1e-2, 1e-2, 1e-2, 1e-2]);
    expect(made?.map((s) => Number.isFinite(s.gradientNorm))).toEqual([true, true, false]);
    expect(learner.updates).toBe(2);
    for (const k of [0, 1]) await other.step(batches[k], k, 1e-2);
    expect(await learner.state()).toEqual(await other.state());
    // The next call goes on as if that step had not been.
    await learner.steps?.(from(batches.slice(3)), 3, [1e-2]);
    await other.step(batches[3], 3, 1e-2);
    expect(await learner.state()).toEqual(await other.state());
    await Promise.all([learner.release(), other.release()]);
  },
);

test.each([
  ['device', device],
  ['loop', loop],
] as const)(
  "a draw that fails ends a call after the steps before it, and is the next call's error (%s)",
  async (_, make) => {
    const [learner, other] = [await make(), await make()];
    const batches = [0, 1, 2].map((k) => [batchOf(4, k)]);
    let fails = true;
    const draw = (after: number) => async (k: number) => {
      if (after + k === 2 && fails) throw new Error('no such text');
      return batches[after + k];
    };
    expect(await learner.steps?.(draw(0), 0, [1e-2, 1e-2, 1e-2])).toHaveLength(2);
    expect(learner.updates).toBe(2);
    await expect(learner.steps?.(draw(2), 2, [1e-2])).rejects.toThrow('no such text');
    fails = false;
    await learner.steps?.(draw(2), 2, [1e-2]);
    for (const [k, batch] of batches.entries()) await other.step(batch, k, 1e-2);
    expect(await learner.state()).toEqual(await other.state());
    await Promise.all([learner.release(), other.release()]);
  },
);

const schedule = { learningRate: 1e-2, warmupSteps: 0, totalSteps: 6, finalShare: 0.1 };

test('stopped by a draw in the middle of a call and resumed: the same bytes', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'device-learner-'));
  const run = async (stopAt?: number) => {
    const control = new AbortController();
    const learner = await device();
    (learner as { ahead: number }).ahead = 4;
    const draw = async (k: number) => {
      if (k === stopAt) control.abort(new Error('stopped'));
      control.signal.throwIfAborted();
      return batchOf(4, k);
    };
    const own = stopAt === undefined ? {} : { stateFolder: folder };
    const hooks = stopAt === undefined ? {} : { signal: control.signal };
    try {
      return await train(learner, { draw }, { schedule, saveEvery: 100 }, { key: {}, ...own, ...hooks });
    } finally {
      await learner.release();
    }
  };
  try {
    const whole = await run();
    await expect(run(3)).rejects.toThrow('stopped');
    const again = await device();
    const batches = { draw: async (k: number) => (k < 3 ? Promise.reject(new Error('again')) : batchOf(4, k)) };
    const resumed = await train(again, batches, { schedule, saveEvery: 100 }, { key: {}, stateFolder: folder });
    expect(resumed.weights).toEqual(whole.weights);
    await again.release();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test.each([
  ['device', device],
  ['loop', loop],
] as const)(
  'two bad batches, one after the other, are two skipped steps and no fault of the device (%s)',
  async (_, make) => {
    const learner = await make();
    const draw = async (k: number) => {
      const batch = batchOf(4, k);
      if (k === 1 || k === 2) (batch.weights.data as Float32Array)[0] = Number.NaN;
      return batch;
    };
    expect((await train(learner, { draw }, { schedule, onNonFinite: 'skip' })).skipped).toBe(2);
    expect(learner.updates).toBe(4);
    await learner.release();
  },
);

test.each([
  ['resident', { accumulates: true }],
  ['loop', { accumulates: true, loops: true }],
] as const)('several batches make one step by their mean gradient (%s)', async (_, how) => {
  const learner = await DeviceLearner.create(await dualEncoderStep(tinyStep(), false), {}, adamw, how);
  const other = await host();
  const batches = [batchOf(6, 0), batchOf(5, 1), batchOf(6, 2)];
  for (const k of [0, 1]) {
    const [a, b] = [await learner.step(batches, 3 * k, 1e-2), await other.step(batches, 3 * k, 1e-2)];
    expect(a.loss).toBeCloseTo(b.loss, 4);
    expect(a.gradientNorm / b.gradientNorm).toBeCloseTo(1, 3);
  }
  expect(learner.updates).toBe(2);
  const before = await learner.weights();
  const bad = batchOf(6, 3);
  (bad.weights.data as Float32Array)[0] = Number.NaN;
  expect((await learner.step([bad, batches[1]], 6, 1e-2)).gradientNorm).toBeNaN();
  expect(await learner.weights()).toEqual(before);
  expect((await learner.step(batches, 8, 1e-2)).gradientNorm).toBeGreaterThan(0);
  await Promise.all([learner.release(), other.release()]);
});
