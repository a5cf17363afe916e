/** @file A step as one session run: the encoder once a group, the losses over all, and the way back. */

import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph, type Node, type Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { firstNotFiniteValue } from '../../engine/runtime/find-non-finite.ts';
import { Session, type SessionOptions } from '../../engine/runtime/session.ts';
import type { TokenBatch } from '../batches/length-groups.ts';
import type { EncoderGraph } from './encoder-graph.ts';
import type { LossGraph } from './loss-graph.ts';
import { type PackedBatch, type Parameter, type Plan, wantedFeeds } from './training-step.ts';

export async function wholePlan(
  encoder: EncoderGraph,
  losses: LossGraph,
  parameters: readonly Parameter[],
  groups: number,
  session?: SessionOptions,
): Promise<Plan> {
  const built = assemble(encoder, losses, groups);
  const { wholes, rows: tables } = emitGradients(built.graph, built.gradients);
  const running = await Session.load(built.graph, session, 'the training graph');
  const weights: Record<string, Tensor> = {};
  const into: Record<string, Tensor> = {};
  for (const p of parameters) {
    weights[p.name] = { dtype: 'float32', dims: p.dims, data: p.data };
    const output = wholes.get(p.name);
    if (output && p.gradient) into[output] = { dtype: 'float32', dims: p.dims, data: p.gradient };
  }
  return {
    graph: built.graph,
    async run(batch: PackedBatch) {
      const feeds = wantedFeeds(running.inputs, weights, batch.losses, groupFeeds(batch));
      const results = await running.run(feeds, into);
      for (const p of parameters) {
        const rows = tables.get(p.name);
        if (rows)
          p.rows = rows.map((r) => ({
            indices: results[r.indices].data as BigInt64Array,
            rows: results[r.rows].data as Float32Array,
          }));
      }
      const number = (name: string): number => Number(results[name].data[0]);
      return { loss: number(built.total), terms: built.terms.map(number) };
    },
    inspect: (batch) => firstNotFiniteValue(built.graph, { ...weights, ...batch.losses, ...groupFeeds(batch) }),
    release: () => running.release(),
  };
}

/** Tokens of each group, and where its dropout reads. */
export function groupFeeds({ groups, dropout }: PackedBatch): Record<string, Tensor> {
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

/** The graph of a whole step: losses as outputs, and the gradient of each weight as a value. */
export function assemble(encoder: EncoderGraph, losses: LossGraph, groups: number) {
  const graph = new Graph(encoder.graph.opset);
  const bound = new Map<Value, Value>();
  const input = (v: Value, name = v.name): Value =>
    graph.input(name, v.dtype ?? 'float32', name === v.name ? (v.dims ?? []) : dimsOf(v, name));
  for (const w of encoder.weights) bound.set(w.value, input(w.value));
  for (const v of losses.graph.inputs) if (v !== losses.texts) bound.set(v, input(v));
  if (encoder.dropout) bound.set(encoder.dropout.table, input(encoder.dropout.table));

  // Forward, group by group; then the losses; then back, group by group.
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
  const upstream = new Expr(graph, loss.get(losses.upstream) as Value);
  const rows = embeddings.map((e) => e.op('Shape', [], { start: 0, end: 1 }));
  const shares =
    groups > 1 ? upstream.ops('Split', [rows[0].concat(rows.slice(1), 0)], groups, { axis: 0 }) : [upstream];
  for (const [g, own] of copies.entries()) {
    own.set(encoder.upstream, shares[g].value);
    const made = graph.embed(part(encoder, encoder.backward), (v) => own.get(v), `group${g}/`);
    for (const [v, copy] of made) own.set(v, copy);
  }

  // What the encoder's copies say of a weight, summed; rows stand side by side.
  const gradients = new Map<string, Gradient>();
  // Weights that a model adds up share one gradient: summed twice, its products would count twice.
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
  if (losses.projection) gradients.set('projection', { dense: loss.get(losses.projection.gradient) as Value });
  const total = loss.get(losses.total) as Value;
  const terms = losses.terms.map((t) => loss.get(t) as Value);
  graph.outputs.push(total, ...terms);
  return { graph, gradients, total: total.name, terms: terms.map((t) => t.name) };
}

/** Names the gradients as outputs, and orders nodes so that each is made early. */
export function emitGradients(graph: Graph, gradients: ReadonlyMap<string, Gradient>) {
  const wholes = new Map<string, string>();
  const tables = new Map<string, { indices: string; rows: string }[]>();
  const leaves: Value[] = [];
  const emit = (v: Value, name: string): string => {
    // A value that others read too, or that is an output already, keeps its name; the output is a copy.
    const own = v.producer && !v.readers.size && !leaves.includes(v) ? v : new Expr(graph, v).op('Identity').value;
    own.name = graph.freshName(name);
    leaves.push(own);
    return own.name;
  };
  for (const [name, gradient] of gradients) {
    if ('dense' in gradient) wholes.set(name, emit(gradient.dense, `gradient:${name}`));
    else
      tables.set(
        name,
        gradient.rows.map((r, i) => ({
          indices: emit(r.indices, `indices${i}:${name}`),
          rows: emit(r.rows, `rows${i}:${name}`),
        })),
      );
  }
  graph.outputs.push(...leaves);
  tidy(graph);
  orderForMemory(graph, leaves);
  return { wholes, rows: tables };
}

/** Drops what nothing reads. */
export function tidy(graph: Graph): void {
  graph.prune();
  graph.inputs.splice(0, graph.inputs.length, ...graph.inputs.filter((v) => v.readers.size));
}

/** An encoder's nodes of one direction, as a graph to embed. */
function part(encoder: EncoderGraph, nodes: readonly Node[]): Graph {
  const view = new Graph(encoder.graph.opset);
  for (const [domain, version] of encoder.graph.opsets) view.opsets.set(domain, version);
  view.nodes = [...nodes];
  return view;
}

const dimsOf = (v: Value, name: string): (number | string)[] =>
  (v.dims ?? []).map((d) => (typeof d === 'number' ? d : `${name}.${d}`));

/** The sum of a gradient over groups. A product takes what came before as its third input and adds it on the way. */
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

/**
 * ONNX Runtime orders nodes itself: depth first from the nodes that nobody reads, the last of them first. So the gradients
 * stand at the end, those of the last layer last: each is made as soon as it can be, and what it alone needed is freed.
 */
function orderForMemory(graph: Graph, leaves: readonly Value[]): void {
  graph.sort();
  // One that is read too, as where two weights share a gradient, stays before its readers.
  const ends = new Set(leaves.map((v) => v.producer as Node).filter((n) => n.outputs.every((v) => !v.readers.size)));
  const place = new Map(graph.nodes.map((n, i) => [n, i]));
  const at = (n: Node): number => place.get(n) as number;
  graph.nodes = [...graph.nodes.filter((n) => !ends.has(n)), ...[...ends].sort((a, b) => at(b) - at(a))];
}
