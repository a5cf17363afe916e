import { expect, test } from 'vitest';
import { GradientSum } from '../../../training/gradient-accumulation.ts';
import type { Parameter } from '../../../training/step/training-step.ts';
import { AdamWHost } from '../../../training/updates/adamw-host.ts';

const parameter = (name: string, dims: number[], data: number[], gradient?: number[]): Parameter => ({
  name,
  dims,
  table: gradient === undefined,
  data: Float32Array.from(data),
  gradient: gradient && Float32Array.from(gradient),
});

test("two steps are torch.optim.AdamW's", () => {
  // p = [[1, -2]], lr 0.1, betas (0.9, 0.999), eps 1e-8, weight_decay 0.1; gradients [[0.5, -1]], then [[-0.25, 3]].
  const p = parameter('w', [1, 2], [1, -2], [0.5, -1]);
  const optimizer = new AdamWHost([p], { weightDecay: 0.1 });
  expect(optimizer.step(0.1)).toBeCloseTo(Math.sqrt(1.25), 6);
  // First step: every number moves by lr against its gradient's sign, after the decay: 0.99 p -+ 0.1.
  expect(p.data[0]).toBeCloseTo(0.89, 6);
  expect(p.data[1]).toBeCloseTo(-1.88, 6);
  p.gradient?.set([-0.25, 3]);
  optimizer.step(0.1);
  const second = (at: number, g1: number, g2: number): number => {
    const m = (0.9 * 0.1 * g1 + 0.1 * g2) / (1 - 0.9 ** 2);
    const v = (0.999 * 0.001 * g1 ** 2 + 0.001 * g2 ** 2) / (1 - 0.999 ** 2);
    return 0.99 * at - (0.1 * m) / (Math.sqrt(v) + 1e-8);
  };
  expect(p.data[0]).toBeCloseTo(second(0.89, 0.5, -0.25), 6);
  expect(p.data[1]).toBeCloseTo(second(-1.88, -1, 3), 6);
});

test('rows of a table are added up, rows that nobody read decay alone, and chunks do not show', () => {
  const [count, width] = [1500, 7];
  const start = Array.from({ length: count * width }, (_, i) => Math.sin(i));
  const whole = new Array<number>(count * width).fill(0);
  const indices = [3, 1200, 3, -1, 585].map(BigInt);
  const rows = Float32Array.from({ length: indices.length * width }, (_, i) => Math.cos(i));
  for (const [i, index] of indices.entries())
    for (let k = 0; k < width; k++) whole[((Number(index) + count) % count) * width + k] += rows[i * width + k];
  const dense = parameter('t', [count, width], start, whole);
  const table = parameter('t', [count, width], start);
  const [a, b] = [new AdamWHost([dense], { clipNorm: 1 }), new AdamWHost([table], { clipNorm: 1 })];
  for (let step = 0; step < 2; step++) {
    table.rows = [
      { indices: BigInt64Array.from(indices.slice(0, 2)), rows: rows.subarray(0, 2 * width) },
      { indices: BigInt64Array.from(indices.slice(2)), rows: rows.subarray(2 * width) },
    ];
    expect(b.step(0.01)).toBeCloseTo(a.step(0.01), 5);
  }
  for (const [i, v] of table.data.entries()) expect(v).toBeCloseTo(dense.data[i], 6);
  expect(table.data[10]).toBeCloseTo(Math.sin(10) * (1 - 1e-4) ** 2, 6);
});

test('rows that have moments move on without a gradient, also where moments were put in place', () => {
  const [count, width] = [5, 3];
  const table = (): Parameter => parameter('t', [count, width], new Array(count * width).fill(1));
  const [whole, first, resumed] = [table(), table(), table()];
  const row = (index: bigint) => [{ indices: BigInt64Array.of(index), rows: Float32Array.of(1, 2, 3) }];
  const optimizers = [whole, first].map((p) => new AdamWHost([p]));
  for (const [i, p] of [whole, first].entries()) {
    p.rows = row(1n);
    optimizers[i].step(0.1);
  }
  const after = new AdamWHost([resumed]);
  // A step that sees no moments yet must not be remembered once others are put in place.
  resumed.rows = row(4n);
  after.step(0.1);
  resumed.data.set(first.data);
  for (const kind of ['first', 'second'] as const) {
    const own = optimizers[1].state.get('t')?.[kind] as Float32Array;
    after.state.get('t')?.[kind].set(own);
  }
  after.steps = 1;
  for (const [optimizer, p] of [
    [optimizers[0], whole],
    [after, resumed],
  ] as const) {
    p.rows = row(3n);
    optimizer.step(0.1);
  }
  expect([...resumed.data]).toEqual([...whole.data]);
  expect(whole.data[width]).toBeLessThan(first.data[width] - 0.01);
  expect(whole.data[0]).toBeCloseTo(0.999 ** 2, 6);
});

test('the norm is of the numbers that are there: none of a longer gradient before', () => {
  const long = parameter('a', [6], [0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]);
  const short = parameter('b', [5], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]);
  expect(new AdamWHost([long, short]).step(0.1)).toBeCloseTo(Math.sqrt(91 + 5), 10);
});

test('a non-finite gradient leaves weights and moments unchanged', () => {
  const p = parameter('w', [2], [1, 2], [1, Number.NaN]);
  const optimizer = new AdamWHost([p]);
  expect(optimizer.step(0.1)).toBeNaN();
  expect([...p.data]).toEqual([1, 2]);
  expect(optimizer.steps).toBe(0);
});

test('clipping scales the whole gradient to the norm, biases and scales do not decay by default', () => {
  const p = parameter('b', [2], [1, 1], [3, 4]);
  expect(new AdamWHost([p], { clipNorm: 1, weightDecay: 0.5, betas: [0, 0], eps: 1 }).step(0.1)).toBeCloseTo(5, 6);
  // With betas of 0, m = g and v = g^2 of the clipped gradient (0.6, 0.8): p - 0.1 g / (g + 1).
  expect(p.data[0]).toBeCloseTo(1 - 0.06 / 1.6, 5);
  expect(p.data[1]).toBeCloseTo(1 - 0.08 / 1.8, 5);
});

test('accumulated gradients are the mean of the batches', () => {
  const p = parameter('w', [1, 2], [0, 0], [0, 0]);
  const t = parameter('t', [3, 1], [0, 0, 0]);
  const sum = new GradientSum([p, t]);
  for (const [g, row] of [
    [[1, 2], 0n],
    [[3, -2], 2n],
  ] as const) {
    p.gradient?.set(g);
    t.rows = [{ indices: BigInt64Array.of(row), rows: Float32Array.of(g[0]) }];
    sum.add(0.5);
  }
  sum.finish();
  expect([...(p.gradient ?? [])]).toEqual([2, 0]);
  expect(t.rows?.map(({ indices, rows }) => [...indices, ...rows])).toEqual([
    [0n, 0.5],
    [2n, 1.5],
  ]);
});
