/** @file Which constants of a file are weights to train. */
import type { Graph, Node, Value } from '../graph/ir.ts';
import { isFloat, sizeOf, type Tensor } from '../graph/tensor.ts';

/**
 * The float constants of a graph as loaded (before normalize) that training may change. Constants of the arithmetic are left out:
 * scalars except the bias of a single output, angles and their sines and cosines, and vectors of one repeated number in place of
 * a weight that the model does not have.
 */
export function trainableConstants(graph: Graph): Value[] {
  const constants = graph.constants.filter((v) => v.constant && isFloat(v.constant.dtype));
  const tables = constants.filter((v) => (v.constant?.dims.length ?? 0) >= 2 && withinOne(v.constant as Tensor));
  return constants.filter((v) => {
    const { dims, data } = v.constant as Tensor;
    if (sizeOf(dims) === 1) return dims.length === 1 && biasOfOne(v);
    if (v.inline && data.every((x) => x === data[0])) return false;
    return !onlyAngles(v) && !neverMoves(v) && !tables.some((other) => onOneCircle(v, other));
  });
}

/** The bias of a linear layer with one output, as a classifier of relevance has it. */
function biasOfOne(v: Value): boolean {
  const single = (weight: Value | null | undefined): boolean => {
    const dims = weight?.constant?.dims ?? weight?.producer?.inputs[0]?.constant?.dims;
    return dims?.length === 2 && dims.includes(1);
  };
  return [...v.readers].every((n) => {
    if (n.op === 'Gemm') return n.inputs[2] === v && single(n.inputs[1]);
    const product = n.inputs[0] === v ? n.inputs[1]?.producer : n.inputs[0]?.producer;
    return n.op === 'Add' && product?.op === 'MatMul' && single(product.inputs[1]);
  });
}

const withinOne = (t: Tensor): boolean =>
  t.dtype === 'float32' && (t.data as Float32Array).every((x) => Math.abs(x) <= 1);

/**
 * Whether two tables (not vectors: a scale of ones and a shift of zeros are not angles) are the sines and cosines of the same
 * angles: a^2 + b^2 = 1 everywhere.
 */
function onOneCircle(v: Value, other: Value): boolean {
  const [a, b] = [v.constant as Tensor, other.constant as Tensor];
  if (v === other || a.dtype !== 'float32' || String(a.dims) !== String(b.dims)) return false;
  const [x, y] = [a.data as Float32Array, b.data as Float32Array];
  return x.every((value, i) => Math.abs(value * value + y[i] * y[i] - 1) < 1e-4);
}

/** Whether every path from a value reaches Sin or Cos through nothing but arithmetic on positions. */
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

/** Precomputed sines and cosines, or biases of masked positions: read only by Where, Slice or Shape. */
function neverMoves(v: Value): boolean {
  return [...v.readers].every((n) => ['Where', 'Shape', 'ConstantOfShape'].includes(n.op));
}
