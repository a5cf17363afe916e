import { describe, expect, test } from 'vitest';
import { forwardForms } from '../../../engine/autodiff/device-forms.ts';
import { differentiate } from '../../../engine/autodiff/differentiate.ts';
import type { Forms } from '../../../engine/autodiff/rule.ts';
import type { Shape } from '../../../engine/autodiff/shapes.ts';
import { constant, Expr } from '../../../engine/expressions/expr.ts';
import { float, Graph, type Value } from '../../../engine/graph/ir.ts';
import { sizeOf, type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { toDouble } from '../../../engine/passes/to-float64.ts';
import { probe } from '../../../engine/runtime/infer-shapes.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { Random } from '../../../math/random.ts';

/** A size by name: in two samples that are observed, and in a third that is only run. */
const sizes = { B: [2, 3, 1], L: [5, 7, 1], N: [4, 6, 9], none: [2, 3, 0] } as const;
type Size = number | keyof typeof sizes;

/** A graph with float64 inputs. */
class Case {
  readonly graph = new Graph(20);
  readonly feeds: Record<string, Tensor>[] = [{}, {}, {}];
  readonly parameters: Value[] = [];
  private readonly random = Random.of(3, 'forms');

  constructor() {
    this.graph.float = 'float64';
  }

  private input(dims: readonly Size[], dtype: 'float64' | 'int64', draw: () => number): Expr {
    const value = this.graph.input(`x${this.graph.inputs.length}`, dtype, dims);
    for (const [k, feeds] of this.feeds.entries()) {
      const own = dims.map((d) => (typeof d === 'number' ? d : sizes[d][k]));
      feeds[value.name] = tensor(dtype, own, Array.from({ length: sizeOf(own) }, draw));
    }
    return new Expr(this.graph, value);
  }

  /** An input whose gradient is compared. */
  x(...dims: Size[]): Expr {
    const x = this.fixed(...dims);
    this.parameters.push(x.value);
    return x;
  }

  /** An input that has none. */
  fixed(...dims: Size[]): Expr {
    return this.input(dims, 'float64', () => 2 * this.random.uniform() - 1);
  }

  index(below: number, ...dims: Size[]): Expr {
    return this.input(dims, 'int64', () => Math.floor(below * (2 * this.random.uniform() - 1)));
  }

  /** One number of some dimensions of 1. */
  number(value: number, rank: number): Expr {
    return constant(this.graph, 'float64', new Array(rank).fill(1), [value]);
  }
}

type Make = (c: Case) => Expr | readonly Expr[];

/** What the graph gives and the gradients of sum(sin(position) * output), for each sample. */
async function results(make: Make, forms: Forms): Promise<Record<string, Tensor>[]> {
  const own = new Case();
  const { graph } = own;
  const made = [make(own)].flat() as Expr[];
  const count = (n: number): Expr => constant(graph, 'int64', [], [n]);
  const sums = made.map((y) => {
    const flat = y.reshape(-1);
    const places = count(0).op('Range', [flat.shape().squeeze(0), count(1)]);
    return flat.mul(places.add(count(1)).float().op('Sin')).sum([0]);
  });
  graph.output(sums.reduce((a, b) => a.add(b)).value, 'loss');
  for (const [i, y] of made.entries()) graph.output(y.value, `y${i}`);
  const found = await probe(toDouble(graph.clone()), [own.feeds[0], own.feeds[1]]);
  const byName = new Map([...found].map(([v, shape]) => [v.name, shape]));
  const shapes = new Map<Value, Shape>();
  for (const [name, v] of graph.values()) shapes.set(v, byName.get(name) as Shape);
  forwardForms(graph, shapes, forms, { biasSoftmax: true });
  const loss = graph.outputs.find((v) => v.name === 'loss') as Value;
  for (const [p, g] of differentiate(graph, loss, own.parameters, shapes, { forms }))
    if ('dense' in g) graph.output(new Expr(graph, g.dense).op('Identity').value, `gradient:${p.name}`);
  graph.prune();
  // Its further optimisations put factors into products, as float32.
  const session = await Session.load(toDouble(graph), { threads: 1, optimize: 'basic' });
  try {
    const out: Record<string, Tensor>[] = [];
    for (const feeds of own.feeds)
      out.push(await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]]))));
    return out;
  } finally {
    await session.release();
  }
}

