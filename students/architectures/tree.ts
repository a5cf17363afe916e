/** @file Balanced-tree attention: a tree routes queries and keys to leaves of equal size, and attention is computed inside a leaf. */
import { z } from 'zod';
import { constant, type Expr } from '../../engine/expressions/expr.ts';
import { defineArchitecture, fixed, zerosOf } from './architecture.ts';
import { findAttention } from './attention.ts';
import { instead } from './feed-forward.ts';

/**
 * TF-attention of a balanced tree: at each level the queries of a node are sorted by their product with a direction and halved, and so
 * are its keys; the queries of a leaf attend to its keys. Directions are drawn once and not trained: what is learned is queries and
 * keys. Leaves hold equal shares of a text's tokens, padding left out. Depth 0 is full attention.
 *
 * @source after Madaan, Bhojanapalli, Jain, Jain, ICLR 2023, "Treeformer" (arXiv 2208.09015), whose trees are not balanced by force
 */
export const tree = defineArchitecture({
  options: { depth: z.int().nonnegative().max(8).default(3).describe('levels of the tree: 2^depth leaves') },
  part: 'attention',
  describe: (o) => `tree attention of depth ${o.depth}`,
  rewrite(place, { depth }, random) {
    const { graph, number, mask } = place;
    const { queries, keys, values, output, width } = findAttention(place);
    const directions = Array.from({ length: depth }, (_, level) => {
      const data = Float32Array.from({ length: width }, () => random.normal());
      return fixed(graph, { dtype: 'float32', dims: [width, 1], data }, `tree_direction.${number}.${level}`);
    });
    const ints = (...values: number[]): Expr => mask.ints(...values);
    const length = mask.op('Shape', [], { start: 1, end: 2 }); // [1]
    const batch = mask.op('Shape', [], { start: 0, end: 1 });
    const heads = queries.op('Shape', [], { start: 1, end: 2 });
    const leaves = 2 ** depth;
    const slots = depth ? slotsOf(length, leaves) : length;
    const tokens = mask.sum([1]).unsqueeze(1, 2); // [B, 1, 1]
    const route = (x: Expr) => routed(x, directions, { tokens, slots, depth, shape: [batch, heads], mask });
    const ofQueries = route(queries);
    const ofKeys = route(keys);
    // [B, H, leaves, S, d]
    const leafOf = (x: Expr, at: Expr): Expr => x.op('GatherND', [at.unsqueeze(-1)], { batch_dims: 2 });
    const [q, k, v] = [leafOf(queries, ofQueries.at), leafOf(keys, ofKeys.at), leafOf(values, ofKeys.at)];
    const scores = q.matmul(k.transpose(0, 1, 2, 4, 3));
    const inside = ofKeys.real.unsqueeze(-2).where(scores, -1e9).softmax(-1);
    const made = inside.matmul(v);
    // Where a token's query went: the slot that holds it. Padding has a slot of its own, which is cut off.
    const flat = batch.concat([heads, ints(-1)], 0);
    const slot = ofQueries.real.where(ofQueries.at, length).reshapeTo(flat);
    const numbers = constant(graph, 'int64', [], [0])
      .op('Range', [slots.mul(ints(leaves)).squeeze(0), constant(graph, 'int64', [], [1])])
      .unsqueeze(0, 1)
      .expandTo(slot.shape());
    const none = batch
      .concat([heads, length.add(ints(1))], 0)
      .op('ConstantOfShape', [], { value: { dtype: 'int64', dims: [1], data: BigInt64Array.of(0n) } as never });
    const held = none.op('ScatterElements', [slot, numbers], { axis: -1 }).op('Slice', [ints(0), length, ints(-1)]);
    const rows = made.reshapeTo(batch.concat([heads, ints(-1, width)], 0));
    instead(graph, output, rows.op('GatherND', [held.unsqueeze(-1)], { batch_dims: 2 }));
    return {};
  },
});

/**
 * Slots of a leaf: ceil(L / leaves) tokens, and some that stay empty. They are 1 or 3, since shapes are observed at two lengths that
 * differ by 2 (training/step/encoder-graph.ts), where a division alone would give the same number and pass for a fixed size.
 */
