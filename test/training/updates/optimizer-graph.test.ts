import { expect, test } from 'vitest';
import { Expr } from '../../../engine/expressions/expr.ts';
import { Graph } from '../../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { optimizers } from '../../../training/optimizers/index.ts';
import { appendOptimizer, FACTORS, WEIGHTS } from '../../../training/updates/optimizer-graph.ts';

test('rows of negative indices are rows of the table, whatever follows it', async () => {
  const graph = new Graph(20);
  const dims = [300, 5];
  const table = graph.input('table', 'float32', dims);
  const indices = graph.input('places', 'int64', ['n']);
  const rows = graph.input('rows', 'float32', ['n', 5]);
  graph.output(new Expr(graph, table).gather(new Expr(graph, indices)).value, 'read');
  const { length, carried, factors, state } = appendOptimizer(
    graph,
    optimizers.sgd({}),
    [{ name: 'table', dims, table: true, value: table }],
    new Map([['table', { rows: [{ indices, rows }] }]]),
  );
  const session = await Session.load(graph, { threads: 1 });
  const numbers: Record<string, number> = { rate: 1, keep: 1, decay: 0 };
  const feeds: Record<string, Tensor> = {
    places: tensor('int64', [3], [-1, 7, -300]),
    rows: tensor(
      'float32',
      [3, 5],
      Array.from({ length: 15 }, (_, i) => 1 + i),
    ),
    [WEIGHTS]: tensor('float32', [length], new Float32Array(length)),
    [FACTORS]: tensor(
      'float32',
      [factors.length],
      factors.map((name) => numbers[name]),
    ),
  };
  for (const v of state) feeds[v.input] = tensor('float32', [v.length], new Float32Array(v.length));
  const moved = (await session.run(feeds))[carried.get(WEIGHTS) as string].data as Float32Array;
  await session.release();
  const found = new Map([...moved].flatMap((v, i) => (v ? [[i, -v]] : [])));
  const row = (at: number, from: number) => [0, 1, 2, 3, 4].map((i) => [5 * at + i, from + i] as const);
  expect(found).toEqual(new Map([...row(0, 11), ...row(7, 6), ...row(299, 1)]));
});
