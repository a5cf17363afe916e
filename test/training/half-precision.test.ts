import { expect, test } from 'vitest';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { castFloat, castHalf, floatsOf, tensor } from '../../engine/graph/tensor.ts';
import { onnxType } from '../../engine/io/onnx-file.ts';
import { Session } from '../../engine/runtime/session.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { afterFinite, afterOverflow, GROWS_AFTER, lossScaleOf, smallScale } from '../../training/loss-scale.ts';
import { type DualEncoderStepOptions, dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import { emitGradients } from '../../training/step/single-run.ts';
import { LOSS_SCALE, wantedFeeds } from '../../training/step/training-step.ts';
import { batchOf, tinyStep } from './tiny.ts';

const adamw = { weightDecay: 0.1, clipNorm: 1 };
/** As CUDA trains: the same loop, on the processor here, which casts where it has no kernel of float16. */
const learner = async (options: Partial<DualEncoderStepOptions> = {}) =>
  DeviceLearner.create(await dualEncoderStep({ ...tinyStep(), ...options }, false), {}, adamw, {
    loops: true,
    accumulates: true,
  });

/** Loss and gradients of a step, by weight: rows of tables as rows. */
async function gradientsOf(options: Partial<DualEncoderStepOptions>, batch = batchOf(6)) {
  const scale = 16;
  const step = await dualEncoderStep({ ...tinyStep(), groups: 1, ...options }, false);
  const { dense, rows } = emitGradients(step.graph, step.gradients);
  if (options.precision === 'bfloat16') inRoundedFloat32(step.graph);
  const session = await Session.load(step.graph, { threads: 1, optimize: 'disabled' });
  const extra = { [LOSS_SCALE]: { dtype: 'float32', dims: [1], data: Float32Array.of(scale) } } as const;
  const results = await session.run(
    wantedFeeds(session.inputs, Object.fromEntries(step.start), step.feeds(batch, 0), extra),
  );
  await session.release();
  const factor = step.scaled ? 1 / scale : 1;
  const numbers = (output: string) => Float64Array.from(results[output].data as Float32Array, (x) => x * factor);
  const all = [
    ...dense,
    ...[...rows].flatMap(([name, parts]) => parts.map((p, i) => [`${name}/${i}`, p.rows] as const)),
  ];
  return {
    loss: Number(results[step.total].data[0]),
    gradients: new Map(all.map(([name, output]) => [name, numbers(output)])),
  };
}

/** Every value of bfloat16 as float32 rounded to it: the processor has no other kernels of bfloat16 than Cast. */
function inRoundedFloat32(graph: Graph): void {
  for (const v of graph.constants) if (v.constant?.dtype === 'bfloat16') v.constant = castFloat(v.constant, 'float32');
  for (const node of [...graph.nodes]) {
    if (node.op === 'Cast' && node.outputs[0].dtype === 'bfloat16')
      node.attributes.set('to', { kind: 'int', value: onnxType('float32') });
    for (const v of node.outputs) {
      if (v.dtype !== 'bfloat16') continue;
      const readers = [...v.readers];
      const rounded = new Expr(graph, v).cast('bfloat16').cast('float32').value;
      for (const reader of readers) reader.replaceInput(v, rounded);
    }
  }
  for (const v of graph.values().values()) if (v.producer) [v.dtype, v.dims] = [undefined, undefined];
  graph.sort();
}

const norm = (x: ArrayLike<number>): number => Math.sqrt(Array.from(x).reduce((s, v) => s + v * v, 0));

/** The largest distance of a gradient from its twin, as a share of its norm. */
function apart(a: Awaited<ReturnType<typeof gradientsOf>>, b: typeof a): number {
  expect([...b.gradients.keys()]).toEqual([...a.gradients.keys()]);
  // The keys' bias has no gradient but rounding.
  const own = [...a.gradients].filter(([name]) => !name.endsWith('key.bias'));
  expect(own.length).toBeGreaterThan(10);
  return Math.max(...own.map(([name, g]) => norm(g.map((v, i) => v - (b.gradients.get(name)?.[i] ?? 0))) / norm(g)));
}

test.each([
  ['the mean of the tokens', {}],
  ['with dropout, whose factor stands between softmax and product', { dropout: 0.1 }],
  ['the first layer frozen', { freeze: ['embeddings', 0] as never }],
  ['the vector of the first token', { pooling: 'cls' as const }],
])('losses and gradients in float16 are within a hundredth of those in float32: %s', async (_, options) => {
  const [one, other] = [await gradientsOf(options), await gradientsOf({ ...options, precision: 'float16' })];
  expect(Math.abs(other.loss / one.loss - 1)).toBeLessThan(2e-3);
  const most = apart(one, other);
  expect(most).toBeLessThan(1e-2);
  // And they are not float32's own.
  expect(most).toBeGreaterThan(1e-5);
});

test('in bfloat16, whose steps are eight times as large, within a twentieth', async () => {
  const most = apart(await gradientsOf({}), await gradientsOf({ precision: 'bfloat16' }));
  expect(most).toBeLessThan(5e-2);
  expect(most).toBeGreaterThan(2e-3);
});

test.each(['cuda', 'webgpu'] as const)('gradients in the forms for %s are the same, in float32', async (forms) => {
  for (const dropout of [undefined, 0.1])
    expect(apart(await gradientsOf({ dropout }), await gradientsOf({ dropout, forms }))).toBeLessThan(1e-4);
});

test('a text that is all padding gives numbers, though masks are written with the lowest float32', async () => {
  const batch = batchOf(6);
  batch.queries.mask.fill(0n, 0, batch.queries.length);
  const { loss, gradients } = await gradientsOf({ precision: 'float16' }, batch);
  for (const g of [[loss], ...gradients.values()]) expect(Array.from(g).every(Number.isFinite)).toBe(true);
});

test('every value has the type that its readers take: bfloat16', async () => {
  // The processor has no kernels of bfloat16; types are checked before kernels are looked for.
  const options = { ...tinyStep(), groups: 2, dropout: 0.1, precision: 'bfloat16' } as const;
  const { graph, gradients } = await dualEncoderStep(options, false);
  emitGradients(graph, gradients);
  for (const v of graph.values().values()) if (v.producer) [v.dtype, v.dims] = [undefined, undefined];
  await expect(Session.load(graph, { threads: 1 })).rejects.toThrow(
    /Could not find an implementation|Kernel not found/,
  );
});

test('numbers are rounded to the nearest of bfloat16, ties to even, and stay below the largest', () => {
  const given = tensor('float32', [5], [1, 1.00390625, 1.01171875, -3.4e38, 0.1]);
  expect([...floatsOf(castHalf(given, 'bfloat16', 1e38))]).toEqual([
    1,
    1,
    1.015625,
    expect.closeTo(-1e38, -36),
    expect.closeTo(0.1, 3),
  ]);
});

test('steps in float16 follow those in float32; a step that overflows is made again with half of the scale', async () => {
  const [one, other] = [await learner(), await learner({ precision: 'float16' })];
  for (let k = 0; k < 3; k++) {
    const [a, b] = [await one.step([batchOf(6, k)], k, 1e-3), await other.step([batchOf(6, k)], k, 1e-3)];
    expect(Math.abs(b.loss / a.loss - 1)).toBeLessThan(1e-2);
    expect(Math.abs(b.gradientNorm / a.gradientNorm - 1)).toBeLessThan(2e-2);
    expect(b.note).toBeUndefined();
  }
  expect(other.updates).toBe(3);
  const state = await other.state();
  const scale = Number(state.get('number:lossScale')?.data[0]);
  // The gradient of the table of types, a sum over all tokens, is about 150 here.
  expect(scale).toBeLessThan(2 ** 10);
  expect(Math.log2(scale) % 1).toBe(0);
  await Promise.all([one.release(), other.release()]);
});

test('in one call or in several, stopped and resumed, with several batches a step: the same weights to the bit', async () => {
  const batches = [0, 1, 2].map((k) => [batchOf(4, k), batchOf(5, k + 3)]);
  const rates = [1e-3, 2e-3, 1e-3];
  const whole = await learner({ precision: 'float16' });
  expect(await whole.steps(async (k) => batches[k], 0, rates)).toHaveLength(3);
  const half = await learner({ precision: 'float16' });
  await half.steps(async (k) => batches[k], 0, rates.slice(0, 2));
  const saved = new Map([...(await half.state())].map(([n, t]) => [n, { ...t, data: t.data.slice() } as Tensor]));
  const again = await learner({ precision: 'float16' });
  await again.restore(saved, half.updates);
  await again.step(batches[2], 4, rates[2]);
  expect(await again.weights()).toEqual(await whole.weights());
  expect((await again.state()).get('number:lossScaleSteps')?.data[0]).toBe(3);
  await Promise.all([whole.release(), half.release(), again.release()]);
});

test('a loss that is not a number is reported, not repeated; no weight changes', async () => {
  const own = await learner({ precision: 'float16' });
  const before = await own.weights();
  const bad = batchOf(6);
  (bad.weights.data as Float32Array)[0] = Number.NaN;
  const [step, ...others] = await own.steps(async (k) => [k ? batchOf(6, 1) : bad], 0, [1e-3, 1e-3]);
  expect(others).toEqual([]);
  expect(step.loss).toBeNaN();
  expect(own.updates).toBe(0);
  expect((await own.state()).has('number:lossScale')).toBe(false);
  expect(await own.weights()).toEqual(before);
  await own.release();
});

test('a gradient that no scale makes finite is reported, and the scale is as before', async () => {
  const own = await learner({ precision: 'float16' });
  await own.step([batchOf(6)], 0, 1e-3);
  const numbers = async () =>
    [...(await own.state())].filter(([n]) => n.startsWith('number:')).map(([, t]) => t.data[0]);
  const before = await numbers();
  // With weights of 1e30 the loss is a number and its gradient is not, whatever the scale.
  const bad = batchOf(6, 1);
  (bad.weights.data as Float32Array).fill(1e30);
  const [step] = await own.steps(async () => [bad], 1, [1e-3]);
  expect(Number.isFinite(step.loss)).toBe(true);
  expect(Number.isFinite(step.gradientNorm)).toBe(false);
  expect(own.updates).toBe(1);
  expect(await numbers()).toEqual(before);
  await own.release();
});

test('the scale grows after two thousand steps, halves with an overflow down to 1, and progress hears of a small one', () => {
  let numbers = {};
  expect(lossScaleOf(numbers)).toBe(65_536);
  for (let k = 0; k < GROWS_AFTER - 1; k++) numbers = afterFinite(numbers);
  expect(lossScaleOf(numbers)).toBe(65_536);
  numbers = afterFinite(numbers);
  expect(numbers).toEqual({ lossScale: 131_072, lossScaleSteps: 0 });
  const said: (string | undefined)[] = [];
  for (let next = afterOverflow(numbers); next; next = afterOverflow(next)) {
    numbers = next;
    said.push(smallScale(next));
  }
  expect(lossScaleOf(numbers)).toBe(1);
  expect(said.filter(Boolean)).toEqual([
    'gradients overflow in float16, the loss is scaled by 64 only: small gradients are lost; train.precision bfloat16 has the range of float32',
  ]);
});

test('an optimizer that reads the products is refused', async () => {
  await expect(dualEncoderStep({ ...tinyStep(), products: true, precision: 'float16' }, false)).rejects.toThrow(
    "an optimizer that reads the products' inputs does not train in float16",
  );
});
