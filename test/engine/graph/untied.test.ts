/** @file Weights that PyTorch's exporter left out as copies of others are weights of their own again, with their names. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Graph } from '../../../engine/graph/ir.ts';
import { tensor } from '../../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../../../engine/io/onnx-file.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { huggingFaceWeights } from '../../../students/export/torch-names.ts';

const dir = mkdtempSync(join(tmpdir(), 'untied-'));
afterAll(() => rmSync(dir, { recursive: true }));

test('two biases that are both zero, of which the file has one', async () => {
  const graph = new Graph(17);
  const x = graph.input('x', 'float32', ['rows', 2]);
  const first = graph.constant(tensor('float32', [2], [0, 0]), 'encoder.layer.0.attention.self.query.bias');
  const second = graph.add('Identity', [first], {}, { name: 'Identity_7' });
  [second.name, second.dtype, second.dims] = ['encoder.layer.0.attention.self.key.bias', 'float32', [2]];
  const weight = (n: number) => graph.constant(tensor('float32', [2, 2], [n, 0, 1, n]), `onnx::MatMul_${n}`);
  const linear = (w: number, bias: typeof first) => graph.add('Add', [bias, graph.add('MatMul', [x, weight(w)])]);
  const y = graph.add('Mul', [linear(2, first), linear(3, second)]);
  [y.dtype, y.dims] = ['float32', ['rows', 2]];
  graph.output(y, 'y');
  const file = join(dir, 'model.onnx');
  writeFileSync(file, encodeGraph(graph));

  const read = await loadGraph(file);
  expect(read.constants.map((v) => v.name).filter((n) => n.endsWith('.bias'))).toEqual([
    'encoder.layer.0.attention.self.query.bias',
    'encoder.layer.0.attention.self.key.bias',
  ]);
  const [a, b] = read.constants.filter((v) => v.name.endsWith('.bias'));
  expect(a.constant?.data).not.toBe(b.constant?.data);
  // A matrix is known by its bias: with the second one all names of the layer but those that this graph lacks are found.
  expect(huggingFaceWeights(read, 'bert')).toEqual({
    problem: expect.stringMatching(/^\d+ weights were not found, embeddings.word_embeddings.weight first$/),
  });
  const session = await Session.load(read);
  const { y: found } = await session.run({ x: tensor('float32', [1, 2], [1, 1]) });
  await session.release();
  expect([...found.data]).toEqual([(2 + 1) * (3 + 1), 2 * 3]);
});