const q = (c: Case): Expr => c.x('B', 2, 'L', 4);
const scores = (c: Case): Expr => q(c).matmul(c.x('B', 2, 4, 'N'));
const values = (c: Case): Expr => c.x('B', 2, 'N', 4);
const turned = (x: Expr): Expr => x.transpose(0, 1, 3, 2);

const cases: Record<string, Make> = {
  'a factor of no dimension': (c) => scores(c).mul(c.number(0.5, 0)).softmax(),
  'a factor of as many dimensions as the product': (c) => scores(c).mul(c.number(0.5, 4)).softmax(),
  'a factor of more dimensions than the product': (c) => scores(c).mul(c.number(0.5, 5)).softmax(),
  'a divisor of more dimensions than the product': (c) => scores(c).div(c.number(3, 6)),
  'a divided product behind its factor': (c) => c.number(2, 5).div(scores(c).add(9)),
  'a scaled product that is read twice': (c) => {
    const y = scores(c).mul(0.5);
    return [y.softmax(), y.tanh(), y];
  },
  'masks of texts, on either side, and of other shapes': (c) => [
    ...[['B', 1, 1, 'N'], ['B', 1, 'L', 'N'], [1, 1, 1, 'N'], ['N'], ['B', 2, 1, 'N']].map(
      (
        dims, // biome-ignore format: one line
      ) =>
        scores(c)
          .add(c.fixed(...(dims as Size[])))
          .softmax(),
    ),
    c.x('B', 1, 1, 'N').add(scores(c).mul(0.5)).softmax().matmul(values(c)),
    scores(c)
      .add(c.fixed('B', 1, 1, 'N'))
      .softmax(1),
    scores(c).add(c.fixed('B', 1, 1, 'N')).softmax(3).mul(c.fixed('B', 2, 'L', 'N')).matmul(values(c)), // biome-ignore format: one line
  ],
  'a scale before the mask': (c) =>
    scores(c)
      .div(2)
      .add(c.fixed('B', 1, 1, 'N'))
      .softmax()
      .matmul(values(c)),
  'keys and values that heads share': (c) =>
    q(c).matmul(turned(c.x('B', 1, 'N', 4))).mul(0.5).softmax().matmul(c.x('B', 1, 'N', 4)), // biome-ignore format: one line
  'keys without texts': (c) =>
    c
      .x(1, 2, 'L', 4)
      .matmul(c.x('B', 2, 4, 'N'))
      .mul(0.5)
      .softmax()
      .matmul(values(c)),
  'dropout behind a softmax': (c) =>
    scores(c)
      .softmax()
      .mul(c.fixed('B', 2, 'L', 'N'))
      .matmul(values(c)),
  'a softmax behind two masks, one of a product without gradient': (c) => {
    const [y, v] = [scores(c).softmax(), values(c)];
    const still = y
      .mul(c.fixed('B', 2, 'L', 'N'))
      .matmul(v)
      .sign();
    return y
      .mul(c.fixed('B', 2, 'L', 'N'))
      .matmul(v)
      .add(still);
  },
  'a softmax that is read twice': (c) => {
    const y = scores(c).softmax();
    return [y.matmul(values(c)), y.matmul(values(c))];
  },
  'a product with its own transpose': (c) => {
    const x = c.x('B', 'L', 4);
    const t = x.transpose(0, 2, 1);
    return [x.matmul(t), t.matmul(x)];
  },
  'a matrix of several products and layers, and its transpose': (c) => {
    const w = c.x(4, 4);
    const y = c.x('B', 'L', 4).matmul(w).tanh();
    return [y.matmul(w), y.matmul(w.transpose(1, 0)), y.transpose(0, 2, 1).reshape(0, -1, 4).matmul(w)];
  },
  'one x of several products': (c) => {
    const x = c.x('B', 'L', 4);
    return [x.matmul(c.x(4, 9)), x.matmul(c.x(4, 2)), x.unsqueeze(0).matmul(c.x(4, 4))];
  },
  'products of a fixed shape': (c) => [c.x(3, 5, 4).matmul(c.x(4, 9)), c.x(1, 1, 9).matmul(c.x(9, 4)).add(c.x(4))],
  'products over no rows': (c) => c.x('none', 'L', 4).matmul(c.x(4, 9)).add(c.x(9)),
  'an expert without tokens': (c) => c.x(1, 'none', 4).matmul(c.x(4, 9)).add(c.x(9)).mul(c.x(1, 9)).matmul(c.x(9, 4)),
  'rows of a table, of negative numbers too': (c) => [c.x(11, 4), c.x(3, 9)].map((t, i) => t.gather(c.index([11, 3][i], 'B', 'L'))), // biome-ignore format: one line
  'no row of a table': (c) => c.x(11, 4).gather(c.index(11, 'none', 'L')),
  'a table that is a matrix too': (c) => {
    const table = c.x(11, 4);
    return table.gather(c.index(11, 'B', 'L')).matmul(table.transpose(1, 0));
  },
  'a normalisation of two axes, of a varying one and without bias': (c) => [
    c.x('B', 'L', 3, 4).op('LayerNormalization', [c.x(3, 4), c.x(3, 4)], { axis: -2 }),
    c.x('B', 3, 'N').op('LayerNormalization', [c.x('N'), c.x('N')], { axis: -1 }),
    c.x('B', 'L', 8).op('LayerNormalization', [c.x(8)], { axis: -1 }),
  ],
  'GELU between two products, its bias on either side': (c) => {
    const h = c.x('B', 'L', 4);
    return [
      h.matmul(c.x(4, 6)).add(c.x(6)).op('Gelu').matmul(c.x(6, 3)).add(c.x(3)),
      c.x(6).add(h.matmul(c.x(4, 6))).op('Gelu').matmul(c.x(6, 3)), // biome-ignore format: one line
    ];
  },
  'GELU of which two products, or more, read': (c) => {
    const y = c.x('B', 'L', 4).matmul(c.x(4, 6)).add(c.x(6)).op('Gelu');
    const z = c.x('B', 'L', 4).matmul(c.x(4, 6)).add(c.x(6)).op('Gelu');
    return [y.matmul(c.x(6, 3)), y.matmul(c.x(6, 2)), z.matmul(c.x(6, 2)), z.square()];
  },
  'GELU that is no part of two products': (c) => {
    const h = c.x('B', 'L', 4);
    const sum = h.matmul(c.x(4, 6)).add(c.x(6));
    const rows = c.x('N', 4).matmul(c.x(4, 6)).add(c.x(6)).op('Gelu').matmul(c.x(6, 3)); // biome-ignore format: one line
    return [
      h.matmul(c.x(4, 6)).op('Gelu').matmul(c.x(6, 3)),
      h.matmul(c.x(4, 6)).add(c.x('L', 6)).op('Gelu').matmul(c.x(6, 3)), // biome-ignore format: one line
      sum
        .op('Gelu')
        .matmul(c.x(6, 3))
        .add(sum.sum([2], true)),
      h.matmul(c.x(4, 6)).add(c.x(6)).op('Gelu', [], { approximate: 'tanh' }).matmul(c.x(6, 3)), // biome-ignore format: one line
      h.matmul(c.x(4, 6)).add(c.x(6)).op('Gelu').matmul(c.x('B', 6, 3)), // biome-ignore format: one line
      rows,
    ];
  },
  'GELU between frozen weights, and of one bias for all': (c) => {
    const h = c.x('B', 'L', 4);
    return [
      h.matmul(c.fixed(4, 6)).add(c.x(6)).op('Gelu').matmul(c.fixed(6, 3)),
      h.matmul(c.x(4, 6)).add(c.fixed(6)).op('Gelu').matmul(c.x(6, 3)),
      c.fixed('B', 'L', 4).matmul(c.fixed(4, 6)).add(c.fixed(6)).op('Gelu').matmul(c.x(6, 3)), // biome-ignore format: one line
      h.matmul(c.x(4, 6)).add(c.x(1)).op('Gelu').matmul(c.x(6, 3)),
    ];
  },
  'GELU of which one matrix is on both sides, and matrices that are computed': (c) => {
    const [h, w] = [c.x('B', 'L', 4), c.x(4, 4)];
    const made = h.matmul(w.matmul(c.x(4, 6))).add(c.x(6).mul(c.x(6))).op('Gelu'); // biome-ignore format: one line
    return [h.matmul(w).add(c.x(4)).op('Gelu').matmul(w), made.matmul(c.x(6, 2).matmul(c.x(2, 3)))];
  },
  'GELU over no rows': (c) => [
    c.x('none', 'L', 4).matmul(c.x(4, 6)).add(c.x(6)).op('Gelu').matmul(c.x(6, 3)), // biome-ignore format: one line
    c.x(1, 'none', 4).matmul(c.x(4, 6)).add(c.x(6)).op('Gelu').matmul(c.x(6, 3)), // biome-ignore format: one line
  ],
  'a softmax over the rows of a matrix': (c) => {
    const y = (): Expr => c.x('B', 'L', 4).matmul(c.x(4, 6)).softmax();
    return [
      y().matmul(c.x(6, 8)),
      y()
        .mul(c.fixed('B', 'L', 6))
        .matmul(c.x(6, 8)),
    ];
  },
  'GELU of transposed weights': (c) => {
    const h = c.x('B', 'L', 4);
    return h.matmul(c.x(6, 4).transpose(1, 0)).add(c.x(6)).op('Gelu').matmul(c.x(3, 6).transpose(1, 0)); // biome-ignore format: one line
  },
  'half of one plus an error function, of several values': (c) => {
    const [x, y] = [c.x('B', 4), c.x('B', 4)];
    const half = (v: Expr): Expr => v.op('Erf').op('HardSigmoid', [], { alpha: float(0.5), beta: float(0.5) });
    const own = half(x);
    return [x.mul(own), own.mul(x), y.mul(own), own, x.mul(half(y)), x.mul(0.5).mul(half(x.mul(0.5)))];
  },
  'a reshape whose shape is computed': (c) => {
    const x = c.x('B', 'L', 8);
    const shape = x.shape();
    const of = (...parts: Expr[]): Expr => parts[0].concat(parts.slice(1), 0);
    const at = (i: number): Expr => shape.gather(x.ints(i));
    return [
      x.reshapeTo(of(at(0), at(1), x.ints(2, 4))).transpose(0, 2, 1, 3),
      x.reshapeTo(of(at(1), at(0), x.ints(8))),
      x.reshapeTo(of(x.ints(-1), x.ints(2))),
      x.op('Reshape', [of(at(0), x.ints(2), at(1), x.ints(4))], { allowzero: 1 }),
    ];
  },
  'a bias of several values': (c) => {
    const bias = c.x(4);
    return [c.x('B', 'L', 4).add(bias), bias.add(c.x('B', 2, 'L', 4)), bias.mul(c.x('N', 4)), c.x(4).add(bias)];
  },
};

