/** @file What every optimizer must hold: a reference's figures, tables by rows, clipping, resumption, the device's graph. */
import { afterAll, describe, expect, test } from 'vitest';
import type { Tensor } from '../../../engine/graph/tensor.ts';
import { DeviceLearner } from '../../../training/device-learner.ts';
import { HostLearner, type Learner } from '../../../training/host-learner.ts';
import { type OptimizerName, type OptimizerOptions, optimizers } from '../../../training/optimizers/index.ts';
import { servedWeights } from '../../../training/optimizers/optimizer.ts';
import { dualEncoderOnHost, dualEncoderStep } from '../../../training/step/dual-encoder-step.ts';
import type { Parameter } from '../../../training/step/training-step.ts';
import { type HostOptimizer, hostOptimizer } from '../../../training/updates/host-optimizer.ts';
import { RuleHost } from '../../../training/updates/rule-host.ts';
import { batchOf, tinyStep } from '../tiny.ts';
import { reference } from './reference.ts';

const open: { release(): Promise<void> }[] = [];
afterAll(async () => {
  for (const one of open) await one.release();
});
const kept = <T extends { release(): Promise<void> }>(one: T): T => {
  open.push(one);
  return one;
};

const parameter = (name: string, dims: number[], at: (i: number) => number, table = false): Parameter => {
  const data = Float32Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => at(i));
  return { name, dims, table, data, gradient: table ? undefined : new Float32Array(data.length) };
};
const fill = (p: Parameter, at: (i: number) => number): void => {
  for (let i = 0; i < p.data.length; i++) (p.gradient as Float32Array)[i] = at(i);
};
const names = Object.keys(optimizers) as OptimizerName[];

test('every optimizer of the registry has reference values', () => {
  expect(Object.keys(reference).sort()).toEqual([...names].sort());
});

test("AdamW's CPU back end has the rule's figures to the last bit", async () => {
  const make = () => [parameter('w', [70, 600], (i) => Math.sin(i)), parameter('b', [5], (i) => Math.cos(i))];
  const [one, other] = [make(), make()];
  const settings = { weightDecay: 0.1, clipNorm: 1 };
  const kernel = hostOptimizer(one, settings);
  const rule = kept(new RuleHost(optimizers.adamw(settings), other, settings));
  for (let k = 0; k < 3; k++) {
    for (const p of [...one, ...other]) fill(p, (i) => Math.sin(0.7 * i + k));
    expect(await rule.step(0.05)).toBe(await kernel.step(0.05));
  }
  expect(other.map((p) => p.data)).toEqual(one.map((p) => p.data));
});

