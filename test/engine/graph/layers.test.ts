import { expect, test } from 'vitest';
import { Graph, type Value } from '../../../engine/graph/ir.ts';
import { findLayers, keepLayers } from '../../../engine/graph/layers.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { Session } from '../../../engine/runtime/session.ts';

type Mixing = (graph: Graph, stream: Value) => Value;

const softmax: Mixing = (graph, stream) => graph.add('Softmax', [stream], { axis: 1 });
const fourier: Mixing = (graph, stream) => {
  const complex = graph.add('Unsqueeze', [stream, ints(graph, -1)]);
  const mixed = graph.add('DFT', [complex, null, graph.constant(tensor('int64', [], [1]))]);
  return graph.add('Gather', [mixed, graph.constant(tensor('int64', [], [0]))], { axis: -1 });
};

const ints = (graph: Graph, ...values: number[]): Value => graph.constant(tensor('int64', [values.length], values));

/** Layers, one factor each, that work on the stream transposed: no cut point after the last is like those they begin at. */
function encoder(factors: readonly number[], mix: Mixing): Graph {
  const graph = new Graph(20);
  const ids = graph.input('input_ids', 'int64', ['rows', 'length']);
  // Some look the ids up flat, some with the texts behind the tokens.
  const rows = graph.add('Transpose', [graph.add('Reshape', [ids, ints(graph, -1, 4)])], { perm: [1, 0] });
  const table = graph.constant(
    tensor(
      'float32',
      [5, 3],
      Array.from({ length: 15 }, (_, i) => Math.sin(i)),
    ),
  );
  let stream = graph.add('Gather', [table, rows]);
  for (const factor of factors) {
    const turned = graph.add('Transpose', [stream], { perm: [0, 2, 1] });
    const scaled = graph.add('Mul', [mix(graph, turned), graph.constant(tensor('float32', [], [factor]))]);
    stream = graph.add('Add', [turned, scaled]);
    stream = graph.add('Transpose', [stream], { perm: [0, 2, 1] });
  }
  graph.output(stream, 'y');
  return graph;
}

async function outputOf(graph: Graph): Promise<Tensor> {
  const session = await Session.load(graph, { threads: 1 });
  const { y } = await session.run({ input_ids: tensor('int64', [2, 4], [0, 1, 2, 3, 4, 3, 2, 0]) });
  await session.release();
  return y;
}

test.each([
  ['attention', softmax],
  ['a Fourier transform', fourier],
] as const)('layers of %s between transpositions: each gives the next what the last gives', async (_, mix) => {
  expect(findLayers(encoder([1, 2, 3], mix))).toHaveLength(3);
  for (const keep of [[0, 2], [1], [0], [2]]) {
    const kept = await outputOf(keepLayers(encoder([1, 2, 3], mix), keep));
    const made = await outputOf(
      encoder(
        keep.map((k) => k + 1),
        mix,
      ),
    );
    expect([...kept.data], `layers ${keep}`).toEqual([...made.data]);
  }
});
