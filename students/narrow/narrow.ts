/** @file Makes the layers of an encoder narrower: some attention heads and hidden units are kept, in smaller matrices. */
import { InputError } from '../../common/errors.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { Place } from '../architectures/architecture.ts';
import { findAttention } from '../architectures/attention.ts';
import { findFeedForward, withBias } from '../architectures/feed-forward.ts';
import { placesOf } from '../architectures/index.ts';

/** What of a layer is kept, by number, in ascending order. */
export interface Kept {
  heads: readonly number[];
  units: readonly number[];
}

/** Where a layer's heads and hidden units are. */
interface Parts {
  /** [B, heads, L, width] what attention gives. */
  mixed: Value;
  heads: number;
  width: number;
  /** [B, L, units] what the second product reads. */
  hidden: Value;
  units: number;
  /** Products whose outputs are heads or units, and those whose inputs are. */
  toHeads: readonly Node[];
  fromHeads: Node;
  toUnits: Node;
  fromUnits: Node;
  /** Reshapes that name the heads or their joined width, with the shape [0, 0, ..] that they give. */
  reshapes: readonly { node: Node; joined: boolean }[];
  /** Values of all heads, from attention to the product that reads them. */
  passed: readonly Value[];
}

const refuse = (number: number, why: string): InputError =>
  new InputError({
    code: 'narrow.layer',
    subject: `layer ${number} cannot be made narrower: ${why}`,
    expected: 'products with stored matrices before and behind heads and hidden units, as BERT has them',
    remedy: 'choose an encoder of that form',
  });

function partsOf(place: Place): Parts {
  const { number, dims } = place;
  const network = findFeedForward(place);
  if (!network.before) throw refuse(number, 'its feed-forward network is gated');
  const { output: mixed, heads, width, sides } = findAttention(place);
  const reshapes: { node: Node; joined: boolean }[] = [];
  /** The product behind heads, through their transposition, reshape and scale. */
  const back = (v: Value): Node => {
    const node = v.producer;
    if (!node) throw refuse(number, 'its heads are not made by a product');
    if (node.op === 'MatMul' && isStored(node.inputs[1])) return node;
    if (node.op === 'Reshape') {
      const to = dims(node.outputs[0]);
      if (to.length !== 4 || to[2] !== heads || to[3] !== width)
        throw refuse(number, 'its heads are laid out in another way');
      reshapes.push({ node, joined: false });
    } else if (!['Transpose', 'Add', 'Mul', 'Div', 'Cast', 'Identity'].includes(node.op))
      throw refuse(number, `${node.title} stands between a product and its heads`);
    const next = node.inputs.find((i) => i && dims(i).length >= 3 && i.producer);
    if (!next) throw refuse(number, 'its heads are not made by a product');
    return back(next);
  };
  const toHeads = sides.map(back);
  const passed: Value[] = [];
  const ahead = (v: Value): Node => {
    // What reads the shape alone is gone with the reshapes' shapes, or refused then.
    const [node, other] = [...v.readers].filter((n) => n.op !== 'Shape');
    if (!node || other) throw refuse(number, 'its heads are read twice');
    passed.push(v);
    if (node.op === 'MatMul' && isStored(node.inputs[1])) return node;
    if (node.op === 'Reshape') {
      if (dims(node.outputs[0]).length !== 3) throw refuse(number, 'its heads are joined in another way');
      reshapes.push({ node, joined: true });
    } else if (!['Transpose', 'Cast', 'Identity'].includes(node.op))
      throw refuse(number, `${node.title} reads its heads`);
    return ahead(node.outputs[0]);
  };
  const toUnits = [...nodesBefore(network.before)].find((n) => n.op === 'MatMul' && isStored(n.inputs[1]));
  if (!toUnits || network.second.op !== 'MatMul') throw refuse(number, 'its feed-forward network has other products');
  return {
    mixed,
    heads,
    width,
    hidden: network.hidden,
    units: network.units,
    toHeads,
    fromHeads: ahead(mixed),
    toUnits,
    fromUnits: network.second,
    reshapes,
    passed,
  };
}

/** The producer of a value, and of what it adds. */
const nodesBefore = (v: Value): Node[] =>
  v.producer ? [v.producer, ...v.producer.inputs.flatMap((i) => (i?.producer ? [i.producer] : []))] : [];

const storedOf = (v: Value | null): Value | undefined =>
  v?.constant
    ? v
    : v?.producer?.op === 'Transpose' && v.producer.inputs[0]?.constant
      ? v.producer.inputs[0]
      : undefined;
