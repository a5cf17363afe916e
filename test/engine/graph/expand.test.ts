import { expect, test } from 'vitest';
import { type AttributeInput, Graph } from '../../../engine/graph/ir.ts';
import { sizeOf, type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { normalize } from '../../../engine/passes/normalize.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { Random } from '../../../math/random.ts';

/** Input, kernel, attributes; every kernel's products are compared with ONNX Runtime's own convolution. */
const convolutions: [x: number[], kernel: number[], attributes: Record<string, AttributeInput>][] = [
  [[2, 3, 7], [4, 3, 1], {}],
  [[2, 3, 7], [4, 3, 3], { pads: [1, 1] }],
  [[2, 4, 7], [4, 1, 5], { pads: [2, 2], group: 4 }],
  [[2, 4, 9], [6, 2, 3], { group: 2, strides: [2], dilations: [2], pads: [0, 3] }],
  [[2, 3, 8], [3, 1, 1], { group: 3, strides: [3] }],
  [[2, 4, 6, 5], [4, 1, 3, 1], { group: 4, pads: [1, 0, 1, 0] }],
  [[2, 2, 6, 5], [3, 2, 2, 3], { strides: [1, 2] }],
];

test.each(convolutions)(
  'a convolution of %j with %j, %j, equals its products tap by tap',
  async (x, kernel, attributes) => {
    const random = Random.of(3, 'convolution');
    const draw = (dims: number[]) =>
      tensor(
        'float32',
        dims,
        Array.from({ length: sizeOf(dims) }, () => random.uniform() - 0.5),
      );
    const graph = new Graph(20);
    const input = graph.input('x', 'float32', x.map((_, i) => `d${i}`)); // biome-ignore format: one line
    const weights = [draw(kernel), draw([kernel[0]])].map((t) => graph.constant(t));
    graph.output(graph.add('Conv', [input, ...weights], attributes), 'y');
    const expanded = normalize(graph.clone());
    expect(expanded.nodes.map((n) => n.op)).not.toContain('Conv');
    await agree(graph, expanded, { x: draw(x) });
  },
);

/** Dimensions of x, of the tables of angles, attributes; heads are four of eight numbers. */
const rotations: [x: number[], half: number, attributes: Record<string, AttributeInput>][] = [
  [[2, 4, 5, 8], 4, { num_heads: 4 }],
  [[2, 4, 5, 8], 4, {}],
  [[2, 5, 32], 4, { num_heads: 4 }],
  [[2, 4, 5, 8], 2, { rotary_embedding_dim: 4 }],
  [[2, 5, 32], 2, { num_heads: 4, rotary_embedding_dim: 4 }],
  [[2, 4, 5, 8], 4, { rotary_embedding_dim: 8 }],
];

test.each(rotations)('a rotation of %j by %i angles, %j, equals its products', async (dims, half, attributes) => {
  const random = Random.of(5, 'rotation');
  const draw = (of: number[]) =>
    tensor(
      'float32',
      of,
      Array.from({ length: sizeOf(of) }, () => random.uniform() - 0.5),
    );
  const graph = new Graph(23);
  const x = graph.input('x', 'float32', dims);
  const angles = graph.input('angles', 'float32', ['rows', 'length', 'half']);
  // Tables that are computed have no dimensions in the file.
  const tables = [graph.add('Cos', [angles]), graph.add('Sin', [angles])];
  graph.output(graph.add('RotaryEmbedding', [x, ...tables], attributes), 'y');
  const expanded = normalize(graph.clone());
  expect(expanded.nodes.map((n) => n.op)).not.toContain('RotaryEmbedding');
  await agree(graph, expanded, { x: draw(dims), angles: draw([2, 5, half]) });
});

async function agree(graph: Graph, expanded: Graph, feeds: Record<string, Tensor>): Promise<void> {
  const [expected, got] = await Promise.all(
    [graph, expanded].map(async (g) => {
      const session = await Session.load(g, { threads: 1 });
      const { y } = await session.run(feeds);
      await session.release();
      return y;
    }),
  );
  expect(got.dims).toEqual(expected.dims);
  const [a, b] = [got.data as Float32Array, expected.data as Float32Array];
  expect(Math.max(...a.map((v, i) => Math.abs(v - b[i])))).toBeLessThan(1e-6);
}
