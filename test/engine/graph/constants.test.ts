import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Graph } from '../../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph, parseGraph } from '../../../engine/io/onnx-file.ts';
import { normalize } from '../../../engine/passes/normalize.ts';
import { trainableConstants } from '../../../engine/passes/trainable-parameters.ts';
import { Session } from '../../../engine/runtime/session.ts';

const fixtures = join(import.meta.dirname, '../../fixtures');

test('an If is its branch where a stated dimension settles it', async () => {
  const graph = normalize(await loadGraph(join(fixtures, 'branches.onnx')));
  expect(graph.nodes.map((n) => n.op)).toEqual(['Squeeze']);
  const session = await Session.load(graph);
  const { y } = await session.run({ x: tensor('float32', [2, 1], [3, 4]) });
  await session.release();
  expect(y).toMatchObject({ dims: [2], data: Float32Array.of(3, 4) });
});

test('an If that only a run can settle is refused by name', async () => {
  await expect(loadGraph(join(fixtures, 'open-branches.onnx'))).rejects.toThrow(
    "node If ('/squeeze') branches on a condition that is only known when the graph runs; export it without control flow",
  );
});

test('weights stored as integers with a scale an output channel are floats once read', () => {
  const graph = new Graph(19);
  const x = graph.input('x', 'float32', ['rows', 2]);
  const weight = graph.add('DequantizeLinear', [
    graph.constant(tensor('int8', [2, 3], [1, 2, 3, -4, -5, -6]), 'w'),
    graph.constant(tensor('float32', [3], [0.5, 0.25, 2]), 'scale'),
    graph.constant(tensor('int8', [3], [0, 1, 1]), 'zero'),
  ]);
  const made = weight.name;
  graph.output(graph.add('MatMul', [x, weight]), 'y');
  const read = parseGraph(encodeGraph(graph));
  expect(read.nodes.map((n) => n.op)).toEqual(['MatMul']);
  expect(trainableConstants(read).map((v) => [v.name, Array.from((v.constant as Tensor).data, Number)])).toEqual([
    [made, [0.5, 0.25, 4, -2, -1.5, -14]],
  ]);
});

test("what PyTorch calls parameters is told from the arithmetic's constants", () => {
  const graph = new Graph(17);
  const x = graph.input('x', 'float32', ['rows', 4]);
  const angles = Float64Array.from({ length: 12 }, (_, i) => 0.3 * i);
  const named = (name: string, dims: number[], values: ArrayLike<number>) => graph.constant(tensor('float32', dims, values), name); // biome-ignore format: one line
  const cos = named('cos', [3, 4], angles.map(Math.cos));
  const sin = named('sin', [3, 4], angles.map(Math.sin));
  const weight = named('weight', [4, 1], [1, 2, 3, 4]);
  const scale = named('scale', [4], [1, 1, 1, 1]);
  const absent = graph.add('Constant', [], { value: tensor('float32', [4], [0, 0, 0, 0]) });
  const half = named('half', [1], [0.5]);
  const turned = graph.add('Add', [graph.add('Mul', [x, cos]), graph.add('Mul', [x, sin])]);
  const normed = graph.add('LayerNormalization', [graph.add('Mul', [turned, half]), scale, absent]);
  graph.output(graph.add('Add', [graph.add('MatMul', [normed, weight]), named('bias', [1], [0])]), 'y');
  const read = parseGraph(encodeGraph(graph));
  expect(trainableConstants(read).map((v) => v.name)).toEqual(['scale', 'weight', 'bias']);
  expect(trainableConstants(read.clone()).map((v) => v.name)).toEqual(['scale', 'weight', 'bias']);
});

test('a copy knows of its values and of its arithmetic what the graph knows', () => {
  const graph = new Graph(17);
  graph.float = 'float64';
  const x = graph.input('x', 'float32', ['rows', 4]);
  const any = graph.input('any', 'float32', []);
  any.dims = undefined;
  const weight = graph.constant(tensor('float32', [4], [1, 1, 1, 1]), 'weight');
  const held = graph.add('Mul', [graph.add('Add', [x, any]), weight], {}, { name: 'held' });
  for (const v of [x, weight, held]) v.detached = true;
  weight.inline = true;
  graph.output(held);
  const known = (from: Graph): unknown[] => [
    from.float,
    [...from.values().values()].map(({ name, dtype, dims, inline, detached }) => [name, dtype, dims, inline, detached]),
  ];
  expect(known(graph.clone())).toEqual(known(graph));
  const other = new Graph(17);
  const map = other.embed(graph, (v) => (v === x || v === any ? other.input(v.name, 'float32', []) : undefined), 'in/');
  expect(map.get(weight)).toMatchObject({ name: 'in/weight', inline: true, detached: true });
});
