/** @file Half precision: weights stored in it, or the arithmetic done in it too. */
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { fromOnnxType, onnxType } from '../../engine/io/onnx-file.ts';
import { floatToHalf, LARGEST_HALF } from '../../math/half.ts';

/** What a constant that is not 0 becomes at least: an epsilon that turned 0 would divide by 0. */
const SMALLEST = 2 ** -24;

export function toHalf(t: Tensor): Tensor {
  const data = new Uint16Array(t.data.length);
  for (let i = 0; i < data.length; i++) {
    const x = Number(t.data[i]);
    data[i] = floatToHalf(x !== 0 && Math.abs(x) < SMALLEST ? Math.sign(x) * SMALLEST : x);
  }
  return { dtype: 'float16', dims: t.dims, data };
}

/** Tensors smaller than this are not worth a Cast of their own. */
const SMALLEST_STORED = 64;

/** Stores weights in half precision and casts them back: half the size, the speed and nearly the values of float32. */
export function storeHalf(graph: Graph): void {
  for (const v of graph.constants) {
    const t = v.constant as Tensor;
    if (t.dtype !== 'float32' || t.data.length < SMALLEST_STORED || !worthwhile(t)) continue;
    const stored = new Expr(graph, graph.constant(toHalf(t), `${v.name}_fp16`));
    graph.replace(v, stored.cast('float32').value);
  }
  graph.sort();
}

/** Halves err by 2^-25 at least: little relative to the tensor's largest number, unless that is small itself. */
const worthwhile = (t: Tensor): boolean => {
  const largest = (t.data as Float32Array).reduce((m, x) => Math.max(m, Math.abs(x)), 0);
  return largest >= 2 ** -10 && largest <= LARGEST_HALF;
};

/**
 * Rewrites the arithmetic between integer inputs and the outputs to half precision; outputs are cast back to float32.
 * What only leads to integers (buckets of relative positions) stays in float32, where it is exact.
 */
export function computeHalf(graph: Graph): void {
  const integral = leadsToIntegers(graph);
  const half = (v: Value): boolean => v.dtype === 'float32' || v.dtype === undefined;
  for (const v of graph.constants) {
    if (v.constant?.dtype !== 'float32') continue;
    const readers = [...v.readers];
    const exact = readers.filter((n) => integral.has(n));
    if (exact.length < readers.length) {
      const stored = graph.constant(toHalf(v.constant), exact.length ? `${v.name}_fp16` : v.name);
      if (!exact.length) stored.name = v.name;
      for (const n of readers) if (!integral.has(n)) n.replaceInput(v, stored);
    }
  }
  for (const node of graph.nodes) {
    if (integral.has(node)) continue;
    for (const [name, a] of node.attributes) {
      if (a.kind === 'tensor' && a.value.dtype === 'float32')
        node.attributes.set(name, { kind: 'tensor', value: toHalf(a.value) });
      if (name === 'to' && a.kind === 'int' && fromOnnxType(a.value) === 'float32')
        node.attributes.set(name, { kind: 'int', value: onnxType('float16') });
    }
    for (const v of node.outputs) if (half(v)) [v.dtype, v.dims] = [undefined, undefined];
  }
  keepExact(graph, integral);
  for (const v of graph.outputs) graph.replaceOutput(v, new Expr(graph, v).cast('float32').value);
}

/** Operators whose inputs are of one type, and from which place on. */
const ofOneType = new Map(
  ['Add', 'Sub', 'Mul', 'Div', 'Pow', 'Min', 'Max', 'MatMul', 'Less', 'Greater', 'Equal'].map((op) => [op, 0]),
).set('Where', 1);

/** Halves that what stays in float32 is computed with or compared with are cast to it. */
function keepExact(graph: Graph, integral: ReadonlySet<Node>): void {
  const exact = new Set(graph.constants.filter((v) => v.constant?.dtype === 'float32'));
  const known = new Map<Value, Value>();
  for (const node of [...graph.nodes]) {
    if (!integral.has(node)) continue;
    const floats = node.op === 'Cast' && fromOnnxType(node.int('to', 0)) === 'float32';
    if (!floats && !node.inputs.some((v) => v && exact.has(v))) continue;
    const first = ofOneType.get(node.op) ?? Number.POSITIVE_INFINITY;
    for (const v of node.inputs.slice(first)) {
      if (!v?.producer || exact.has(v)) continue;
      if (!known.has(v)) known.set(v, new Expr(graph, v).cast('float32').value);
      node.replaceInput(v, known.get(v) as Value);
    }
    for (const v of node.outputs) exact.add(v);
  }
  if (known.size) graph.sort();
}

/** Nodes all of whose ways on end in a Cast to an integer type or in a comparison. */
function leadsToIntegers(graph: Graph): Set<Node> {
  const found = new Set<Node>();
  const ends = (n: Node): boolean =>
    (n.op === 'Cast' && !['float32', 'float16'].includes(fromOnnxType(n.int('to', 0)) ?? '')) ||
    ['Less', 'Greater', 'Equal', 'Shape'].includes(n.op);
  for (const node of [...graph.nodes].reverse()) {
    const readers = node.outputs.flatMap((v) => [...v.readers]);
    if (ends(node)) found.add(node);
    else if (
      readers.length &&
      !node.outputs.some((v) => graph.outputs.includes(v)) &&
      readers.every((n) => found.has(n))
    )
      found.add(node);
  }
  return found;
}
