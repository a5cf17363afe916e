/** @file The word table with fewer rows, or as a product of two thin ones. */
import { InputError } from '../../common/errors.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { type DType, type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { symmetricEigen } from '../../math/linear-algebra.ts';
import { wordLookups } from './outputs.ts';

/**
 * Keeps the rows named, in that order. What else a graph computes of ids (hashes of neighbours, positions counted from the
 * padding) reads the old ones, looked up by the new.
 * @throws InputError where the model has no word table
 */
export function keepRows(graph: Graph, rows: Int32Array): void {
  const lookups = wordLookups(graph);
  const tables = new Set(lookups.map((node) => node.inputs[0]));
  if (!tables.size) throw noTable();
  for (const v of tables) {
    const t = v?.constant as Tensor<'float32'>;
    const width = t.dims[1];
    const data = new Float32Array(rows.length * width);
    for (const [to, from] of rows.entries()) data.set(t.data.subarray(from * width, (from + 1) * width), to * width);
    const cut = graph.constant({ dtype: 'float32', dims: [rows.length, width], data }, v!.name);
    const { name } = v!;
    graph.replace(v!, cut);
    cut.name = name;
  }
  const ids = graph.inputs.find((v) => v.name === 'input_ids') as Value;
  // A look-up may have read a cast of the ids, which from now on is one of the old ids.
  for (const node of lookups) node.setInputs([node.inputs[0], ids]);
  graph.prune();
  const others = [...ids.readers].filter((n) => !lookups.includes(n) && n.op !== 'Shape' && n.op !== 'Size');
  if (!others.length) return;
  const old = graph.constant(tensor('int64', [rows.length], rows), 'old_ids');
  let read = graph.add('Gather', [old, ids]);
  [read.dtype, read.dims] = ['int64', ids.dims];
  if (ids.dtype !== 'int64') read = new Expr(graph, read).cast(ids.dtype as DType).value;
  for (const node of others) node.replaceInput(ids, read);
  graph.sort();
}

/**
 * T = A B with A [V, r] and B [r, D], the product of rank r nearest to T in squared error (truncated SVD); the graph looks
 * up A and multiplies by B, so it can be trained on.
 * @returns the share of the table's squared length that is kept
 */
export function factorise(graph: Graph, rank: number): number {
  const all = wordLookups(graph);
  const [first] = all;
  if (!first) throw noTable();
  const table = first.inputs[0]!;
  const lookups = all.filter((node) => node.inputs[0] === table);
  const t = table.constant as Tensor<'float32'>;
  const [V, D] = t.dims;
  if (!Number.isInteger(rank) || rank < 1 || rank >= D)
    throw new InputError({
      code: 'export.table-rank',
      subject: 'the rank of the word table',
      expected: `a whole number from 1 to ${D - 1}, under the table's width`,
      received: String(rank),
      remedy: 'choose another --table-rank or leave it out',
    });
  const gram = new Float64Array(D * D);
  for (let v = 0; v < V; v++) {
    const row = t.data.subarray(v * D, (v + 1) * D);
    for (let i = 0; i < D; i++) {
      const x = row[i];
      for (let j = i; j < D; j++) gram[i * D + j] += x * row[j];
    }
  }
  for (let i = 0; i < D; i++) for (let j = 0; j < i; j++) gram[i * D + j] = gram[j * D + i];
  const { values, vectors } = symmetricEigen({ n: D, data: gram });
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
  const basis = new Float32Array(rank * D); // [r, D], orthonormal rows
  for (let r = 0; r < rank; r++) for (let i = 0; i < D; i++) basis[r * D + i] = vectors[i * D + order[r]];
  const thin = new Float32Array(V * rank);
  for (let v = 0; v < V; v++)
    for (let r = 0; r < rank; r++) {
      let sum = 0;
      for (let i = 0; i < D; i++) sum += t.data[v * D + i] * basis[r * D + i];
      thin[v * rank + r] = sum;
    }
  const A = graph.constant({ dtype: 'float32', dims: [V, rank], data: thin }, `${table.name}_rows`);
  const B = graph.constant({ dtype: 'float32', dims: [rank, D], data: basis }, `${table.name}_basis`);
  for (const node of lookups) {
    const [old] = node.outputs;
    node.setInputs([A, node.inputs[1]]);
    const readers = [...old.readers];
    const product = new Expr(graph, old).matmul(new Expr(graph, B)).value;
    for (const reader of readers) reader.replaceInput(old, product);
    [old.dtype, old.dims] = [undefined, undefined];
    graph.replaceOutput(old, product);
  }
  graph.sort();
  const total = values.reduce((a, b) => a + b, 0);
  return order.slice(0, rank).reduce((s, i) => s + values[i], 0) / total;
}

const noTable = (): InputError =>
  new InputError({
    code: 'export.no-table',
    subject: "no stored table is looked up with the input 'input_ids'",
    remedy: 'give an encoder whose token embedding is a Gather',
  });
