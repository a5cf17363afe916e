/** @file Adds dropout to graphs that were exported without it, with masks determined by seed and step. */

import { constant, Expr } from '../../engine/expressions/expr.ts';
import { afterPass } from '../../engine/graph/checker.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Random } from '../../math/random.ts';

/** Rows of the table and their width: 4 Mi random numbers, 16 MiB. */
const ROWS = 4096;
const WIDTH = 1024;

export interface DropoutSites {
  sites: number;
  /** [sites, 2] int64: the first row of the table that a site reads, and the stride to the next. */
  places: Value;
  /** [ROWS, WIDTH] 0, or 1 / (1 - share). */
  table: Value;
}

/**
 * Applies masks where BERT has dropout in training: the embeddings, attention weights, and the outputs of blocks before the
 * residual addition. A mask consists of rows of one table of random numbers, from a random row at a random odd stride: good
 * enough for this purpose, cheap on every device, and reproducible from seed and step (a shared noise table, as in Salimans et
 * al. 2017, arXiv 1703.03864).
 */
export function insertDropout(graph: Graph): DropoutSites {
  const found = dropoutSites(graph);
  const places = graph.input('dropout_places', 'int64', [found.length, 2]);
  const table = graph.input('dropout_table', 'float32', [ROWS, WIDTH]);
  for (const [site, value] of found.entries()) {
    const readers = [...value.readers];
    const x = new Expr(graph, value);
    const int = (n: number): Expr => constant(graph, 'int64', [], [n]);
    const place = new Expr(graph, places).gather(int(site)); // [2]
    // Not Size, which some devices lack: they would copy all of x to the CPU for it.
    const size = x.shape().op('ReduceProd', [], { keepdims: 0 });
    const count = size.add(int(WIDTH - 1)).div(int(WIDTH));
    const steps = int(0).op('Range', [count, int(1)]);
    const rows = steps
      .mul(place.gather(int(1)))
      .add(place.gather(int(0)))
      .op('Mod', [int(ROWS)]);
    const mask = new Expr(graph, table)
      .gather(rows)
      .reshape(-1)
      .op('Slice', [x.ints(0), size.unsqueeze(0)])
      .reshapeTo(x.shape());
    const dropped = x.mul(mask.stopGradient()).value;
    for (const reader of readers) reader.replaceInput(value, dropped);
    graph.replaceOutput(value, dropped);
  }
  graph.sort();
  afterPass(graph);
  return { sites: found.length, places, table };
}

/** The values that dropout applies to, in graph order. */
function dropoutSites(graph: Graph): Value[] {
  const found: Value[] = [];
  let embedded = false;
  for (const node of graph.nodes) {
    const [out] = node.outputs;
    if (node.op === 'MatMul' || node.op === 'Gemm') embedded = true;
    if (node.op === 'LayerNormalization' && !embedded) {
      found.push(out);
      embedded = true;
    }
    if (node.op === 'Softmax' && reaches(out, 'MatMul')) found.push(out);
    if (node.op === 'Add') {
      const made = node.inputs.filter((v) => v?.producer);
      const branches = made.filter((v) => linear(v?.producer as Node));
      if (made.length === 2 && branches.length === 1) found.push(branches[0] as Value);
    }
  }
  return [...new Set(found)];
}

/** Whether an operator reads a value, directly or through Cast and Reshape. */
function reaches(v: Value, op: string): boolean {
  return [...v.readers].some(
    (n) => n.op === op || (['Cast', 'Reshape', 'Identity'].includes(n.op) && reaches(n.outputs[0], op)),
  );
}

/** Whether a node ends a linear layer: a product with a weight, with or without its bias, reshaped or not. */
function linear(node: Node): boolean {
  const [a, b] = node.inputs;
  if (node.op === 'Gemm') return true;
  if (node.op === 'MatMul') return !b?.producer;
  if (node.op === 'Reshape') return Boolean(a?.producer && linear(a.producer));
  if (node.op !== 'Add') return false;
  const [made, bias] = a?.producer ? [a, b] : [b, a];
  return Boolean(made?.producer && !bias?.producer && linear(made.producer));
}

/** The table of masks. @param share fraction of values set to 0; the others are scaled to keep the mean */
export function dropoutTable(share: number, seed: number): Tensor<'float32'> {
  const random = Random.of(seed, 'dropout table');
  const data = new Float32Array(ROWS * WIDTH);
  for (let i = 0; i < data.length; i++) data[i] = random.uniform() < share ? 0 : 1 / (1 - share);
  return { dtype: 'float32', dims: [ROWS, WIDTH], data };
}

/** Mask position of each dropout site of a group in a step. */
export function dropoutPlaces(sites: number, seed: number, step: number, group: number): Tensor<'int64'> {
  const random = Random.of(seed, `dropout ${step} ${group}`);
  const data = BigInt64Array.from({ length: 2 * sites }, (_, i) =>
    BigInt(i % 2 ? 2 * random.integer(ROWS / 2) + 1 : random.integer(ROWS)),
  );
  return { dtype: 'int64', dims: [sites, 2], data };
}