const isStored = (v: Value | null): boolean => storedOf(v)?.constant?.dims.length === 2;

/** How many heads and hidden units each layer has. The graph is normalised in place. */
export async function widthsOf(graph: Graph): Promise<{ heads: number; units: number }[]> {
  return (await placesOf(graph)).map(partsOf).map(({ heads, units }) => ({ heads, units }));
}

/** Names of the masks of a layer: inputs [heads] and [units] of a masked graph. */
export const maskNames = (layer: number): { heads: string; units: string } => ({
  heads: `mask.heads.${layer}`,
  units: `mask.units.${layer}`,
});

/** Multiplies the heads and hidden units of every layer by inputs, in place. @returns the inputs, by layer */
export async function withMasks(graph: Graph): Promise<{ heads: Value; units: Value }[]> {
  const parts = (await placesOf(graph)).map(partsOf);
  const found = parts.map(({ mixed, heads, hidden, units }, layer) => {
    const names = maskNames(layer);
    const masks = {
      heads: graph.input(names.heads, 'float32', [heads]),
      units: graph.input(names.units, 'float32', [units]),
    };
    const times = (v: Value, by: Expr): void => {
      const readers = [...v.readers];
      const product = new Expr(graph, v).mul(by).value;
      for (const node of readers) node.replaceInput(v, product);
    };
    times(mixed, new Expr(graph, masks.heads).reshape(1, heads, 1, 1));
    times(hidden, new Expr(graph, masks.units));
    return masks;
  });
  graph.sort();
  return found;
}

/**
 * Keeps some heads and hidden units of every layer, in place: the matrices before them lose columns, those behind them rows. The graph
 * then computes what it computed with a mask of ones and zeros.
 *
 * @param kept of each layer, at least one of each
 * @throws InputError where a layer has another form, or shares a matrix
 */
export async function narrow(graph: Graph, kept: readonly Kept[]): Promise<void> {
  const parts = (await placesOf(graph)).map(partsOf);
  for (const [layer, own] of parts.entries()) {
    const { heads, units } = kept[layer];
    const columns = heads.flatMap((h) => Array.from({ length: own.width }, (_, i) => h * own.width + i));
    const all: [Node, readonly number[], 'inputs' | 'outputs'][] = [
      ...own.toHeads.map((n) => [n, columns, 'outputs'] as [Node, number[], 'outputs']),
      [own.fromHeads, columns, 'inputs'],
      [own.toUnits, units, 'outputs'],
      [own.fromUnits, units, 'inputs'],
    ];
    for (const [node, which, side] of all) {
      const stored = storedOf(node.inputs[1]) as Value;
      if (stored.readers.size > 1 || (node.inputs[1] as Value).readers.size > 1)
        throw refuse(layer, `'${stored.name}' is read in several places`);
      const turned = stored !== node.inputs[1];
      shrink(stored, (side === 'outputs') !== turned ? 1 : 0, which);
      const bias = side === 'outputs' ? withBias(node).producer?.inputs.find((v) => v?.constant) : undefined;
      if (bias) shrink(bias, 0, which);
    }
    for (const { node, joined } of own.reshapes) {
      const shape = new Expr(graph, node.inputs[0] as Value).ints(
        0,
        0,
        ...(joined ? [columns.length] : [heads.length, own.width]),
      );
      node.setInputs([node.inputs[0], shape.value]);
      node.attributes.delete('allowzero');
    }
  }
  for (const node of graph.nodes) for (const v of node.outputs) if (!graph.outputs.includes(v)) v.dims = undefined;
  graph.prune();
  graph.sort();
  for (const [layer, { passed }] of parts.entries())
    if (passed.some((v) => v.readers.size > 1)) throw refuse(layer, 'the shape of its heads is read elsewhere');
}

/** Keeps some positions of an axis of a stored matrix or vector. */
function shrink(v: Value, axis: 0 | 1, which: readonly number[]): void {
  const { dims, data, dtype } = v.constant as Tensor<'float32'>;
  const [rows, columns] = dims.length === 1 ? [dims[0], 1] : dims;
  const out = new Float32Array(axis === 0 ? which.length * columns : rows * which.length);
  for (const [i, at] of which.entries())
    if (axis === 0) out.set(data.subarray(at * columns, (at + 1) * columns), i * columns);
    else for (let r = 0; r < rows; r++) out[r * which.length + i] = data[r * columns + at];
  const size = axis === 0 ? [which.length, ...dims.slice(1)] : [rows, which.length];
  [v.constant, v.dims] = [{ dtype, dims: size, data: out }, size];
}
