/**
 * @file A forward pass in forms for a device: attention with fewer passes over its square matrices (the scale inside the product, or
 * before it, the mask inside the softmax), GELU by parts that its gradient reads again, biases where the provider adds them fastest,
 * shapes as constants.
 */

import { Expr } from '../expressions/expr.ts';
import { afterPass } from '../graph/checker.ts';
import { float, type Graph, Node, Value } from '../graph/ir.ts';
import { type Forms, fuses } from './rule.ts';
import { HALF_OF_ONE_PLUS } from './rules-normalization.ts';
import { fusedMatMul } from './rules-product.ts';
import { constantShape, type Shape, type Shapes } from './shapes.ts';

/** What a forward pass must leave as it is, and what the provider has. */
export interface ForwardForms {
  /** Products with weights stay as they are: the optimizer reads their inputs. */
  products?: boolean;
  /** Whether there is a kernel of BiasSoftmax, in the graph's precision. */
  biasSoftmax?: boolean;
}

/**
 * Writes a forward pass in what is fast for some forms, before differentiation: results are the same up to rounding.
 * @param shapes of all values; those of new ones are added
 */
export function forwardForms(
  graph: Graph,
  shapes: Map<Value, Shape>,
  forms: Forms,
  { products = false, biasSoftmax = false }: ForwardForms = {},
): void {
  if (fuses(forms) || forms === 'webgpu') constantReshapes(graph, shapes);
  if (fuses(forms)) {
    vectorsSecond(graph, shapes);
    if (!products) geluByParts(graph, shapes);
    if (biasSoftmax) maskInSoftmax(graph, shapes);
    scaleInProducts(graph, shapes);
  }
  if (forms === 'webgpu') scaleBeforeProducts(graph, shapes);
}

/** c (A B) as one product. */
function scaleInProducts(graph: Graph, shapes: Map<Value, Shape>): void {
  eachScaledProduct(graph, shapes, ({ a, b, scalar }, out) => {
    if (!graph.opsets.has('com.microsoft')) graph.opsets.set('com.microsoft', 1);
    const attributes = { alpha: float(scalar) };
    return [new Node('FusedMatMul', [a, b], [out], { domain: 'com.microsoft', attributes })];
  });
}

/**
 * c (A B) as (c A) B where A is narrower than the product, as a query is in attention: the same up to rounding. For a device whose
 * products take no factor.
 */
function scaleBeforeProducts(graph: Graph, shapes: Map<Value, Shape>): void {
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
function vectorsSecond(graph: Graph, shapes: Shapes): void {
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
function constantReshapes(graph: Graph, shapes: Map<Value, Shape>): void {
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

/**
 * Between two products, GELU(h W + b) V as the product of s = (h W + b) / sqrt 2 with P = (1 + erf s) / 2, and sqrt 2 in the second
 * product: both products take a factor at no cost, and the gradient reads s and P as they are. Of twelve passes over the widest
 * activations, ten are left.
 */
function geluByParts(graph: Graph, shapes: Map<Value, Shape>): void {
  const isMatrix = (v: Value): boolean => shapes.get(v)?.dims.length === 2 && !v.dims?.includes(0);
  for (const node of [...graph.nodes]) {
    const sum = node.inputs[0]?.producer;
    if (node.op !== 'Gelu' || node.string('approximate', 'none') !== 'none' || sum?.op !== 'Add') continue;
    const [y] = node.outputs;
    const readers = [...y.readers];
    const [product, bias] = sum.inputs as [Value, Value];
    const first = product.producer;
    const plain = (n: Node, left?: Value): boolean =>
      n.op === 'MatMul' && (!left || n.inputs[0] === left) && n.inputs[1] !== left && isMatrix(n.inputs[1] as Value);
    if (!first || !plain(first) || shapes.get(bias)?.dims.length !== 1) continue;
    if ((shapes.get(product)?.dims.length ?? 0) < 3 || !readers.length || !readers.every((n) => plain(n, y))) continue;
    const inner = [product, sum.outputs[0], y];
    if (inner.some((v) => graph.outputs.includes(v)) || product.readers.size > 1 || sum.outputs[0].readers.size > 1)
      continue;
    const expr = (v: Value | null): Expr => new Expr(graph, v as Value);
    const like = (e: Expr, v: Value): Expr => {
      shapes.set(e.value, shapes.get(v) as Shape);
      [e.value.dtype, e.value.dims] = [v.dtype, v.dims];
      return e;
    };
    const multiplied = (n: Node, left: Expr, alpha: number): Expr =>
      like(fusedMatMul(left, expr(n.inputs[1]), { alpha }), n.outputs[0]);
    const s = like(
      multiplied(first, expr(first.inputs[0]), Math.SQRT1_2).add(like(expr(bias).mul(Math.SQRT1_2), bias)),
      y,
    );
    const part = like(like(s.op('Erf'), y).op('HardSigmoid', [], HALF_OF_ONE_PLUS), y);
    const v = like(s.mul(part), y);
    for (const n of readers) {
      const out = multiplied(n, v, Math.SQRT2);
      graph.replaceOutput(n.outputs[0], out.value);
      graph.replace(n.outputs[0], out.value);
    }
  }
  graph.prune();
  graph.sort();
  afterPass(graph);
}

/**
 * softmax(x + mask) as one operator, which ONNX Runtime has for CUDA alone: x [B, H, L, S], mask [B, 1, 1, S]. Its two passes over
 * attention's squares are the slowest that are not products: 1.07 ms a layer for 576 x 12 x 192 x 192 in float16 on an H200, so 0.48.
 */
function maskInSoftmax(graph: Graph, shapes: Map<Value, Shape>): void {
  for (const node of [...graph.nodes]) {
    const sum = node.inputs[0]?.producer;
    const [y] = node.outputs;
    if (node.op !== 'Softmax' || sum?.op !== 'Add' || ![-1, 3].includes(node.int('axis', -1))) continue;
    if (sum.outputs[0].readers.size > 1 || graph.outputs.includes(sum.outputs[0])) continue;
    // A row that is masked as a whole has a gradient of its own.
    if (graph.outputs.includes(y) || [...y.readers].some((n) => n.op === 'IsNaN')) continue;
    const dimsOf = (v: Value): readonly unknown[] => shapes.get(v)?.dims ?? [];
    const masks = (x: Value, mask: Value): boolean => {
      const [own, dims] = [dimsOf(x), dimsOf(mask)];
      return own.length === 4 && String(dims) === String([own[0], 1, 1, own[3]]) && dims[0] !== 1;
    };
    const [a, b] = sum.inputs as [Value, Value];
    const inputs = masks(a, b) ? [a, b] : masks(b, a) ? [b, a] : undefined;
    if (!inputs) continue;
    const made = graph.add('BiasSoftmax', inputs, { axis: 3, is_inner_broadcast: 1 }, { domain: 'com.microsoft' });
    [made.dtype, made.dims] = [y.dtype, y.dims];
    shapes.set(made, shapes.get(y) as Shape);
    graph.replace(y, made);
  }
  graph.prune();
  graph.sort();
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
