/** @file Finds the feed-forward network of a layer by structure: products with weights, and what stands between them. */
import { InputError } from '../../common/errors.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { type Graph, Node, Value } from '../../engine/graph/ir.ts';
import { isFloat, sizeOf } from '../../engine/graph/tensor.ts';
import type { Place } from './architecture.ts';

/** y = act(x W1 + b1) W2 + b2, or a gated form of it. */
export interface FeedForward {
  /** [B, L, D] what it reads. */
  input: Value;
  /** [B, L, D] what it gives. */
  output: Value;
  /** [B, L, F] hidden units after the activation: what the second product reads. */
  hidden: Value;
  /** The node of the second product. */
  second: Node;
  /** [B, L, F] hidden units before the activation; absent in a gated network. */
  before?: Value;
  width: number;
  units: number;
}

/** Operators that treat each token and unit alone, or divide the units. */
const between = new Set(
  'Add Sub Mul Div Neg Pow Sqrt Exp Max Min Abs Gelu Relu LeakyRelu Elu Erf Tanh Sigmoid HardSigmoid HardSwish Softplus Softsign Mish Clip Split Slice Cast Identity'.split(
    ' ',
  ),
);

/** @throws InputError where the layer has none of a known form, as after it was replaced by experts */
export function findFeedForward({ graph, layer, number, dims }: Place): FeedForward {
  const refuse = (why: string): InputError =>
    new InputError({
      code: 'architecture.feed-forward',
      subject: `layer ${number} has no feed-forward network of a known form: ${why}`,
      expected: 'two products with stored weights, and an activation between them',
      remedy: 'leave the layer out by the option layers of student.architecture',
    });
  const own = nodesOf(graph, layer.input, layer.output);
  const second = own.findLast((n) => weightOf(n));
  if (!second) throw refuse('it has no product with a stored matrix');
  const hidden = second.inputs[0] as Value;
  const firsts = new Set<Node>();
  const seen = new Set<Value>();
  const stack: Value[] = [hidden];
  for (let v = stack.pop(); v; v = stack.pop()) {
    if (seen.has(v) || v.constant) continue;
    seen.add(v);
    const node = v.producer;
    if (!node || v === layer.input) throw refuse('its last product does not follow another');
    if (weightOf(node)) firsts.add(node);
    else if (!between.has(node.op)) throw refuse(`${node.title} stands before its last product`);
    else for (const input of node.inputs) if (input) stack.push(input);
  }
  const inputs = new Set([...firsts].map((n) => n.inputs[0] as Value));
  const [input] = inputs;
  if (!input || inputs.size > 1) throw refuse('its products read different values');
  const [units, width] = weightOf(second) as [number, number];
  // The tokens of one expert are no part of the batch: their number is their own.
  const stream = dims(layer.input).slice(0, -1).join();
  if (dims(input).slice(0, -1).join() !== stream) throw refuse('it does not read all tokens as they stand');
  const [first, ...others] = firsts;
  const plain = !others.length && (weightOf(first) as number[])[1] === units;
  const before = plain ? withBias(first) : undefined;
  return { input, output: withBias(second), hidden, second, before, width, units };
}

/** Nodes on a path from one value to another, in the order of the graph. */
function nodesOf(graph: Graph, from: Value, to: Value): Node[] {
  const found = new Set<Node>();
  const stack = [to];
  for (let v = stack.pop(); v; v = stack.pop()) {
    const node = v.producer;
    if (v === from || !node || found.has(node)) continue;
    found.add(node);
    for (const input of node.inputs) if (input) stack.push(input);
  }
  return graph.nodes.filter((n) => found.has(n));
}

/** [inputs, outputs] of a product with a stored matrix on its right, turned or not. */
function weightOf(node: Node): readonly number[] | undefined {
  if (node.op !== 'MatMul' && node.op !== 'Gemm') return undefined;
  const weight = node.inputs[1];
  const turn = weight?.producer?.op === 'Transpose';
  const stored = turn ? weight?.producer?.inputs[0] : weight;
  if (stored?.constant?.dims.length !== 2) return undefined;
  const turned = turn !== (node.op === 'Gemm' && node.int('transB', 0) === 1);
  return turned ? [...stored.constant.dims].reverse() : stored.constant.dims;
}

/** What a product gives, its bias added. */
export function withBias(product: Node): Value {
  const [out] = product.outputs;
  const [reader] = out.readers;
  const sum = out.readers.size === 1 && reader.op === 'Add' && reader.inputs.some((v) => v?.constant);
  return sum ? reader.outputs[0] : out;
}

/**
 * A copy of the network with weights of its own, which start as those that are copied.
 * @param x [.., D]
 * @param suffix of the names of its weights
 */
export function copyOf(graph: Graph, network: FeedForward, x: Expr, suffix: string): Expr {
  const map = new Map<Value, Value>([[network.input, x.value]]);
  const copied = (v: Value): Value => {
    const known = map.get(v);
    if (known) return known;
    if (v.constant) {
      const weights = isFloat(v.constant.dtype) && sizeOf(v.constant.dims) > 1;
      const own = weights ? graph.constant(v.constant, `${v.name}.${suffix}`) : v;
      map.set(v, own);
      return own;
    }
    if (!v.producer) return v;
    const node = v.producer;
    const inputs = node.inputs.map((input) => (input ? copied(input) : null));
    const outputs = node.outputs.map((o) => new Value(o.name ? graph.freshName(`${o.name}.${suffix}`) : ''));
    const copy = new Node(node.op, inputs, outputs, {
      domain: node.domain,
      name: node.name && `${node.name}.${suffix}`,
    });
    for (const [key, a] of node.attributes) copy.attributes.set(key, a);
    graph.addNode(copy);
    node.outputs.forEach((o, i) => {
      map.set(o, outputs[i]);
    });
    return map.get(v) as Value;
  };
  return new Expr(graph, copied(network.output));
}

/** Lets another value stand where a value stood. */
export function instead(graph: Graph, old: Value, by: Expr): void {
  const { dtype, dims } = old;
  graph.replace(old, by.value);
  Object.assign(by.value, { dtype, dims });
}
