import { expect, test } from 'vitest';
import { type AttributeInput, Graph } from '../../../engine/graph/ir.ts';
import { tensor } from '../../../engine/graph/tensor.ts';
import { normalize } from '../../../engine/passes/normalize.ts';

const axes: [opset: number, attributes: Record<string, AttributeInput>, given: number | undefined, axis: number][] = [
  [17, {}, undefined, 1],
  [18, { axis: 2 }, undefined, 2],
  [20, {}, undefined, -2],
  [20, {}, 1, 1],
];

test.each(axes)('a Fourier transform of opset %i with %j and %s has axis %i', (opset, attributes, given, axis) => {
  const graph = new Graph(opset);
  const x = graph.input('x', 'float32', ['rows', 4, 3, 1]);
  const own = given === undefined ? [] : [null, graph.constant(tensor('int64', [], [given]))];
  graph.output(graph.add('DFT', [x, ...own], attributes), 'y');
  const [node] = normalize(graph).nodes;
  expect(Number(node.inputs[2]?.constant?.data[0])).toBe(axis);
  expect(node.attributes.has('axis')).toBe(false);
});
