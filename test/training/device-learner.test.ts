import { expect, test } from 'vitest';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner, type Learner } from '../../training/host-learner.ts';
import { dualEncoderOnHost, dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import { batchOf, tinyStep } from './tiny.ts';

const adamw = { weightDecay: 0.1, clipNorm: 1 };
const host = async (): Promise<Learner> => new HostLearner(await dualEncoderOnHost(tinyStep()), adamw);
const device = (): Promise<Learner> =>
  dualEncoderStep(tinyStep(), false).then((step) => DeviceLearner.create(step, {}, adamw));

function expectSame(a: ReadonlyMap<string, Tensor>, b: ReadonlyMap<string, Tensor>, digits: number): void {
  expect([...a.keys()].sort()).toEqual([...b.keys()].sort());
  for (const [name, { data }] of a) {
    const other = b.get(name)?.data as Float32Array;
    let most = 0;
    for (let i = 0; i < data.length; i++) most = Math.max(most, Math.abs(Number(data[i]) - other[i]));
    expect(most, name).toBeLessThan(10 ** -digits);
  }
}

test('the update inside the graph is the update outside: decay, clipping, rows of tables', async () => {
  const [a, b] = [await host(), await device()];
  for (let k = 0; k < 4; k++) {
    const [one, other] = [await a.step([batchOf(6, k)], k, 1e-2), await b.step([batchOf(6, k)], k, 1e-2)];
    expect(other.loss).toBeCloseTo(one.loss, 4);
    expect(other.gradientNorm / one.gradientNorm).toBeCloseTo(1, 4);
  }
  // Adam divides rounding by rounding where a gradient is zero by symmetry (the keys' bias): those move by chance.
  const steady = (w: ReadonlyMap<string, Tensor>) => new Map([...w].filter(([name]) => !name.includes('key.bias')));
  expectSame(steady(await b.weights()), steady(await a.weights()), 3);
  await Promise.all([a.release(), b.release()]);
});

test.each([
  ['host', host],
  ['device', device],
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

test('a gradient that is not finite changes no weight on the device', async () => {
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