describe.each(names)('%s', (optimizer) => {
  const make = (parameters: Parameter[], settings: OptimizerOptions = {}): HostOptimizer =>
    kept(hostOptimizer(parameters, { optimizer, ...settings }));

  const { readsProducts: products } = optimizers[optimizer]();

  test("four steps are PyTorch's", async () => {
    const [plain, b] = [parameter('W', [3, 5], (i) => Math.sin(1 + i)), parameter('b', [5], (i) => Math.cos(i))];
    const W: Parameter = products ? { ...plain, product: { turned: false, link: { op: 'Gelu' } } } : plain;
    const own = make([W, b], { weightDecay: 0.1 });
    for (let k = 0; k < 4; k++) {
      fill(W, (i) => Math.sin(0.7 * i + k));
      fill(b, (i) => Math.cos(1.3 * i + 2 * k));
      const multiplied = (dims: number[], at: (i: number) => number) => ({
        ...parameter('', dims, at),
        dtype: 'float32' as const,
      });
      W.multiplied = {
        x: multiplied([4, 3], (i) => Math.sin(0.3 * i + k)),
        before: multiplied([4, 5], (i) => Math.cos(0.4 * i + k)),
      };
      await own.step(optimizer === 'schedule-free' && k === 0 ? 0.025 : 0.05);
    }
    const expected = reference[optimizer];
    const far = (a: ArrayLike<number>, other: number[]) => Math.max(...other.map((v, i) => Math.abs(v - a[i])));
    // Forty local steps round more often than four.
    expect(far(W.data, expected.W)).toBeLessThan(products ? 1e-5 : 2e-6);
    expect(far(b.data, expected.b)).toBeLessThan(2e-6);
    const rule = optimizers[optimizer]();
    const state = rule.served && own.state.get('W')?.[rule.served.state];
    expect(far(servedWeights(rule, W.data, state), expected.served ?? expected.W)).toBeLessThan(products ? 1e-5 : 2e-6);
  });

  test('a table whose gradient comes as rows moves as with a dense gradient, however large it is', async () => {
    const [count, width] = [300, 130]; // more numbers than one slice
    const [table, dense] = [
      parameter('t', [count, width], (i) => Math.sin(i), true),
      { ...parameter('t', [count, width], (i) => Math.sin(i)), table: true },
    ];
    const settings = { weightDecay: 0.1, clipNorm: 1 };
    const [a, b] = [make([table], settings), make([dense], settings)];
    for (let k = 0; k < 2; k++) {
      const rows = Float32Array.from({ length: 3 * width }, (_, i) => Math.cos(i + k));
      table.rows = [{ indices: BigInt64Array.of(7n, 299n, 7n), rows }];
      fill(dense, (i) => {
        const at = (row: number) => rows[row * width + (i % width)];
        const row = Math.floor(i / width);
        return row === 7 ? Math.fround(at(0) + at(2)) : row === 299 ? at(1) : 0;
      });
      expect(await a.step(0.01)).toBeCloseTo(await b.step(0.01), 6);
    }
    let far = 0;
    for (const [i, v] of table.data.entries()) far = Math.max(far, Math.abs(v - dense.data[i]));
    expect(far).toBeLessThan(1e-6);
  });

  test('a non-finite gradient changes neither weights nor state', async () => {
    const W = parameter('W', [3, 5], (i) => Math.sin(1 + i));
    const own = make([W]);
    fill(W, (i) => i);
    await own.step(0.05);
    const before = structuredClone([W.data, own.state, own.numbers]);
    fill(W, (i) => (i === 4 ? Number.NaN : i));
    expect(await own.step(0.05)).toBeNaN();
    expect([W.data, own.state, own.numbers]).toEqual(before);
    expect(own.steps).toBe(1);
  });

  test('gradients above the norm are scaled down to it', async () => {
    const [a, b] = [parameter('W', [3, 5], (i) => Math.sin(i)), parameter('W', [3, 5], (i) => Math.sin(i))];
    const [clipped, plain] = [make([a], { clipNorm: 1 }), make([b])];
    for (let k = 0; k < 2; k++) {
      fill(a, (i) => 4 + Math.sin(i + k));
      const norm = Math.hypot(...(a.gradient as Float32Array));
      expect(await clipped.step(0.05)).toBeCloseTo(norm, 4);
      fill(b, (i) => (4 + Math.sin(i + k)) / norm);
      await plain.step(0.05);
    }
    for (const [i, v] of a.data.entries()) expect(v).toBeCloseTo(b.data[i], 5);
  });

  const options: OptimizerOptions = { optimizer, weightDecay: 0.1, clipNorm: 1 };
  const rate = optimizer === 'sgd' ? 0.1 : optimizer === 'clipped-sgd' ? 0.5 : products ? 1e-3 : 3e-3;
  const host = async (): Promise<Learner> =>
    kept(new HostLearner(await dualEncoderOnHost({ ...tinyStep(), products }), options));
  const device = async (): Promise<Learner> =>
    kept(await DeviceLearner.create(await dualEncoderStep({ ...tinyStep(), products }, false), {}, options));

  test('the update inside the graph is the update outside', async () => {
    const [a, b] = [await host(), await device()];
    const start = await a.weights();
    for (let k = 0; k < 3; k++) {
      const [one, other] = [await a.step([batchOf(6, k)], k, rate), await b.step([batchOf(6, k)], k, rate)];
      expect(other.loss).toBeCloseTo(one.loss, 4);
      expect(other.gradientNorm / one.gradientNorm).toBeCloseTo(1, 3);
    }
    // Gradients that are zero but for rounding (the keys' bias) have a sign by chance.
    const [own, other] = [await a.weights(), await b.weights()];
    expect([...other.keys()].sort()).toEqual([...own.keys()].sort());
    let [far, moved] = [0, 0];
    for (const [name, { data }] of own) {
      if (name.includes('key.bias')) continue;
      const [there, before] = [other.get(name)?.data as Float32Array, start.get(name)?.data as Float32Array];
      for (let i = 0; i < data.length; i++) {
        far += (Number(data[i]) - there[i]) ** 2;
        moved += (Number(data[i]) - before[i]) ** 2;
      }
    }
    expect(moved).toBeGreaterThan(0);
    expect(Math.sqrt(far / moved)).toBeLessThan(optimizer === 'lion' ? 0.05 : 2e-3);
  });

  test.each([
    ['host', host],
    ['device', device],
  ] as const)('saved and restored on the %s, it goes on to the bit', async (_, open) => {
    const whole = await open();
    for (let k = 0; k < 2; k++) await whole.step([batchOf(6, k)], k, rate);
    const saved = new Map([...(await whole.state())].map(([n, t]) => [n, { ...t, data: t.data.slice() } as Tensor]));
    const again = await open();
    await again.restore(saved, whole.updates);
    for (const learner of [whole, again]) await learner.step([batchOf(6, 2)], 2, rate);
    expect(await again.weights()).toEqual(await whole.weights());
    expect(await again.state()).toEqual(await whole.state());
  });

  test('it learns', async () => {
    const learner = await host();
    const losses: number[] = [];
    for (let k = 0; k < 30; k++) losses.push((await learner.step([batchOf(6)], k, rate)).loss);
    expect(losses.at(-1)).toBeLessThan(0.7 * losses[0]);
  });
});