function slotsOf(length: Expr, leaves: number): Expr {
  const int = (n: number): Expr => length.ints(n);
  const full = length.add(int(leaves - 1)).div(int(leaves));
  return full.add(int(1)).add(
    length
      .op('Mod', [int(4)])
      .div(int(2))
      .mul(int(2)),
  );
}

interface Layout {
  /** [B, 1, 1] tokens of each text. */
  tokens: Expr;
  /** [1] slots of a leaf. */
  slots: Expr;
  depth: number;
  shape: [batch: Expr, heads: Expr];
  /** [B, L] */
  mask: Expr;
}

/**
 * The tokens of each leaf: positions [B, H, leaves, S], and whether a slot holds one. A node with n tokens gives ceil(n / 2) of them to
 * its first half, so that leaves depend on a text's tokens and not on its padding.
 */
function routed(x: Expr, directions: readonly Expr[], { tokens, slots, depth, shape: [batch, heads], mask }: Layout) {
  const { graph } = x;
  const ints = (...values: number[]): Expr => x.ints(...values);
  const scalar = (n: number): Expr => constant(graph, 'int64', [], [n]);
  const range = (n: Expr): Expr => scalar(0).op('Range', [n.squeeze(0), scalar(1)]);
  const lead = (...rest: Expr[]): Expr => batch.concat([heads, ...rest], 0);
  const length = mask.op('Shape', [], { start: 1, end: 2 });
  const whole = slots.mul(ints(2 ** depth));
  // All tokens in order; slots beyond them read token 0.
  const places = range(whole);
  const within = places.less(length).where(places, scalar(0));
  let at = within.unsqueeze(0, 1, 2).expandTo(lead(ints(1), whole)); // [B, H, 1, S]
  let counts = tokens.add(zeros64(batch.concat([ints(1, 1)], 0))); // [B, 1, 1], tokens of each node
  // Padding stands behind the tokens on the first level only where texts are padded on the right: it is sorted away there.
  const shown = mask.greater(mask.ints(0)).unsqueeze(1).expandTo(lead(length)); // [B, H, L]
  let real = shown.op('GatherND', [at.unsqueeze(-1)], { batch_dims: 2 }).op('And', [places.less(length)]);
  for (let level = 0; level < depth; level++) {
    const height = x.matmul(directions[level]).squeeze(-1).stopGradient(); // [B, H, L]
    const own = height.op('GatherND', [at.unsqueeze(-1)], { batch_dims: 2 }); // [B, H, nodes, S]
    const size = whole.div(ints(2 ** level));
    const [, order] = real.where(own, -1e30).ops('TopK', [size], 2, { axis: -1 });
    const sorted = at.gatherElements(order, -1);
    // The first half has ceil(n / 2) tokens and starts at 0, the second floor(n / 2) behind them.
    const half = size.div(ints(2));
    const first = counts.add(ints(1)).div(ints(2)); // [B, 1, nodes]
    const second = counts.sub(first);
    const slot = range(half); // [S / 2]
    const pick = (start: Expr | undefined, n: Expr) => {
      const holds = slot.less(n.unsqueeze(-1)); // [B, 1, nodes, S / 2]
      const from = start ? slot.add(start.unsqueeze(-1)) : slot;
      const index = holds.where(from, scalar(0));
      const full = lead(ints(2 ** level), half);
      return { at: sorted.gatherElements(index.expandTo(full), -1), holds: holds.expandTo(full) };
    };
    const [left, right] = [pick(undefined, first), pick(first, second)];
    const deeper = lead(ints(2 ** (level + 1)), half);
    const joined = (a: Expr, b: Expr): Expr =>
      a
        .unsqueeze(3)
        .concat([b.unsqueeze(3)], 3)
        .reshapeTo(deeper);
    at = joined(left.at, right.at);
    real = joined(left.holds, right.holds);
    counts = first
      .unsqueeze(3)
      .concat([second.unsqueeze(3)], 3)
      .reshapeTo(batch.concat([ints(1, 2 ** (level + 1))], 0));
  }
  return { at, real };
}

const zeros64 = (shape: Expr): Expr => zerosOf(shape).cast('int64');
