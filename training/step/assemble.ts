/**
 * @file The graph of a dual-encoder's step: one copy of the encoder per group, the losses over all texts, and the backward pass.
 */

import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import { concatenated, Expr } from '../../engine/expressions/expr.ts';
import { Graph, type Node, type Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { TokenBatch } from '../batches/length-groups.ts';
import type { EncoderGraph } from './encoder-graph.ts';
import type { LossGraph } from './loss-graph.ts';
import { LOSS_SCALE } from './training-step.ts';

/** The texts of a step in groups of similar length, and the feeds of its losses. */
export interface GroupedBatch {
  groups: readonly TokenBatch[];
  /** Feeds of the losses, by input name. */
  losses: Record<string, Tensor>;
  /** Positions of the dropout masks of each group. */
  dropout?: { table: Tensor; places: readonly Tensor[] };
}

/** Tokens of each group, and the positions of its dropout masks. */
export function groupFeeds({ groups, dropout }: GroupedBatch): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = Object.assign({}, ...groups.map((b, g) => tokenFeeds(`group${g}.`, b)));
  if (dropout) feeds.dropout_table = dropout.table;
  for (const [g, t] of (dropout?.places ?? []).entries()) feeds[`group${g}.dropout_places`] = t;
  return feeds;
}

export function tokenFeeds(prefix: string, { rows, length, ids, mask, typeIds }: TokenBatch): Record<string, Tensor> {
  const dims = [rows, length];
  return {
    [`${prefix}input_ids`]: { dtype: 'int64', dims, data: ids },
    [`${prefix}attention_mask`]: { dtype: 'int64', dims, data: mask },
    [`${prefix}token_type_ids`]: { dtype: 'int64', dims, data: typeIds },
  };
}

/**
 * The graph of a whole step: losses as outputs, and the gradient of each weight as a value.
 * @param scaled whether gradients are multiplied by an input, LOSS_SCALE
 */
export function assemble(encoder: EncoderGraph, losses: LossGraph, groups: number, scaled = false) {
  const graph = new Graph(encoder.graph.opset);
  const bound = new Map<Value, Value>();
  const input = (v: Value, name = v.name): Value =>
    graph.input(name, v.dtype ?? 'float32', name === v.name ? (v.dims ?? []) : dimsOf(v, name));
  for (const w of encoder.weights) bound.set(w.value, input(w.value));
  for (const v of losses.graph.inputs) if (v !== losses.texts) bound.set(v, input(v));
  if (encoder.dropout) bound.set(encoder.dropout.table, input(encoder.dropout.table));

  // Forward pass by group; then the losses; then the backward pass by group.
  const copies = Array.from({ length: groups }, (_, g) => {
    const own = new Map(bound);
    for (const [name, v] of encoder.tokens) own.set(v, input(v, `group${g}.${name}`));
    if (encoder.dropout) own.set(encoder.dropout.places, input(encoder.dropout.places, `group${g}.dropout_places`));
    const made = graph.embed(part(encoder, encoder.forward), (v) => own.get(v), `group${g}/`);
    for (const [v, copy] of made) own.set(v, copy);
    return own;
  });
  const embeddings = copies.map((own) => new Expr(graph, own.get(encoder.embedding) as Value));
  const texts = groups > 1 ? embeddings[0].concat(embeddings.slice(1), 0) : embeddings[0];
  const loss = graph.embed(losses.graph, (v) => (v === losses.texts ? texts.value : bound.get(v)), 'loss/');
  const scale = scaled ? new Expr(graph, graph.input(LOSS_SCALE, 'float32', [1])) : undefined;
  const scaledUp = (v: Value): Expr => (scale ? new Expr(graph, v).mul(scale) : new Expr(graph, v));
  const upstream = scaledUp(loss.get(losses.upstream) as Value);
  const rows = embeddings.map((e) => e.op('Shape', [], { start: 0, end: 1 }));
  const shares =
    groups > 1 ? upstream.ops('Split', [rows[0].concat(rows.slice(1), 0)], groups, { axis: 0 }) : [upstream];
  for (const [g, own] of copies.entries()) {
    own.set(encoder.upstream, shares[g].value);
    const made = graph.embed(part(encoder, encoder.backward), (v) => own.get(v), `group${g}/`);
    for (const [v, copy] of made) own.set(v, copy);
  }

  // The gradients of a weight from the encoder's copies are summed; rows are listed copy by copy.
  const gradients = new Map<string, Gradient>();
  // Weights that a model adds up share one gradient value: summing it twice would count its products twice.
  const sums = new Map<Value, Value>();
  for (const [name, gradient] of encoder.gradients) {
    if ('dense' in gradient) {
      const sum = sums.get(gradient.dense) ?? sumOver(graph, copies, gradient);
      sums.set(gradient.dense, sum);
      gradients.set(name, { dense: sum });
    } else
      gradients.set(name, {
        rows: copies.flatMap((own) =>
          gradient.rows.map((r) => ({ indices: own.get(r.indices) as Value, rows: own.get(r.rows) as Value })),
        ),
      });
  }
  const overGroups = new Map<Value, Value>();
  const over = (v: Value): Value => {
    const known = overGroups.get(v);
    if (known) return known;
    const all = copies.map((own) => new Expr(graph, own.get(v) as Value));
    const { value } = concatenated(all, 0);
    overGroups.set(v, value);
    return value;
  };
  const products =
    encoder.products &&
    new Map(
      [...encoder.products].map(([name, { x, before, ...form }]) => [
        name,
        { ...form, x: over(x), ...(before && { before: over(before) }) },
      ]),
    );
  if (losses.projection)
    gradients.set('projection', { dense: scaledUp(loss.get(losses.projection.gradient) as Value).value });
  const total = loss.get(losses.total) as Value;
  const terms = losses.terms.map((t) => loss.get(t) as Value);
  graph.setOutputs(total, ...terms);
  return { graph, gradients, products, total: total.name, terms: terms.map((t) => t.name), scaled };
}

/** An encoder's nodes of one direction, to be copied into a graph. */
const part = ({ graph: { opsets } }: EncoderGraph, nodes: readonly Node[]) => ({ opsets, nodes, outputs: [] });

const dimsOf = (v: Value, name: string): (number | string)[] =>
  (v.dims ?? []).map((d) => (typeof d === 'number' ? d : `${name}.${d}`));

/** The sum of a gradient over groups. A product (Gemm) takes the running sum as its third input. */
function sumOver(graph: Graph, copies: readonly ReadonlyMap<Value, Value>[], gradient: { dense: Value }): Value {
  const parts = copies.map((own) => own.get(gradient.dense) as Value);
  return parts.reduce((sum, own) => {
    const node = own.producer;
    if (node?.op === 'Gemm' && node.inputs.length === 2 && !own.readers.size) {
      node.setInputs([...node.inputs, sum]);
      return own;
    }
    return new Expr(graph, sum).add(new Expr(graph, own)).value;
  });
}
