import { expect, test } from 'vitest';
import { Graph } from '../../../engine/graph/ir.ts';
import { tensor } from '../../../engine/graph/tensor.ts';
import { probe } from '../../../engine/runtime/infer-shapes.ts';

test('a model that holds the size of the example it was exported with is refused with its operator, node and remedy', async () => {
  const graph = new Graph(20);
  const x = graph.input('x', 'float32', ['rows', 'length']);
  const shape = graph.constant(tensor('int64', [2], [5, 2]));
  graph.output(graph.add('Reshape', [x, shape], {}, { name: '/encoder/chunks' }), 'y');
  const feeds = (length: number) => ({
    x: tensor(
      'float32',
      [2, length],
      Array.from({ length: 2 * length }, () => 0),
    ),
  });
  const outputs = [...graph.outputs];
  await expect(probe(graph, [feeds(5), feeds(7)])).rejects.toMatchObject({
    code: 'runtime.sizes',
    message: expect.stringMatching(
      /^the model does not run at every size \(.*Reshape.*\/encoder\/chunks.*\).*export it with dynamic axes/,
    ),
  });
  expect(graph.outputs).toEqual(outputs);
});

test('a machine without the memory is not a model without sizes', async () => {
  const graph = new Graph(20);
  const x = graph.input('x', 'int64', [1]);
  graph.output(graph.add('ConstantOfShape', [x]), 'y');
  const feeds = (size: number) => ({ x: tensor('int64', [1], [size]) });
  await expect(probe(graph, [feeds(5), feeds(2 ** 46)])).rejects.toThrow(/alloc/i);
  await expect(probe(graph, [feeds(5), feeds(2 ** 46)])).rejects.not.toThrow('does not run at every size');
});
