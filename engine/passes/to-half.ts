/**
 * @file Turns a differentiated encoder into half precision: activations and their gradients are float16 or bfloat16, weights come in
 * and gradients go out in float32.
 */

import { LARGEST_HALF } from '../../math/half.ts';
import { Expr } from '../expressions/expr.ts';
import { afterPass } from '../graph/checker.ts';
import { type Graph, Node, Value } from '../graph/ir.ts';
import { castHalf, type DType, isFloat, tensor } from '../graph/tensor.ts';
import { fromOnnxType, onnxType } from '../io/onnx-file.ts';

/** Types of half precision, by the names of ONNX Runtime. */
export const halves = ['float16', 'bfloat16'] as const;
export type Half = (typeof halves)[number];

/**
 * Operators that run in half precision: those with kernels of both types in ONNX Runtime's CUDA provider at opset 20. What they sum
 * (products, means of LayerNormalization, Softmax, ReduceSum over the last axis) they sum in float32.
 * @source docs/OperatorKernels.md of microsoft/onnxruntime
 */
const inHalf = new Set(
  (
    'Abs Add Concat Erf Exp Expand Flatten FusedMatMul Gather Gelu Gemm Identity LayerNormalization MatMul Mul Neg ' +
    'ReduceSum Relu Reshape Sigmoid Sign Slice Softmax Split Squeeze Sub Sum Tanh Tile Transpose ' +
    'Unsqueeze Where'
  ).split(' '),
);
/** Those with a kernel of float16 only. */
const inFloat16 = new Set(['BiasSoftmax', 'Clip', 'Elu', 'HardSigmoid', 'LeakyRelu', 'Pad']);

/** Operators that read any type as it is. */
const asTheyAre = new Set(['Cast', 'CastLike', 'IsInf', 'IsNaN', 'Shape', 'Size']);
const integers = new Set(['Shape', 'Size', 'ArgMax', 'ArgMin', 'NonZero']);
const booleans = new Set('Equal Greater GreaterOrEqual Less LessOrEqual Not And Or Xor IsNaN IsInf'.split(' '));

/**
 * The largest number that a value without gradient keeps. Masks are written with the lowest float32, which is infinite in both types:
 * a row of masked scores only would become NaN. Half of float16's range, so that a score can be added.
 */
const most: Readonly<Record<Half, number>> = { float16: LARGEST_HALF / 2, bfloat16: 1e38 };

export interface HalfOptions {
  /** Inputs and constants where half precision begins, each cast once: weights, and the table of dropout's masks. */
  sources: ReadonlySet<Value>;
  /** Inputs that a gradient is computed for or comes in by: what depends on them is never bounded. */
  active: readonly Value[];
  /** Nodes that stay in float32: those behind the token vectors. */
  wide: ReadonlySet<Node>;
}

/**
 * Converts a graph in place; its inputs and outputs stay float32.
 *
 * An operator runs in half precision where one of its inputs is of that precision or a source. The others, and operators without a
 * kernel of the type, run in float32, with Casts before them.
 *
 * @param graph normalised, in float32, with its backward pass
 * @returns the values that took the place of outputs
 */
