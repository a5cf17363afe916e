/** @file Folds Constant nodes, quantised weights and decided branches into plain constants when a file is read. */
import { InputError } from '../../common/errors.ts';
import type { Attribute, Graph, Node, Value } from './ir.ts';
import { castFloat, sizeOf, type Tensor, tensor } from './tensor.ts';

/** Constant nodes become constants. */
export function inlineConstants(graph: Graph): void {
  const settled = new Map<Node, Tensor>();
  for (const node of graph.nodes) {
    if (node.op !== 'Constant') continue;
    const [[kind, a]] = [...node.attributes];
    settled.set(node, constantOf(kind, a));
    node.outputs[0].inline = true;
  }
  graph.foldNodes(settled);
}

function constantOf(kind: string, a: Attribute): Tensor {
  if (a.kind === 'tensor') return a.value;
  if (kind === 'value_float') return tensor('float32', [], [a.value as number]);
  if (kind === 'value_int') return tensor('int64', [], [a.value as number]);
  const list = a.value as readonly number[];
  if (kind === 'value_floats') return tensor('float32', [list.length], list);
  if (kind === 'value_ints') return tensor('int64', [list.length], list);
  throw new InputError({
    code: 'onnx.unsupported',
    subject: `a Constant node with '${kind}' is not read`,
    remedy: 'export the model again',
  });
}

/** Weights stored as integers with a scale become floats: w = (q - zero) scale, by tensor, axis or block. */
export function foldDequantized(graph: Graph): void {
  const folded = new Map<Node, Tensor>();
  for (const node of graph.nodes) {
    const [q, scale, zero] = node.inputs.map((v) => v?.constant ?? folded.get(v?.producer as Node));
    if (node.op !== 'DequantizeLinear' || !q || !scale || (node.inputs[2] && !zero)) continue;
    folded.set(node, dequantized(node, q, scale, zero ?? undefined));
  }
  graph.foldNodes(folded);
}

function dequantized(node: Node, q: Tensor, scaleTensor: Tensor, zero: Tensor | undefined): Tensor {
  const scale = castFloat(scaleTensor, 'float32').data;
  const data = new Float32Array(q.data.length);
  const axis = (node.int('axis', 1) + q.dims.length) % Math.max(1, q.dims.length);
  const block = node.int('block_size', 0);
  const inner = sizeOf(q.dims.slice(axis + 1));
  const size = q.dims[axis] ?? 1;
  const groups = block ? Math.ceil(size / block) : size;
  for (let i = 0; i < data.length; i++) {
    const along = Math.floor(i / inner) % size;
    const outer = Math.floor(i / (inner * size));
    const at =
      scale.length === 1 ? 0 : block ? (outer * groups + Math.floor(along / block)) * inner + (i % inner) : along;
    data[i] = (Number(q.data[i]) - Number(zero?.data[at] ?? 0)) * scale[at];
  }
  return { dtype: 'float32', dims: q.dims, data };
}

const comparisons: Readonly<Record<string, ((a: number, b: number) => boolean) | undefined>> = {
  And: (a, b) => Boolean(a && b),
  Equal: (a, b) => a === b,
  Greater: (a, b) => a > b,
  Less: (a, b) => a < b,
  Or: (a, b) => Boolean(a || b),
};

/** The numbers of a value that depends only on constants and static dimensions; undefined otherwise. */
export function settle(v: Value): number[] | undefined {
  if (v.constant) return Array.from(v.constant.data as ArrayLike<number | bigint>, Number);
  const node = v.producer;
  if (!node) return undefined;
  if (node.op === 'Constant') {
    const [[kind, a]] = [...node.attributes];
    return Array.from(constantOf(kind, a).data as ArrayLike<number | bigint>, Number);
  }
  const [first, second] = node.inputs;
  if (node.op === 'Gather' && first?.producer?.op === 'Shape' && second) {
    const dims = first.producer.inputs[0]?.dims;
    const at = settle(second)?.[0];
    const dim = at === undefined ? undefined : dims?.at(at);
    return typeof dim === 'number' ? [dim] : undefined;
  }
  const a = first ? settle(first) : undefined;
  if (!a) return undefined;
  if (['Cast', 'Identity', 'Squeeze', 'Unsqueeze'].includes(node.op)) return a;
  if (node.op === 'Not') return a.map((x) => Number(!x));
  const compare = comparisons[node.op];
  const b = second ? settle(second) : undefined;
  return compare && b ? a.map((x, i) => Number(compare(x, b[b.length === 1 ? 0 : i]))) : undefined;
}
