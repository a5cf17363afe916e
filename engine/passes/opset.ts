/** @file Converts a graph to another opset: a newer one where an operator needs it, an older one where a reader does. */
import { InputError } from '../../common/errors.ts';
import { Expr } from '../expressions/expr.ts';
import type { Graph, Node, Value } from '../graph/ir.ts';
import { tensor } from '../graph/tensor.ts';

/** Operators whose axes were an attribute before the given opset and are an input since. */
const axesBecameInput: Readonly<Record<string, number>> = {
  ReduceSum: 13, Squeeze: 13, Unsqueeze: 13, ReduceL1: 18, ReduceL2: 18, ReduceLogSum: 18, ReduceLogSumExp: 18,
  ReduceMax: 18, ReduceMean: 18, ReduceMin: 18, ReduceProd: 18, ReduceSumSquare: 18,
}; // biome-ignore format: a table

/** The opset that introduced an operator, where that is 12 or later. @source onnx, docs/Operators.md */
const since: Readonly<Record<string, number>> = {
  Celu: 12, Einsum: 12, GreaterOrEqual: 12, LessOrEqual: 12, HardSwish: 14, Trilu: 14, Bernoulli: 15, CastLike: 15,
  Optional: 15, OptionalGetElement: 15, OptionalHasElement: 15, GridSample: 16, BlackmanWindow: 17, DFT: 17,
  HammingWindow: 17, HannWindow: 17, LayerNormalization: 17, MelWeightMatrix: 17, STFT: 17, SequenceMap: 17,
  BitwiseAnd: 18, BitwiseNot: 18, BitwiseOr: 18, BitwiseXor: 18, CenterCropPad: 18, Col2Im: 18, GroupNormalization: 18,
  Mish: 18, DeformConv: 19, AffineGrid: 20, Gelu: 20, ImageDecoder: 20, RegexFullMatch: 20, StringConcat: 20,
  StringSplit: 20, Attention: 23, RMSNormalization: 23, RotaryEmbedding: 23, Swish: 24, TensorScatter: 24,
}; // biome-ignore format: a table

/** Attributes by the opset that introduced them; in older graphs those with a default value are left out. */
const newAttributes: Readonly<Record<string, { since: number; idle?: number }>> = {
  'Cast.saturate': { since: 19, idle: 1 },
  'CastLike.saturate': { since: 19, idle: 1 },
  'QuantizeLinear.saturate': { since: 19, idle: 1 },
  'QuantizeLinear.axis': { since: 13, idle: 1 },
  'QuantizeLinear.block_size': { since: 21, idle: 0 },
  'QuantizeLinear.output_dtype': { since: 21, idle: 0 },
  'DequantizeLinear.axis': { since: 13 },
  'DequantizeLinear.block_size': { since: 21, idle: 0 },
  'Reshape.allowzero': { since: 14, idle: 0 },
  'Shape.end': { since: 15 },
  'Shape.start': { since: 15, idle: 0 },
  'ScatterElements.reduction': { since: 16 },
  'ScatterND.reduction': { since: 16 },
};

/** Rewrites a graph in place to a newer opset; does nothing if it has that opset. */
export function liftOpset(graph: Graph, to: number): Graph {
  const from = graph.opset;
  if (from >= to) return graph;
  for (const node of graph.nodes) {
    if (node.domain !== '') continue;
    const became = axesBecameInput[node.op];
    const axes = node.ints('axes');
    if (became && from < became && became <= to && axes) appendInput(graph, node, 1, axes);
    if (node.op === 'Split' && from < 13 && to >= 13 && node.ints('split'))
      appendInput(graph, node, 1, node.ints('split') as number[], 'split');
    if (node.op === 'Split' && to >= 18 && !node.inputs[1] && !node.attributes.has('num_outputs'))
      node.attributes.set('num_outputs', { kind: 'int', value: node.outputs.length });
    if (node.op === 'DFT' && to >= 20 && from < 20) axisOfFourier(graph, node, 1);
    if ((node.op === 'Softmax' || node.op === 'LogSoftmax') && from < 13 && !node.attributes.has('axis'))
      node.attributes.set('axis', { kind: 'int', value: 1 });
    // Its ratio is an input since opset 12; outside training it is the identity.
    if (node.op === 'Dropout' && from < 12) node.attributes.delete('ratio');
  }
  graph.opsets.set('', to);
  return graph;
}

/** Adds the axis that a DFT omits: ONNX Runtime 1.30 crashes without it. */
export function axisOfFourier(graph: Graph, node: Node, otherwise: number): void {
  const axis = graph.constant(tensor('int64', [], [node.int('axis', otherwise)]), `${node.outputs[0].name}_axis`);
  node.attributes.delete('axis');
  node.setInputs([node.inputs[0], node.inputs[1] ?? null, axis]);
}

