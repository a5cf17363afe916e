import { describe, expect, test } from 'vitest';
import { Graph, type Value } from '../../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { findLayers, keepLayers } from '../../../engine/passes/layers.ts';
import { Session } from '../../../engine/runtime/session.ts';

type Mixing = (graph: Graph, stream: Value) => Value;

const softmax: Mixing = (graph, stream) => graph.add('Softmax', [stream], { axis: 1 });
const fourier: Mixing = (graph, stream) => {
  const complex = graph.add('Unsqueeze', [stream, ints(graph, -1)]);
  const mixed = graph.add('DFT', [complex, null, graph.constant(tensor('int64', [], [1]))]);
  return graph.add('Gather', [mixed, graph.constant(tensor('int64', [], [0]))], { axis: -1 });
};

const ints = (graph: Graph, ...values: number[]): Value => graph.constant(tensor('int64', [values.length], values));

/**
 * Layers, one factor each, that begin at the stream transposed and end where it is transposed again: the last one is not,
 * as an exporter cancels that with the transposition back. With a head the output is the first token's.
 */
function encoder(factors: readonly number[], mix: Mixing, head: boolean): Graph {
  const graph = new Graph(20);
  const ids = graph.input('input_ids', 'int64', ['rows', 'length']);
  // Some look the ids up flat, some with the texts behind the tokens.
  const rows = graph.add('Transpose', [graph.add('Reshape', [ids, ints(graph, -1, 4)])], { perm: [1, 0] });
  const numbers = Array.from({ length: 15 }, (_, i) => Math.sin(i));
  const found = graph.add('Gather', [graph.constant(tensor('float32', [5, 3], numbers)), rows]);
  const times = (x: Value, factor: number): Value =>
    graph.add('Mul', [x, graph.constant(tensor('float32', [], [factor]))]);
  let stream = times(found, 3);
  for (const factor of factors) {
    const turned = graph.add('Transpose', [stream], { perm: [0, 2, 1] });
    const sum = graph.add('Add', [turned, times(mix(graph, turned), factor)]);
    stream = times(graph.add('Transpose', [sum], { perm: [0, 2, 1] }), 0.5);
  }
  const first = graph.constant(tensor('int64', [], [0]));
  graph.output(head ? graph.add('Gather', [stream, first], { axis: 1 }) : stream, 'y');
  return graph;
}

async function outputOf(graph: Graph): Promise<Tensor> {
  const session = await Session.load(graph, { threads: 1 });
  const { y } = await session.run({ input_ids: tensor('int64', [2, 4], [0, 1, 2, 3, 4, 3, 2, 0]) });
  await session.release();
  return y;
}

describe.each([
  ['attention', softmax],
  ['a Fourier transform', fourier],
] as const)('layers of %s between transpositions: each gives the next what the last gives', (_, mix) => {
  test.each([
    ['the encoder', false],
    ['with a head', true],
  ])('%s', async (_, head) => {
    expect(findLayers(encoder([1, 2, 3], mix, head))).toHaveLength(3);
    for (const keep of [[0, 2], [1], [0], [2]]) {
      const kept = await outputOf(keepLayers(encoder([1, 2, 3], mix, head), keep));
      const factors = keep.map((k) => k + 1);
      const made = await outputOf(encoder(factors, mix, head));
      expect([...kept.data], `layers ${keep}`).toEqual([...made.data]);
    }
  });
  test('layers counted from the last', async () => {
    for (const [given, same] of [
      [
        [0, -1],
        [0, 2],
      ],
      [
        [-2, -1],
        [1, 2],
      ],
      [
        [0, 2, -1],
        [0, 2],
      ],
    ])
      expect(await outputOf(keepLayers(encoder([1, 2, 3], mix, false), given))).toEqual(
        await outputOf(keepLayers(encoder([1, 2, 3], mix, false), same)),
      );
    const one = await outputOf(keepLayers(encoder([1], mix, false), [0, -1]));
    expect(one).toEqual(await outputOf(encoder([1], mix, false)));
    expect(() => keepLayers(encoder([1, 2, 3], mix, false), [-4])).toThrow('no layer -4');
  });
});
