/**
 * @file A forward pass in forms for CUDA: attention with fewer passes over its square matrices (the scale inside the product, the mask
 * inside the softmax), biases where the provider adds them fastest.
 */

import { afterPass } from '../graph/checker.ts';
import { float, type Graph, Node, Value } from '../graph/ir.ts';
import type { Shape, Shapes } from './shapes.ts';

/**
 * c (A B) as one product, before differentiation: results are the same up to rounding.
 * @param shapes of all values; those of new ones are added
 */
export function scaleInProducts(graph: Graph, shapes: Map<Value, Shape>): void {
  rewrite(graph, (node) => scaledProduct(node, shapes), shapes);
}

/**
 * bias + x as x + bias. CUDA's kernels know the place of a vector that is the second operand; for one that is the first they compute
 * every element's.
 */
export function vectorsSecond(graph: Graph, shapes: Shapes): void {
  const rank = (v: Value | null | undefined): number => (v ? (shapes.get(v)?.dims.length ?? 0) : 0);
  for (const node of graph.nodes) {
    const [a, b] = node.inputs;
    if ((node.op === 'Add' || node.op === 'Mul') && rank(a) === 1 && rank(b) > 1) node.setInputs([b, a]);
  }
}

/**
 * softmax(x + mask) as one operator, after differentiation. BiasSoftmax has kernels on CUDA alone, and none of bfloat16.
 * @param shapes of the values of the forward pass
 */
export function maskInSoftmax(graph: Graph, shapes: Shapes): void {
  rewrite(graph, (node) => maskedSoftmax(node, shapes));
}

function rewrite(graph: Graph, made: (node: Node) => Made, shapes?: Map<Value, Shape>): void {
  for (const node of [...graph.nodes]) {
    const found = made(node);
    if (!found) continue;
    const [from] = node.outputs;
    const to = new Value(graph.freshName(from.name), { dtype: from.dtype, dims: from.dims });
    const shape = shapes?.get(from);
    if (shape) shapes?.set(to, shape);
    const own = new Node(found.op, found.inputs, [to], { domain: 'com.microsoft', attributes: found.attributes });
    if (!graph.opsets.has('com.microsoft')) graph.opsets.set('com.microsoft', 1);
    graph.insertAfter(node, own);
    graph.replaceOutput(from, to);
    graph.replace(from, to);
  }
  graph.prune();
  graph.sort();
  afterPass(graph);
}

type Made = { op: string; inputs: Value[]; attributes: Record<string, ReturnType<typeof float> | number> } | undefined;

/** The one value that a node reads besides a scalar constant, and that scalar. */
function withScalar(node: Node): { x: Value; scalar: number } | undefined {
  const [a, b] = node.inputs;
  const scalar = (v: Value | null | undefined): number | undefined =>
    v?.constant?.data.length === 1 ? Number(v.constant.data[0]) : undefined;
  const [left, right] = [scalar(a), scalar(b)];
  if (a && right !== undefined) return { x: a, scalar: node.op === 'Div' ? 1 / right : right };
  return b && left !== undefined && node.op === 'Mul' ? { x: b, scalar: left } : undefined;
}

/** c (A B) and (A B) / c, with equal batch dimensions. */
function scaledProduct(node: Node, shapes: Shapes): Made {
  const found = node.domain === '' && (node.op === 'Mul' || node.op === 'Div') ? withScalar(node) : undefined;
  const product = found?.x.producer;
  if (!found || product?.op !== 'MatMul' || found.x.readers.size !== 1) return undefined;
  const [a, b] = product.inputs as [Value, Value];
  const [one, other] = [a, b].map((v) => shapes.get(v)?.dims.slice(0, -2));
  if (!one?.length || String(one) !== String(other)) return undefined;
  return { op: 'FusedMatMul', inputs: [a, b], attributes: { alpha: float(found.scalar) } };
}

/** softmax(x + mask) over the last axis, with a mask [batch, 1 .., length] for x [batch, .., length]. */
function maskedSoftmax(node: Node, shapes: Shapes): Made {
  const [sum] = node.inputs;
  const add = sum?.producer;
  if (node.op !== 'Softmax' || node.domain !== '' || add?.op !== 'Add' || sum?.readers.size !== 1) return undefined;
  const dims = shapes.get(sum)?.dims ?? [];
  const last = dims.length - 1;
  const axis = node.int('axis', -1);
  if (dims.length < 3 || (axis !== -1 && axis !== last)) return undefined;
  const isMask = (v: Value | null): boolean => {
    const own = (v && shapes.get(v)?.dims) || [];
    return own.length === dims.length && own.every((d, i) => d === (i === 0 || i === last ? dims[i] : 1));
  };
  const at = add.inputs.findIndex(isMask);
  if (at < 0) return undefined;
  const inputs = [add.inputs[1 - at], add.inputs[at]] as Value[];
  return { op: 'BiasSoftmax', inputs, attributes: { axis: last, is_inner_broadcast: 1 } };
}