describe('forms for devices give what plain operators give', () => {
  for (const [name, make] of Object.entries(cases))
    test(name, async () => {
      const plain = await results(make, 'plain');
      for (const forms of ['cpu', 'cuda', 'cuda-half', 'webgpu'] as const)
        for (const [k, found] of (await results(make, forms)).entries()) {
          expect(Object.keys(found)).toEqual(Object.keys(plain[k]));
          for (const [value, { dims, data }] of Object.entries(found)) {
            const where = `${value} in ${forms}, sample ${k}`;
            expect(dims, where).toEqual(plain[k][value].dims);
            const wanted = plain[k][value].data as Float64Array;
            const scale = wanted.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
            const off = wanted.reduce((most, x, i) => Math.max(most, Math.abs(x - Number(data[i]))), 0);
            expect(off / scale, where).toBeLessThan(1e-9);
          }
        }
    });
});

test('half of one plus an error function, held fixed, is a factor like any other', async () => {
  const own = new Case();
  const { graph } = own;
  const x = own.x('B', 4);
  const part = x.op('Erf').op('HardSigmoid', [], { alpha: float(0.5), beta: float(0.5) });
  part.value.detached = true;
  const loss = x.mul(part).sum([0, 1]);
  graph.output(loss.value, 'loss');
  graph.output(part.value, 'part');
  const byName = new Map(
    [...(await probe(toDouble(graph.clone()), [own.feeds[0], own.feeds[1]]))].map(([v, shape]) => [v.name, shape]),
  );
  const shapes = new Map([...graph.values()].map(([name, v]) => [v, byName.get(name) as Shape]));
  const found = differentiate(graph, loss.value, own.parameters, shapes).get(x.value) as { dense: Value };
  graph.output(found.dense, 'gradient');
  const session = await Session.load(toDouble(graph), { threads: 1, optimize: 'basic' });
  const out = await session.run(own.feeds[0]);
  await session.release();
  expect(out.gradient.data).toEqual(out.part.data);
});
