/** @file Which constants of a file are weights to train. */
import type { Graph, Node, Value } from './ir.ts';
import { isFloat, sizeOf } from './tensor.ts';

/**
 * The float initializers of a graph as loaded (before normalize) that training may change. Constants of the arithmetic
 * are left out: single numbers, and tables of angles that only reach the rest through sine and cosine.
 */
export function trainableConstants(graph: Graph): Value[] {
  return graph.constants.filter(
    (v) => v.constant && isFloat(v.constant.dtype) && sizeOf(v.constant.dims) > 1 && !onlyAngles(v) && !neverMoves(v),
  );
}

/** Whether every way on from a value leads through Sin or Cos before it meets anything but arithmetic on positions. */
function onlyAngles(v: Value): boolean {
  const stack: Node[] = [...v.readers];
  const seen = new Set<Node>();
  let angle = false;
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.op === 'Sin' || node.op === 'Cos') {
      angle = true;
      continue;
    }
    if (
      ![
        'Mul',
        'MatMul',
        'Cast',
        'Unsqueeze',
        'Reshape',
        'Transpose',
        'Concat',
        'Expand',
        'Einsum',
        'Identity',
        'Gather',
      ].includes(node.op)
    )
      return false;
    if (seen.size > 40) return false;
    for (const output of node.outputs) stack.push(...output.readers);
  }
  return angle;
}

/** Sines and cosines stored ready-made, or biases of masked positions: read by Where, Slice or Shape alone. */
function neverMoves(v: Value): boolean {
  return [...v.readers].every((n) => ['Where', 'Shape', 'ConstantOfShape'].includes(n.op));
}
