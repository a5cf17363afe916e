import { describe, expect, test } from 'vitest';
import { type DifferentiateOptions, differentiate } from '../../../engine/autodiff/differentiate.ts';
import { rules } from '../../../engine/autodiff/rules.ts';
import { constant, Expr } from '../../../engine/expressions/expr.ts';
import { type AttributeInput, float, Graph, type Value } from '../../../engine/graph/ir.ts';
import { sizeOf, type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { toDouble } from '../../../engine/passes/to-float64.ts';
import { probe } from '../../../engine/runtime/infer-shapes.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { Random } from '../../../math/random.ts';
import { type Input, type Size, type Use, uses } from './cases.ts';

const sizes = [{ B: 2, L: 4, N: 5 }, { B: 3, L: 6, N: 7 }] as const; // biome-ignore format: one line
type Feeds = Record<string, Tensor>;

/** sum(weights * outputs) of one operator, in float64, with the gradient of every float input. */
async function built(op: string, use: Use, dynamic: boolean, form: DifferentiateOptions, random: Random) {
  const graph = new Graph(20);
  graph.float = 'float64';
  const size = (k: 0 | 1) => (d: Size) => (typeof d === 'number' ? d : sizes[dynamic ? k : 0][d]);
  const feeds: [Feeds, Feeds] = [{}, {}];
  const parameters: Value[] = [];
  const fed = (
    dims: readonly Size[],
    dtype: 'float64' | 'int64' | 'bool',
    draw: (dims: number[], k: 0 | 1) => number[],
  ) => {
    const shown = dims.map((d) => (typeof d === 'number' || !dynamic ? size(0)(d) : d));
    const value = graph.input(`x${graph.inputs.length}`, dtype, shown);
    for (const k of [0, 1] as const) {
      const own = dims.map(size(k));
      feeds[k][value.name] = tensor(dtype, own, draw(own, k));
    }
    return value;
  };
  const uniform = (n: number, from: number, to: number): number[] =>
    Array.from({ length: n }, () => from + (to - from) * random.uniform());
  const input = (given: Input): Value | null => {
    if (!given) return null;
    if ('number' in given) return constant(graph, 'float64', [], [given.number]).value;
    if ('ints' in given) return constant(graph, 'int64', given.dims ?? [given.ints.length], given.ints).value;
    if ('mask' in given) return fed(given.mask, 'bool', (dims) => uniform(sizeOf(dims), 0, 2).map(Math.floor));
    if ('index' in given)
      return fed(given.index, 'int64', (dims, k) => {
        const below = size(k)(given.below);
        return uniform(sizeOf(dims), -below, below).map(Math.floor);
      });
    const value = fed(given.float, 'float64', (dims) => uniform(sizeOf(dims), given.from ?? -2, given.to ?? 2));
    parameters.push(value);
    return value;
  };
  const outputs = graph.addMany(op, use.inputs.map(input), use.outputs ?? 1, use.attributes, { domain: use.domain });
  // Weights that differ from element to element, whatever the output's shape: sin(1), sin(2), ...
  const shown = op === 'TopK' ? outputs.slice(0, 1) : outputs;
  const parts = shown.map((v) => {
    const flat = new Expr(graph, v).reshape(-1);
    const zero = constant(graph, 'int64', [], [0]);
    const places = zero.op('Range', [flat.shape().squeeze(0), constant(graph, 'int64', [], [1])]);
    return flat
      .mul(
        places
          .add(constant(graph, 'int64', [], [1]))
          .float()
          .op('Sin'),
      )
      .sum([0]);
  });
  const loss = parts.reduce((a, b) => a.add(b)).value;
  graph.output(loss, 'loss');
  const probed = toDouble(graph.clone());
  const found = await probe(probed, feeds);
  const byName = new Map([...found].map(([v, shape]) => [v.name, shape]));
  const shapes = new Map([...graph.values()].map(([name, v]) => [v, byName.get(name) as never]));
  const gradients = differentiate(graph, loss, parameters, shapes, form);
  for (const p of parameters) {
    const g = gradients.get(p);
    if (g && 'dense' in g) graph.output(new Expr(graph, g.dense).op('Identity').value, `gradient:${p.name}`);
  }
  graph.prune();
  return { session: await Session.load(toDouble(graph), { threads: 1 }), feeds, parameters };
}

async function compare(op: string, use: Use, dynamic: boolean, form: DifferentiateOptions): Promise<void> {
  const random = Random.of(7, op);
  const { session, feeds, parameters } = await built(op, use, dynamic, form, random);
  try {
    for (const feed of dynamic ? feeds : [feeds[0]]) {
      const wanted = Object.fromEntries(session.inputs.map((name) => [name, feed[name]]));
      const at = await session.run(wanted);
      for (const p of parameters) {
        const x = feed[p.name];
        const gradient = at[`gradient:${p.name}`];
        expect(gradient?.dims, `${op}: shape of the gradient of ${p.name}`).toEqual(x.dims);
        const direction = Float64Array.from({ length: x.data.length }, () => random.uniform() * 2 - 1);
        const step = 1e-5;
        const moved = async (by: number): Promise<number> => {
          const data = Float64Array.from(x.data as Float64Array, (v, i) => v + by * direction[i]);
          const result = await session.run({ ...wanted, [p.name]: { dtype: 'float64', dims: x.dims, data } }, {}, [
            'loss',
          ]);
          return Number(result.loss.data[0]);
        };
        const numeric = ((await moved(step)) - (await moved(-step))) / (2 * step);
        const own = direction.reduce((sum, d, i) => sum + d * (gradient.data[i] as number), 0);
        const scale = direction.reduce((sum, d, i) => sum + Math.abs(d * (gradient.data[i] as number)), 1);
        expect(
          Math.abs(own - numeric) / scale,
          `${op} of ${p.name}, ${JSON.stringify(use)}: ${own} against ${numeric}`,
        ).toBeLessThan(1e-7);
      }
    }
  } finally {
    await session.release();
  }
}

/** The forms of gradients: for processors, plain ones, and those of devices where they differ. */
const formsOf = (op: string): DifferentiateOptions[] => [
  { forms: 'cpu' },
  {},
  ...(['Add', 'Gather', 'LayerNormalization', 'MatMul', 'Mul', 'Softmax'].includes(op)
    ? (['cuda-half', 'webgpu'] as const).map((forms) => ({ forms }))
    : []),
];

describe('every rule of the table against central differences in float64', () => {
  for (const op of Object.keys(rules))
    test(op, async () => {
      expect(Object.hasOwn(uses, op), `operator ${op} has a rule and no case in cases.ts`).toBe(true);
      for (const use of uses[op])
        for (const dynamic of [true, false]) for (const form of formsOf(op)) await compare(op, use, dynamic, form);
    });
});

/** Gradients at points where central differences say nothing: PyTorch's choice there. */
const kinks: [
  op: string,
  x: number[],
  gradient: number[],
  other?: number,
  attributes?: Record<string, AttributeInput>,
][] = [
  ['Abs', [0, -1], [0, -1]],
  ['Relu', [0, 1, -1], [0, 1, 0]],
  ['Clip', [-1, 1, 2], [1, 1, 0], -1],
  ['Max', [1, 2, 0], [0.5, 1, 0], 1],
  ['Min', [1, 2, 0], [0.5, 0, 1], 1],
  ['LeakyRelu', [0, 2], [0.1, 1], undefined, { alpha: float(0.1) }],
  ['ReduceMax', [1, 1, 0], [0.5, 0.5, 0], undefined, { keepdims: 0 }],
  ['ReduceMin', [3, 0, 0], [0, 0.5, 0.5], undefined, { keepdims: 0 }],
  ['ReduceL1', [0, -2], [0, -1], undefined, { keepdims: 0 }],
  ['Pow', [0, 3], [0, 6], 2],
  ['Pow', [0, 4], [1, 1], 1],
  ['ReduceProd', [0, 2, 3], [6, 0, 0], undefined, { keepdims: 1 }],
  ['Softmax', [1000, 0, -1000], [0, 0, 0]],
];

test.each(kinks)('%s at %j has the gradient %j', async (op, x, gradient, other, attributes) => {
  const graph = new Graph(20);
  const value = graph.input('x', 'float32', [x.length]);
  const second = other === undefined ? [] : [constant(graph, 'float32', [], [other]).value];
  const high = op === 'Clip' ? [constant(graph, 'float32', [], [1]).value] : [];
  const axes = op === 'ReduceProd' ? [constant(graph, 'int64', [1], [0]).value] : [];
  const y = graph.add(op, [value, ...second, ...high, ...axes], attributes);
  const loss = new Expr(graph, y).reshape(-1).sum([0]).value;
  graph.output(loss);
  const feeds = { x: tensor('float32', [x.length], x) };
  const found = differentiate(graph, loss, [value], await probe(graph, [feeds, feeds])).get(value);
  graph.output((found as { dense: Value }).dense, 'gradient');
  const session = await Session.load(graph, { threads: 1 });
  const { gradient: got } = await session.run(feeds);
  await session.release();
  expect([...(got.data as Float32Array)].map((v) => Math.round(v * 1e6) / 1e6 + 0)).toEqual(gradient);
});

test('a slice that is empty passes zeros back', async () => {
  const graph = new Graph(20);
  const x = graph.input('x', 'float32', [2, 3]);
  const ints = (...values: number[]): Value => constant(graph, 'int64', [values.length], values).value;
  const rest = graph.add('Slice', [x, ints(3), ints(99), ints(1)]);
  const loss = new Expr(graph, graph.add('Concat', [x, rest], { axis: 1 })).sum([0, 1]).value;
  graph.output(loss);
  const feeds = { x: tensor('float32', [2, 3], [1, 2, 3, 4, 5, 6]) };
  expect(await gradientOf(graph, loss, x, feeds)).toEqual([1, 1, 1, 1, 1, 1]);
});

test('a row whose every score is masked gets zeros, where the exporter puts zeros for its softmax', async () => {
  const graph = new Graph(20);
  const x = graph.input('x', 'float32', [2, 2]);
  const masked = graph.add('Add', [x, constant(graph, 'float32', [2, 1], [0, -Infinity]).value]);
  const y = graph.add('Softmax', [masked], { axis: -1 });
  const clean = graph.add('Where', [graph.add('IsNaN', [y]), constant(graph, 'float32', [], [0]).value, y]);
  const loss = new Expr(graph, clean).mul(constant(graph, 'float32', [2], [1, 3])).sum([0, 1]).value;
  graph.output(loss);
  const feeds = { x: tensor('float32', [2, 2], [0, 0, 0, 0]) };
  expect(await gradientOf(graph, loss, x, feeds)).toEqual([-0.5, 0.5, 0, 0]);
});

async function gradientOf(graph: Graph, loss: Value, x: Value, feeds: Feeds): Promise<number[]> {
  const found = differentiate(graph, loss, [x], await probe(graph, [feeds, feeds])).get(x);
  graph.output((found as { dense: Value }).dense, 'gradient');
  const session = await Session.load(graph, { threads: 1 });
  const { gradient } = await session.run(feeds);
  await session.release();
  return [...(gradient.data as Float32Array)].map((v) => Math.round(v * 1e6) / 1e6 + 0);
}

test('an operator without a rule is refused by name, with the way to add one', async () => {
  const graph = new Graph(20);
  const x = graph.input('x', 'float32', [2, 3]);
  const det = graph.add('GridSample', [x, x], {}, { name: '/model/grid' });
  const loss = new Expr(graph, det).sum([0, 1]).value;
  const shapes = new Map([...graph.values().values()].map((v) => [v, { dtype: 'float32' as const, dims: [2, 3] }]));
  expect(() => differentiate(graph, loss, [x], shapes)).toThrow(
    "operator GridSample ('/model/grid') has no gradient rule; add a line 'GridSample' to the table in engine/autodiff/rules.ts, or export the model without it",
  );
});
