/** @file Finds the softmax attention of a layer by structure: queries, keys, values, and the scale of their products. */
import { InputError } from '../../common/errors.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Node, Value } from '../../engine/graph/ir.ts';
import { sizeOf } from '../../engine/graph/tensor.ts';
import type { Place } from './architecture.ts';

/** softmax(q k^T + mask) v of a layer; the scale is part of q and k, its square root in each. */
export interface Attention {
  /** [B, H, L, d] */
  queries: Expr;
  keys: Expr;
  values: Expr;
  /** What makes them: queries [B, H, L, d], keys with their last axes exchanged, values. */
  sides: readonly [Value, Value, Value];
  /** [B, H, L, d] what it gives. */
  output: Value;
  heads: number;
  width: number;
}

/** Operators with which a bias would depend on where tokens stand. */
const positional = new Set('Range CumSum Abs Less LessOrEqual Greater GreaterOrEqual Trilu'.split(' '));

/** @throws InputError where the layer's attention has another form, such as a bias by relative positions */
export function findAttention({ graph, layer, number, dims }: Place): Attention {
  const refuse = (why: string): InputError =>
    new InputError({
      code: 'architecture.attention',
      subject: `the attention of layer ${number} cannot be replaced: ${why}`,
      expected: 'softmax(q k^T / sqrt(d) + mask) v over [batch, heads, tokens, width]',
      remedy: 'leave the layer out by the option layers of student.architecture, or choose another encoder',
    });
  const softmax = softmaxOf(layer.output, layer.input);
  if (!softmax) throw refuse('it has no Softmax');
  const [probabilities] = softmax.outputs;
  const mix = mixing(probabilities);
  if (!mix) throw refuse('its weights do not multiply values');
  const factors: { by: Value; op: 'Mul' | 'Div' }[] = [];
  const product = scoresOf(softmax.inputs[0] as Value, factors, (side) => {
    const wrong = readsPositions(side);
    if (wrong) throw refuse(`its scores have a bias by position (${wrong})`);
  });
  if (!product) throw refuse('its scores are not a product of queries and keys');
  const [q, k] = product.inputs as Value[];
  const v = mix.inputs[1] as Value;
  const shape = dims(q);
  const [heads, width] = [shape[1], shape[3]];
  if (shape.length !== 4 || typeof heads !== 'number' || typeof width !== 'number')
    throw refuse('its heads or their width are not fixed');
  if (dims(v).length !== 4 || dims(v)[1] !== heads) throw refuse('its values have other heads than its queries');
  let [queries, keys] = [new Expr(graph, q), new Expr(graph, k).transpose(0, 1, 3, 2)];
  for (const { by, op } of factors) {
    const root = new Expr(graph, by).sqrt();
    queries = queries.op(op, [root]);
    keys = keys.op(op, [root]);
  }
  return { queries, keys, values: new Expr(graph, v), sides: [q, k, v], output: mix.outputs[0], heads, width };
}

/** The Softmax between two values that is nearest to the first of them. */
function softmaxOf(to: Value, from: Value): Node | undefined {
  const seen = new Set<Value>([from]);
  const found: Node[] = [];
  const stack = [to];
  for (let v = stack.pop(); v; v = stack.pop()) {
    if (seen.has(v)) continue;
    seen.add(v);
    if (v.producer?.op === 'Softmax') found.push(v.producer);
    for (const input of v.producer?.inputs ?? []) if (input) stack.push(input);
  }
  return found.length === 1 ? found[0] : undefined;
}

/** The product of the weights with the values; a guard against rows without a token may stand between. */
function mixing(weights: Value): Node | undefined {
  for (const node of weights.readers) {
    if (node.op === 'MatMul' && node.inputs[0] === weights) return node;
    const found = ['Where', 'Cast', 'Identity'].includes(node.op) && mixing(node.outputs[0]);
    if (found) return found;
  }
  return undefined;
}

/** The product q k^T behind scores; scales on the way are noted, and every other term is checked. */
function scoresOf(
  scores: Value,
  factors: { by: Value; op: 'Mul' | 'Div' }[],
  check: (side: Value) => void,
): Node | undefined {
  const node = scores.producer;
  if (!node) return undefined;
  if (node.op === 'MatMul') return node.inputs.every((v) => v?.producer) ? node : undefined;
  if (!['Add', 'Sub', 'Mul', 'Div', 'Where', 'Cast', 'Identity', 'Max'].includes(node.op)) return undefined;
  for (const v of node.inputs) {
    const own: typeof factors = [];
    const found = v && scoresOf(v, own, check);
    if (!found) continue;
    const others = node.inputs.filter((other) => other && other !== v) as Value[];
    const [other] = others;
    if ((node.op === 'Mul' || node.op === 'Div') && other && scalar(other)) own.push({ by: other, op: node.op });
    else for (const side of others) check(side);
    factors.push(...own);
    return found;
  }
  return undefined;
}

/** One number, stored or computed of sizes. */
const scalar = (v: Value): boolean =>
  v.constant ? sizeOf(v.constant.dims) === 1 : ['Sqrt', 'Cast', 'Div', 'Pow'].includes(v.producer?.op ?? '');

/** What makes a value depend on positions; undefined where it depends on the mask and on numbers alone. */
function readsPositions(value: Value): string | undefined {
  const seen = new Set<Value>();
  const stack = [value];
  for (let v = stack.pop(); v; v = stack.pop()) {
    if (seen.has(v)) continue;
    seen.add(v);
    const { dtype = '', dims = [] } = v.constant ?? {};
    if (sizeOf(dims) > 1 && (dtype.startsWith('float') || dims.length > 1)) return v.name;
    if (!v.producer) continue;
    if (positional.has(v.producer.op)) return v.producer.title;
    if (!['Shape', 'Size', 'ConstantOfShape'].includes(v.producer.op))
      for (const input of v.producer.inputs) if (input) stack.push(input);
  }
  return undefined;
}
