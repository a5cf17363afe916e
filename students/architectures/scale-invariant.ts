/** @file An encoder whose unit vectors do not change where all of its weights are multiplied by a number: for clipped SGD. */
import { InputError } from '../../common/errors.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { float, type Node, type Value } from '../../engine/graph/ir.ts';
import { isFloat, type Tensor } from '../../engine/graph/tensor.ts';
import { defineArchitecture, fixed, type Place } from './architecture.ts';
import { findAttention } from './attention.ts';
import { findFeedForward, instead } from './feed-forward.ts';
import { relu } from './sparse.ts';

/** The least sum of a token's scores: one that scores no other receives nothing. */
const LEAST = 1e-6;

/**
 * PreNorm, ReLU, and attention N(ReLU(Q K^T)) V, whose rows are divided by their sums. With z = N(x) without gains that are trained,
 *
 *     x_0 = h W,  h the embeddings behind their normalization
 *     y = x + N(ReLU(q k^T)) (z Wv + bv) Wo,  q = z Wq + bq,  k = z Wk + bk
 *     x' = y + ReLU(N(y) W1 + b1) W2
 *
 * every term of the stream has degree 2 in the weights, and the last normalization takes the degree away: theta and c theta give the same
 * unit vectors for any c > 0, so that <theta, gradient> = 0, and the gradient at c theta is that at theta divided by c.
 *
 * Layers begin with the weights of those that are rewritten. Gains between layers become constants; the gain and shift behind the last
 * layer are weights, of degree 1, which unit length removes. The biases behind Wo and W2 have degree 1 and are left out. A PostNorm
 * encoder computes something else as PreNorm: it must be trained.
 *
 * @source Li, Bhojanapalli, Zaheer, Reddi and Kumar, ICML 2022 (arXiv 2202.00980); the form of the input, W from the identity, is ours
 */
export const scaleInvariant = defineArchitecture({
  options: {},
  part: 'layer',
  describe: () => 'scale-invariant',
  rewrite(place, _, random) {
    const { graph, layer, number, mask } = place;
    const { sums, norms, outputs } = findBlocks(place);
    const { queries, keys, values, output } = findAttention(place);
    const statistics = relu.rewrite(place, {}, random);
    const shown = mask.float().unsqueeze(1, 2); // [B, 1, 1, L]
    const scores = queries
      .matmul(keys.transpose(0, 1, 3, 2))
      .relu()
      .mul(shown);
    instead(graph, output, scores.div(scores.sum([-1], true).max(LEAST)).matmul(values));
    for (const v of outputs) withoutBias(v);
    const readers = [...layer.input.readers];
    const [stream, read] = number ? between(place) : entrance(place, norms[0]);
    for (const node of readers) node.replaceInput(layer.input, node === sums[0] ? stream : read);
    sums[1].replaceInput(norms[0].outputs[0], sums[0].outputs[0]);
    constantGains(place, norms[0]);
    return statistics;
  },
});

/** The two residual sums of a PostNorm layer, the normalization of each, and the outputs of the blocks that are added. */
function findBlocks(place: Place): { sums: [Node, Node]; norms: [Node, Node]; outputs: [Value, Value] } {
  const refuse = (why: string): InputError =>
    new InputError({
      code: 'architecture.post-norm',
      subject: `layer ${place.number} cannot be made scale-invariant: ${why}`,
      expected: 'a layer of BERT: a normalization behind each of its two sums',
      remedy: 'choose an encoder of that form',
    });
  const { layer } = place;
  const block = (end: Value, stream: Value): [sum: Node, norm: Node, output: Value] => {
    const norm = end.producer;
    if (norm?.op !== 'LayerNormalization') throw refuse('a block does not end in a normalization');
    const sum = norm.inputs[0]?.producer;
    if (sum?.op !== 'Add' || sum.outputs[0].readers.size > 1 || !sum.inputs.includes(stream))
      throw refuse('its input is not added to what its block gives');
    return [sum, norm, sum.inputs.find((v) => v !== stream) as Value];
  };
  const { input } = findFeedForward(place);
  const [second, first] = [block(layer.output, input), block(input, layer.input)];
  return { sums: [first[0], second[0]], norms: [first[1], second[1]], outputs: [first[2], second[2]] };
}

/** The stream begins as the embeddings times a matrix, from the identity, and is read at the size that it had. */
function entrance({ graph, layer, dims }: Place, norm: Node): [stream: Value, read: Value] {
  const D = Number(dims(layer.input)[2]);
  const identity = Float32Array.from({ length: D * D }, (_, i) => Number(i % (D + 1) === 0));
  const weight = graph.constant({ dtype: 'float32', dims: [D, D], data: identity }, 'scale_invariant.input');
  const x = new Expr(graph, layer.input).matmul(new Expr(graph, weight));
  const before = layer.input.producer;
  const gains = before?.op === 'LayerNormalization' ? before.inputs.slice(1).map((v) => v?.constant) : [];
  const mean = gains.map((t) => (t ? squares(t) / t.data.length : 0)).reduce((a, b) => a + b, 0);
  const vector = (value: number, name: string): Expr =>
    fixed(graph, { dtype: 'float32', dims: [D], data: new Float32Array(D).fill(value) }, `scale_invariant.${name}`);
  const gain = vector(mean > 0 ? Math.sqrt(mean) : 1, 'gain');
  const epsilon = norm.attributes.get('epsilon') ?? float(1e-12);
  const read = x.op('LayerNormalization', [gain, vector(0, 'shift')], { axis: -1, epsilon });
  return [x.value, read.value];
}

/** Behind another layer: the stream is what its last normalization reads. */
function between(place: Place): [stream: Value, read: Value] {
  const norm = place.layer.input.producer as Node;
  constantGains(place, norm);
  return [norm.inputs[0] as Value, norm.outputs[0]];
}

const squares = ({ data }: Tensor): number => {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += Number(data[i]) ** 2;
  return sum;
};

/** Gain and shift of a normalization are trained no further. */
function constantGains({ graph }: Place, norm: Node): void {
  for (const v of norm.inputs.slice(1)) {
    if (!v?.constant || !isFloat(v.constant.dtype)) continue;
    norm.replaceInput(v, fixed(graph, v.constant as Tensor<'float32'>, `${v.name}.fixed`).value);
  }
}

/** Takes the bias behind a product away. */
function withoutBias(output: Value): void {
  const node = output.producer;
  if (node?.op === 'Gemm') node.setInputs(node.inputs.slice(0, 2));
  if (node?.op !== 'Add') return;
  const product = node.inputs.find((v) => v?.producer);
  if (product && node.inputs.some((v) => v?.constant))
    for (const reader of [...output.readers]) reader.replaceInput(output, product);
}
