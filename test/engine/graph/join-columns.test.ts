import { expect, test } from 'vitest';
import {
  multipliedRows,
  type Once,
  onceOf,
  reducedRows,
  rowsByText,
  rowsInParts,
  type SumRows,
} from '../../../engine/autodiff/shapes.ts';
import { Expr } from '../../../engine/expressions/expr.ts';
import { Graph } from '../../../engine/graph/ir.ts';
import { sizeOf, type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { joinColumns } from '../../../engine/passes/join-columns.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { Random } from '../../../math/random.ts';

const forms: Record<string, (once: Once) => SumRows> = {
  plain: () => reducedRows,
  cpu: multipliedRows,
  half: rowsByText,
  webgpu: rowsInParts,
};

/** Matrices of one group of texts, of another, of single rows; what is no sum; and the same again. */
const inputs: [name: string, dims: (string | number)[], sizes: number[]][] = [
  ['a', ['b', 's', 4], [3, 5, 4]],
  ['b', ['b', 's', 7], [3, 5, 7]],
  ['c', ['n', 3], [6, 3]],
  ['d', ['b', 's', 2], [3, 5, 2]],
  ['e', ['t', 'u', 4], [2, 6, 4]],
  ['f', ['b', 's', 1], [3, 5, 1]],
  ['g', [5], [5]],
  ['h', ['t', 'u', 3], [2, 6, 3]],
  ['i', ['b', 's', 3], [3, 5, 3]],
  ['j', [1, 's', 3], [1, 5, 3]],
];

const feedsOf = (some: typeof inputs, at: (i: number) => number): Record<string, Tensor> =>
  Object.fromEntries(
    some.map(([name, , sizes]) => {
      const data = Array.from({ length: sizeOf(sizes) }, (_, i) => at(i));
      return [name, tensor('float32', sizes, data)];
    }),
  );

test.each(Object.keys(forms))('sums put together before their last steps are the sums one by one: %s', async (form) => {
  const random = Random.of(1);
  const graph = new Graph(20);
  const sums = forms[form](onceOf());
  const feeds = feedsOf(inputs, () => random.normal());
  const one = new Map(
    inputs.map(([name, dims]) => [name, sums(new Expr(graph, graph.input(name, 'float32', dims)), dims)]),
  );
  const of = (name: string): Expr => one.get(name) as Expr;
  // Two groups' sums are added, in one order and in the other.
  const vectors = [of('a'), of('b'), of('a').add(of('e')), of('i').add(of('h')), of('h').add(of('i')), of('c'), of('g'), of('d'), of('f'), of('a').mul(2), of('j'), of('a').add(of('g').slice(0, 4, 0)), of('b')]; // biome-ignore format: one line reads better
  const widths = [4, 7, 4, 3, 3, 3, 5, 2, 1, 4, 3, 4, 7];
  const cast = vectors.map((v) => v.cast('float64').cast('float32'));
  for (const [i, v] of [...vectors, ...cast].entries()) graph.output(v.mul(1).value, `alone${i}`);
  const sumsIn = (): number => graph.nodes.filter((n) => n.op === 'ReduceSum' || n.op === 'Gemm').length;
  const before = sumsIn();
  graph.output(joinColumns(vectors, widths).value, 'joined');
  graph.output(joinColumns(cast, widths).value, 'joined cast');
  graph.output(joinColumns([of('a')], [4]).mul(1).value, 'single');
  expect(sumsIn() - before).toBeLessThan(vectors.length);
  const session = await Session.load(graph, { threads: 1 });
  const out = await session.run(feeds);
  await session.release();
  const numbers = (name: string): number[] => Array.from(out[name].data as Float32Array);
  const alone = (from: number) => vectors.flatMap((_, i) => numbers(`alone${from + i}`));
  const near = (a: number[], b: number[]): void => {
    expect(a).toHaveLength(b.length);
    for (const [i, v] of a.entries()) expect(v).toBeCloseTo(b[i], 5);
  };
  near(numbers('joined'), alone(0));
  near(numbers('joined cast'), alone(vectors.length));
  near(numbers('single'), numbers('alone0'));
  // And they are sums.
  const a = feeds.a.data as Float32Array;
  near(
    numbers('alone0'),
    Array.from({ length: 4 }, (_, k) => a.reduce((s, v, i) => (i % 4 === k ? s + v : s), 0)),
  );
});

test('several rows, put one after the other, are not joined as if they were one', async () => {
  const graph = new Graph(20);
  const feeds = feedsOf(inputs.slice(0, 2), Math.sin);
  const [a, b] = inputs.slice(0, 2).map(([name, dims]) => new Expr(graph, graph.input(name, 'float32', dims)));
  const ones = (shape: Expr): Expr => shape.op('ConstantOfShape', [], { value: tensor('float32', [1], [1]) });
  const [sums, pairs] = [ones(a.ints(3, 1, 5)), ones(a.ints(2).concat([a.ints(3)], 0))];
  const rows = [a, b].map((x) => sums.matmul(x));
  const flat = rows.map((x) => x.reshape(-1));
  const twice = rows.map((x, i) => pairs.op('Gemm', [x.reshape(-1, [4, 7][i])]).reshape(-1));
  for (const [name, [one, other], widths] of [
    ['flat', flat, [12, 21]],
    ['twice', twice, [8, 14]],
  ] as const) {
    // biome-ignore format: one line reads better
    graph.output(one.concat([other], 0).mul(1).value, name);
    graph.output(joinColumns([one, other], widths).mul(1).value, `${name} joined`);
  }
  const session = await Session.load(graph, { threads: 1 });
  const out = await session.run(feeds);
  await session.release();
  for (const name of ['flat', 'twice']) expect(out[`${name} joined`]).toEqual(out[name]);
});
