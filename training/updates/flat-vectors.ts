/** @file Gradients and states as flat vectors of whole rows. */
import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import { concatenated, constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { sizeOf } from '../../engine/graph/tensor.ts';
import { runsOf } from '../../engine/passes/join-columns.ts';
import { halves } from '../../engine/passes/to-half.ts';
import { roundUp } from '../../math/numbers.ts';
import { CHUNK } from '../batches/token-chunks.ts';
import { ROW } from './parameter-views.ts';

/** Inputs that a table's gradient reads: a group's token ids, and the places and tokens of their chunks (see rowChunks). */
export interface RowInputs {
  ids: string;
  places: string;
  tokens: string;
}

/** A gradient as a vector; rows are added to a table of zeros, one group of texts after another, which has its whole room. */
export function flatGradient(
  graph: Graph,
  gradient: Gradient | undefined,
  dims: readonly number[],
  tables: RowInputs[],
): Expr {
  if (!gradient) return zeros(graph, sizeOf(dims));
  if ('dense' in gradient) {
    const dense = new Expr(graph, gradient.dense);
    return dims.length === 1 ? dense : dense.reshape(-1);
  }
  const parts = gradient.rows.map((part) => gathered(graph, part, tables));
  const room = roomOfRows(dims);
  // To fill 12 million numbers up to whole rows afterwards takes CUDA's Pad 1.1 ms a step. But an index below 0, which
  // only token ids cannot be, counts from the end of the table itself.
  const size = parts.every((part) => part.ofTokens) ? room : sizeOf(dims);
  let table = zeros(graph, size).reshape(-1, dims[dims.length - 1]);
  for (const { indices, rows } of parts)
    table = table.op('ScatterND', [indices.unsqueeze(-1), rows], { reduction: 'add' });
  return filled(table.reshape(-1), size, room);
}

/** Rows of a group's tokens, equal ones summed in chunks: adding one row per occurrence of a frequent word is slow. */
function gathered(
  graph: Graph,
  part: { indices: Value; rows: Value },
  tables: RowInputs[],
): { indices: Expr; rows: Expr; ofTokens: boolean } {
  const rows = new Expr(graph, part.rows);
  const source = part.indices.producer?.op === 'Reshape' ? part.indices.producer.inputs[0] : part.indices;
  if (!source?.name.endsWith('.input_ids') || !graph.inputs.includes(source))
    return { indices: new Expr(graph, part.indices), rows, ofTokens: false };
  const names = { ids: source.name, places: `${source.name}.places`, tokens: `${source.name}.tokens` };
  const input = (name: string, dims: (number | string)[]): Expr =>
    new Expr(graph, graph.inputs.find((v) => v.name === name) ?? graph.input(name, 'int64', dims));
  const tokens = input(names.tokens, [`${source.name}.chunks`]);
  const places = input(names.places, [`${source.name}.chunks`, CHUNK]);
  if (!tables.some((t) => t.ids === names.ids)) tables.push(names);
  // Not Concat, for the table that CUDA builds on the host.
  const padded = rows.op('Pad', [rows.ints(0, 0, 1, 0)]);
  return { indices: tokens, rows: padded.gather(places).sum([1]), ofTokens: true };
}

/** Vectors of whole rows, one after the other. Neighbours in half precision are cast together. */
export function joined(all: readonly Expr[]): Expr {
  if (all.length === 1) return all[0];
  const narrow = (e: Expr): Expr | undefined => {
    const { producer } = unflattened(e).value;
    const from = producer?.op === 'Cast' ? producer.inputs[0] : undefined;
    return from && halves.some((half) => half === from.dtype) ? new Expr(e.graph, from) : undefined;
  };
  const rows = runsOf(all, (e) => narrow(e)?.value.dtype).map((run): Expr => {
    const own = run.map((e) => (run.length > 1 && narrow(e)) || unflattened(e)).map((e) => e.reshape(-1, ROW));
    const whole = concatenated(own, 0);
    return run.length > 1 && narrow(run[0]) ? whole.float() : whole;
  });
  return concatenated(rows, 0).reshape(-1);
}

/** What a vector is a view of: one Reshape is enough. */
function unflattened(vector: Expr): Expr {
  const { producer } = vector.value;
  return producer?.op === 'Reshape' ? new Expr(vector.graph, producer.inputs[0] as Value) : vector;
}

/** Numbers of a table and of what follows it: rows of its own that fill whole rows of the vector. */
export function roomOfRows(dims: readonly number[]): number {
  const width = dims[dims.length - 1];
  return width * roundUp(sizeOf(dims) / width, ROW / commonDivisor(width, ROW));
}

const commonDivisor = (a: number, b: number): number => (b ? commonDivisor(b, a % b) : a);

/** A vector with zeros after it, up to whole rows. */
export function filled(vector: Expr, size: number, room = roundUp(size, ROW)): Expr {
  const missing = room - size;
  return missing ? vector.op('Pad', [vector.ints(0, missing)]) : vector;
}

export const zeros = (graph: Graph, size: number): Expr => spread(constant(graph, 'float32', [1], [0]), size);

/** A scalar as a vector. */
export const spread = (one: Expr, size: number): Expr => one.expandTo(one.ints(size));