function appendInput(graph: Graph, node: Node, index: number, values: readonly number[], attribute = 'axes'): void {
  node.attributes.delete(attribute);
  const inputs = [...node.inputs];
  while (inputs.length < index) inputs.push(null);
  inputs[index] = graph.constant(tensor('int64', [values.length], values), `${node.outputs[0].name}_${attribute}`);
  node.setInputs(inputs);
}

/**
 * Rewrites a graph in place to an older opset; does nothing if it has that opset.
 * @throws InputError that names an operator which has no form of that opset
 */
export function lowerOpset(graph: Graph, to: number, file = 'the model'): Graph {
  if (graph.opset <= to) return graph;
  for (const node of [...graph.nodes]) {
    if (node.domain !== '') continue;
    const refuse = (what: string): InputError =>
      new InputError({
        code: 'onnx.lower',
        subject: `${file}: ${what} has no form of opset ${to}`,
        remedy: 'choose a newer opset, or export the model with an older one from its own framework',
      });
    const older = written[node.op];
    if ((since[node.op] ?? 0) > to) {
      const out = older?.(graph, node);
      if (!out) throw refuse(`the operator ${node.title}`);
      // An output of the graph keeps its name.
      const [old] = node.outputs;
      if (graph.outputs.includes(old)) [old.name, out.name] = [out.name, old.name];
      graph.replace(old, out);
      continue;
    }
    const became = axesBecameInput[node.op];
    if (became && to < became && node.inputs[1]) toAttribute(node, 1, 'axes', refuse);
    if (became && to < became) node.attributes.delete('noop_with_empty_axes');
    if (node.op === 'Split' && to < 18) node.attributes.delete('num_outputs');
    if (node.op === 'Split' && to < 13 && node.inputs[1]) toAttribute(node, 1, 'split', refuse);
    if (node.op === 'DFT' && to < 20) throw refuse(`the operator ${node.title}`);
    if (node.op === 'Pad' && to < 18 && node.inputs[3]) throw refuse(`the input 'axes' of ${node.title}`);
    for (const name of [...node.attributes.keys()]) {
      const rule = newAttributes[`${node.op}.${name}`];
      if (!rule || rule.since <= to) continue;
      if (rule.idle === undefined || node.int(name, rule.idle) !== rule.idle)
        throw refuse(`the attribute '${name}' of ${node.title}`);
      node.attributes.delete(name);
    }
  }
  graph.opsets.set('', to);
  graph.prune();
  graph.sort();
  return graph;
}

function toAttribute(node: Node, index: number, name: string, refuse: (what: string) => InputError): void {
  const given = node.inputs[index]?.constant;
  if (!given) throw refuse(`a computed '${name}' of ${node.title}`);
  node.attributes.set(name, { kind: 'ints', value: Array.from(given.data as BigInt64Array, Number) });
  node.setInputs(node.inputs.filter((_, i) => i !== index));
}

/** Operators expressed by older ones; undefined where a use cannot be expressed. */
const written: Readonly<Record<string, (graph: Graph, node: Node) => Value | undefined>> = {
  Gelu(graph, node) {
    const x = new Expr(graph, node.inputs[0] as Value);
    const inner =
      node.attributes.get('approximate')?.value === 'tanh'
        ? x
            .add(x.mul(x).mul(x).mul(0.044715))
            .mul(Math.sqrt(2 / Math.PI))
            .op('Tanh')
        : x.mul(Math.SQRT1_2).op('Erf');
    return x.mul(inner.add(1)).mul(0.5).value;
  },
  GreaterOrEqual: (graph, node) => negated(graph, node, 'Less'),
  LessOrEqual: (graph, node) => negated(graph, node, 'Greater'),
  LayerNormalization(graph, node) {
    if (node.int('axis', -1) !== -1 || node.outputs.slice(1).some((v) => v.readers.size)) return undefined;
    const [x, scale, bias] = node.inputs.map((v) => v && new Expr(graph, v)) as (Expr | null)[];
    if (!x || !scale) return undefined;
    const axes = { axes: [-1], keepdims: 1 };
    const centred = x.sub(x.op('ReduceMean', [], axes));
    const spread = centred.mul(centred).op('ReduceMean', [], axes).add(node.float('epsilon', 1e-5)).sqrt();
    const out = centred.div(spread).mul(scale);
    return (bias ? out.add(bias) : out).value;
  },
};

const negated = (graph: Graph, node: Node, opposite: string): Value => {
  const [a, b] = node.inputs.map((v) => new Expr(graph, v as Value));
  return a.op(opposite, [b]).not().value;
};