export function toHalf(graph: Graph, dtype: Half, { sources, active: from, wide }: HalfOptions): Map<Value, Value> {
  if (dtype === 'bfloat16') spellHardSigmoid(graph);
  const types = new Map<Value, DType>(graph.inputs.map((v) => [v, v.dtype ?? 'float32']));
  const active = new Set(from);
  const statistics = new Set<Value>();
  const casts = new Map<Value, Map<DType, Value>>();
  const ordered: Node[] = [];
  const typeOf = (v: Value): DType => v.constant?.dtype ?? types.get(v) ?? 'float32';
  const put = (op: string, inputs: Value[], type: DType, attributes = {}): Value => {
    const out = new Value(graph.freshName(inputs[0].name), { dtype: type });
    ordered.push(new Node(op, inputs, [out], { attributes }));
    types.set(out, type);
    return out;
  };
  const number = (n: number): Value => graph.constant(tensor('float32', [], [n]));
  const bounded = (v: Value): Value => {
    // Inverse deviations are positive.
    if (statistics.has(v)) return put('Min', [v, number(most[dtype])], 'float32');
    if (active.has(v) || !v.producer || v.producer.op === 'ConstantOfShape') return v;
    return put('Min', [put('Max', [v, number(-most[dtype])], 'float32'), number(most[dtype])], 'float32');
  };
  const cast = (v: Value, to: DType): Value => {
    if (typeOf(v) === to) return v;
    const known = casts.get(v)?.get(to);
    if (known) return known;
    const made = v.constant
      ? graph.constant(castHalf(v.constant, dtype, most[dtype]), v.name)
      : put('Cast', [to === dtype ? bounded(v) : v], to, { to: onnxType(to) });
    if (active.has(v)) active.add(made);
    casts.set(v, (casts.get(v) ?? new Map()).set(to, made));
    return made;
  };

  for (const node of graph.nodes) {
    const floats = node.inputs.filter((v): v is Value => !!v && isFloat(typeOf(v)));
    const halved = floats.some((v) => typeOf(v) === dtype || sources.has(v));
    const to = halved && !wide.has(node) && hasKernel(node, dtype) ? dtype : 'float32';
    if (floats.length && !asTheyAre.has(node.op))
      node.setInputs(node.inputs.map((v) => (v && isFloat(typeOf(v)) ? cast(v, to) : v)));
    ordered.push(node);
    const depends = node.inputs.some((v) => v && active.has(v));
    for (const [i, v] of node.outputs.entries()) {
      types.set(v, outputType(node, i, typeOf));
      if (depends) active.add(v);
      if (i && node.op.endsWith('LayerNormalization') && typeOf(v) === 'float32') statistics.add(v);
    }
  }
  const outputs = new Map<Value, Value>();
  for (const v of graph.outputs) if (typeOf(v) === dtype) outputs.set(v, cast(v, 'float32'));
  for (const [old, wider] of outputs) graph.replaceOutput(old, wider);
  const before = new Set(graph.nodes);
  for (const node of ordered) if (!before.has(node)) graph.addNode(node);
  graph.reorder(ordered);
  for (const [v, type] of types) v.dtype = type;
  graph.sort();
  afterPass(graph);
  return outputs;
}

function hasKernel(node: Node, dtype: Half): boolean {
  // Sums over other axes than the last may be added up in the type itself.
  if (node.op === 'ReduceSum') {
    const axes = node.inputs[1]?.constant?.data;
    return axes?.length === 1 && Number(axes[0]) === -1;
  }
  return inHalf.has(node.op) || (dtype === 'float16' && inFloat16.has(node.op));
}

/** The element type of an output. @param typeOf of inputs */
export function outputType(node: Node, i: number, typeOf: (v: Value) => DType): DType {
  const { op, inputs } = node;
  if (integers.has(op) || (op === 'TopK' && i === 1)) return 'int64';
  if (booleans.has(op) || (op === 'Dropout' && i === 1)) return 'bool';
  if (op === 'Cast') return fromOnnxType(node.int('to', 1)) ?? 'float32';
  if (op === 'ConstantOfShape') {
    const value = node.attributes.get('value');
    return value?.kind === 'tensor' ? value.value.dtype : 'float32';
  }
  if (op.endsWith('LayerNormalization') && (i === 1 || i === 2)) return 'float32';
  const at = op === 'Where' || op === 'CastLike' ? 1 : op === 'OneHot' ? 2 : 0;
  const [first, chosen] = [inputs[0], inputs[at]];
  if (!first || !chosen || op.startsWith('Random') || op === 'EyeLike' || op === 'Bernoulli') return 'float32';
  return typeOf(chosen);
}

/** GELU's gradient writes (1 + erf) / 2 as HardSigmoid, which has no kernel of bfloat16; the argument is from -1 to 1. */
function spellHardSigmoid(graph: Graph): void {
  for (const node of [...graph.nodes]) {
    const [x] = node.inputs;
    if (node.op !== 'HardSigmoid' || !x || x.producer?.op !== 'Erf') continue;
    const half = new Expr(graph, x).mul(node.float('alpha', 0.2)).add(node.float('beta', 0.5));
    graph.replace(node.outputs[0], half.value);
    graph.removeNodes(new Set([node]));
  }
  graph.sort();
}
