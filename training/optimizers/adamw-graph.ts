/** @file AdamW as part of the training graph: weights and moments go in and come out, and need not leave the device. */

import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { sizeOf } from '../../engine/graph/tensor.ts';
import { roundUp } from '../../math/numbers.ts';
import { CHUNK } from '../batches/token-chunks.ts';
import type { AdamWOptions } from './adamw.ts';

/** A parameter's stretch of the flat vectors. */
export interface Stretch {
  name: string;
  dims: readonly number[];
  offset: number;
}

/** The flat vectors [length] that go in and come out, and what else is told of a step. */
export interface GraphAdamW {
  length: number;
  stretches: readonly Stretch[];
  /** Input to output of weights and of both moments. */
  carried: ReadonlyMap<string, string>;
  /** Output: the gradients' global norm before clipping. */
  norm: string;
  /** Tables whose rows belong to a group's token ids: that input, and those that take the ids' chunks (see rowChunks). */
  tables: readonly RowInputs[];
}

export interface RowInputs {
  ids: string;
  places: string;
  tokens: string;
}

export const WEIGHTS = 'adamw.weights';
export const FIRST = 'adamw.first';
export const SECOND = 'adamw.second';
/** [learning rate / (1 - beta1^t), sqrt(1 - beta2^t), learning rate x weight decay] of the step. */
export const RATES = 'adamw.rates';

/** Width of the table that sums of squares are taken over: one long sum would run on a single core of a GPU. */
const WIDTH = 1024;

/**
 * Appends the update to a graph that computes gradients. All parameters become views of one vector, so that the update is
 * two dozen operators however many parameters there are. Where the norm is not finite, nothing changes.
 */
export function appendAdamW(
  graph: Graph,
  parameters: readonly { name: string; dims: readonly number[]; value: Value }[],
  gradients: ReadonlyMap<string, Gradient>,
  { betas = [0.9, 0.999], eps = 1e-8, decayNormsAndBiases = false, clipNorm }: AdamWOptions = {},
): GraphAdamW {
  // Those that decay stand first, so that the decay is one number for each half.
  const decays = (p: { dims: readonly number[] }): boolean => p.dims.length > 1 || decayNormsAndBiases;
  const ordered = [...parameters.filter(decays), ...parameters.filter((p) => !decays(p))];
  const stretches: Stretch[] = [];
  let total = 0;
  let decayed = 0;
  for (const p of ordered) {
    stretches.push({ name: p.name, dims: p.dims, offset: total });
    total += sizeOf(p.dims);
    if (decays(p)) decayed = total;
  }
  const length = roundUp(total, WIDTH);
  const flat = (name: string): Expr => new Expr(graph, graph.input(name, 'float32', [length]));
  const [weights, first, second] = [flat(WEIGHTS), flat(FIRST), flat(SECOND)];
  const rates = new Expr(graph, graph.input(RATES, 'float32', [3]));

  const parts: Expr[] = [];
  const tables: RowInputs[] = [];
  for (const [i, p] of ordered.entries()) {
    const { offset, dims } = stretches[i];
    parts.push(flatGradient(graph, gradients.get(p.name), dims, tables));
    const view = weights.slice(offset, offset + sizeOf(dims), 0).reshape(...dims);
    graph.replace(p.value, view.value);
    graph.removeInput(p.value);
  }
  if (length > total) parts.push(zeros(graph, length - total));
  const raw = parts[0].concat(parts.slice(1), 0);
  const norm = raw.reshape(-1, WIDTH).square().sum([1]).sum([0]).sqrt();
  // Infinity and NaN times 0 are NaN, which equals nothing.
  const finite = norm.mul(0).equal(0);
  const gradient = clipNorm === undefined ? raw : raw.mul(norm.add(1e-6).reciprocal().mul(clipNorm).min(1));
  const rate = (i: number): Expr => rates.slice(i, i + 1, 0);
  const m = first.mul(betas[0]).add(gradient.mul(1 - betas[0]));
  const v = second.mul(betas[1]).add(gradient.square().mul(1 - betas[1]));
  const one = constant(graph, 'float32', [1], [1]);
  const keep = spread(rate(2).rsub(1), decayed).concat([spread(one, length - decayed)], 0);
  const moved = weights.mul(keep).sub(m.mul(rate(0)).div(v.sqrt().div(rate(1)).add(eps)));
  const out = (e: Expr, name: string): string => {
    graph.output(e.value, name);
    return e.value.name;
  };
  return {
    length,
    stretches,
    carried: new Map([
      [WEIGHTS, out(finite.where(moved, weights), `${WEIGHTS}.next`)],
      [FIRST, out(finite.where(m, first), `${FIRST}.next`)],
      [SECOND, out(finite.where(v, second), `${SECOND}.next`)],
    ]),
    norm: out(norm, 'adamw.norm'),
    tables,
  };
}

/** A gradient as a vector; rows are added into a table of zeros, one group of texts after the other. */
function flatGradient(
  graph: Graph,
  gradient: Gradient | undefined,
  dims: readonly number[],
  tables: RowInputs[],
): Expr {
  if (!gradient) return zeros(graph, sizeOf(dims));
  if ('dense' in gradient) return new Expr(graph, gradient.dense).reshape(-1);
  let table = zeros(graph, sizeOf(dims)).reshape(...dims);
  for (const part of gradient.rows) {
    const { indices, rows } = gathered(graph, part, dims[1], tables);
    table = table.op('ScatterND', [indices.unsqueeze(-1), rows], { reduction: 'add' });
  }
  return table.reshape(-1);
}

/** Rows of a group's tokens, equal ones summed by chunks: adding a row for each occurrence of a frequent word takes long. */
function gathered(
  graph: Graph,
  part: { indices: Value; rows: Value },
  width: number,
  tables: RowInputs[],
): { indices: Expr; rows: Expr } {
  const rows = new Expr(graph, part.rows);
  const source = part.indices.producer?.op === 'Reshape' ? part.indices.producer.inputs[0] : part.indices;
  if (!source?.name.endsWith('.input_ids') || !graph.inputs.includes(source))
    return { indices: new Expr(graph, part.indices), rows };
  const names = { ids: source.name, places: `${source.name}.places`, tokens: `${source.name}.tokens` };
  const input = (name: string, dims: (number | string)[]): Expr =>
    new Expr(graph, graph.inputs.find((v) => v.name === name) ?? graph.input(name, 'int64', dims));
  const tokens = input(names.tokens, [`${source.name}.chunks`]);
  const places = input(names.places, [`${source.name}.chunks`, CHUNK]);
  if (!tables.some((t) => t.ids === names.ids)) tables.push(names);
  const padded = rows.concat([zeros(graph, width).reshape(1, width)], 0);
  return { indices: tokens, rows: padded.gather(places).sum([1]) };
}

const zeros = (graph: Graph, size: number): Expr => spread(constant(graph, 'float32', [1], [0]), size);

/** A single number as a vector. */
const spread = (one: Expr, size: number): Expr => one.expandTo(one.ints(size));
