/**
 * @file A forward pass in forms for a device: attention with fewer passes over its square matrices (the scale inside the product, or
 * before it), biases where the provider adds them fastest.
 */

import { afterPass } from '../graph/checker.ts';
import { float, type Graph, Node, Value } from '../graph/ir.ts';
import { constantShape, type Shape, type Shapes } from './shapes.ts';

/**
 * c (A B) as one product, before differentiation: results are the same up to rounding.
 * @param shapes of all values; those of new ones are added
 */
export function scaleInProducts(graph: Graph, shapes: Map<Value, Shape>): void {
  eachScaledProduct(graph, shapes, ({ a, b, scalar }, out) => {
    if (!graph.opsets.has('com.microsoft')) graph.opsets.set('com.microsoft', 1);
    const attributes = { alpha: float(scalar) };
    return [new Node('FusedMatMul', [a, b], [out], { domain: 'com.microsoft', attributes })];
  });
}

/**
 * c (A B) as (c A) B where A is narrower than the product, as a query is in attention: the same up to rounding. For a device whose
 * products take no factor.
 * @param shapes of all values; those of new ones are added
 */
export function scaleBeforeProducts(graph: Graph, shapes: Map<Value, Shape>): void {
  eachScaledProduct(graph, shapes, ({ a, b, by }, out) => {
    const shape = shapes.get(a);
    const isNumber = (v: Value): boolean => typeof shapes.get(v)?.dims.at(-1) === 'number';
    if (!shape || !isNumber(a) || isNumber(b)) return [];
    const scaled = new Value(graph.freshName(a.name), { dtype: a.dtype, dims: a.dims });
    shapes.set(scaled, shape);
    return [new Node(by.op, [a, by.factor], [scaled]), new Node('MatMul', [scaled, b], [out])];
  });
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
 * Shapes of Reshapes as constants where they are computed and need not be: some hundred small operators of an exported encoder, each
 * of which a device's host goes through one by one.
 */
export function constantReshapes(graph: Graph, shapes: Map<Value, Shape>): void {
  for (const node of graph.nodes) {
    const [x, shape] = node.inputs;
    if (node.op !== 'Reshape' || node.domain !== '' || !x || !shape || shape.constant) continue;
    const [from, to] = [shapes.get(x), shapes.get(node.outputs[0])];
    const written = from && to && constantShape(from.dims, to.dims);
    if (!written) continue;
    const constant = graph.constant({
      dtype: 'int64',
      dims: [written.length],
      data: BigInt64Array.from(written, BigInt),
    });
    shapes.set(constant, { dtype: 'int64', dims: [written.length] });
    node.setInputs([x, constant]);
    node.attributes.delete('allowzero');
  }
  graph.prune();
  afterPass(graph);
}

/** The one value that a node reads besides a scalar constant, and that scalar. */
function withScalar(node: Node): { x: Value; scalar: number } | undefined {
  const [a, b] = node.inputs;
  const scalar = (v: Value | null | undefined): number | undefined =>
    v?.constant?.data.length === 1 ? Number(v.constant.data[0]) : undefined;
  const [left, right] = [scalar(a), scalar(b)];
  if (a && right !== undefined) return { x: a, scalar: node.op === 'Div' ? 1 / right : right };
  return b && left !== undefined && node.op === 'Mul' ? { x: b, scalar: left } : undefined;
}

/** c (A B) or (A B) / c, with equal batch dimensions. */
interface ScaledProduct {
  a: Value;
  b: Value;
  /** c, or 1 / c. */
  scalar: number;
  /** How it is written. */
  by: { op: string; factor: Value };
}

/** Puts what `made` gives in place of each scaled product; the last node makes `out`. */
function eachScaledProduct(
  graph: Graph,
  shapes: Map<Value, Shape>,
  made: (found: ScaledProduct, out: Value) => Node[],
): void {
  for (const node of [...graph.nodes]) {
    const found = scaledProduct(node, shapes);
    if (!found) continue;
    const [from] = node.outputs;
    const to = new Value(graph.freshName(from.name), { dtype: from.dtype, dims: from.dims });
    const nodes = made(found, to);
    if (!nodes.length) continue;
    const shape = shapes.get(from);
    if (shape) shapes.set(to, shape);
    for (const own of [...nodes].reverse()) graph.insertAfter(node, own);
    graph.replaceOutput(from, to);
    graph.replace(from, to);
  }
  graph.prune();
  graph.sort();
  afterPass(graph);
}

function scaledProduct(node: Node, shapes: Shapes): ScaledProduct | undefined {
  const found = node.domain === '' && (node.op === 'Mul' || node.op === 'Div') ? withScalar(node) : undefined;
  const product = found?.x.producer;
  if (!found || product?.op !== 'MatMul' || found.x.readers.size !== 1) return undefined;
  const [a, b] = product.inputs as [Value, Value];
  const [one, other] = [a, b].map((v) => shapes.get(v)?.dims.slice(0, -2));
  if (!one?.length || String(one) !== String(other)) return undefined;
  const factor = node.inputs.find((v) => v && v !== found.x) as Value;
  // One number of more dimensions than the product gives the result its own.
  if ((factor.constant?.dims.length ?? 0) > one.length + 2) return undefined;
  return { a, b, scalar: found.scalar, by: { op: node.op, factor } };
}
