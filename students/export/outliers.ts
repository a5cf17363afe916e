/** @file The few channels whose numbers are far larger than the others', kept out of int8: one scale for all would round the rest away. */

import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { OUTLIERS, type Product, weightedProducts } from './int8.ts';
import { wordLookups } from './outputs.ts';

/**
 * Of an input's channels, the share that is kept out. Measured on 3 layers of debian-dual-encoder, cosine to float32:
 * 0.99637 without, 0.99846 with 0.5 %, 0.99848 with 1 %; random tokens find the channels as well as texts do.
 */
const SHARE = 0.005;
/** The range of the other channels must be smaller by this factor, or nothing is split. */
const WORTHWHILE = 1.5;
const BATCHES = 8;
const ROWS = 8;
const LENGTH = 32;

/**
 * x W = (x masked) W + x[outliers] W[outliers], for products that narrow (K > N): those after an activation function. The
 * first is rounded to int8 later, the second is small and stays float. Which channels are large is looked up by running
 * the graph on random tokens: the same graph gives the same ones.
 *
 * @param positions tokens that the model has positions for
 * @returns how many products were split
 */
export async function splitOutliers(graph: Graph, positions = LENGTH): Promise<number> {
  const products = weightedProducts(graph).filter((p) => p.weight.dims[0] > p.weight.dims[1]);
  const ranges = products.length
    ? await largest(graph, [...new Set(products.map((p) => p.input))], Math.min(LENGTH, positions))
    : new Map();
  let split = 0;
  for (const p of products) {
    const sizes = ranges.get(p.input) as Float32Array | undefined;
    if (!sizes) continue;
    const order = Array.from(sizes.keys()).sort((a, b) => sizes[b] - sizes[a] || a - b);
    const count = Math.ceil(SHARE * sizes.length);
    if (!(sizes[order[0]] > WORTHWHILE * sizes[order[count]])) continue;
    takeOut(
      graph,
      p,
      order.slice(0, count).sort((a, b) => a - b),
    );
    split++;
  }
  graph.sort();
  return split;
}

function takeOut(graph: Graph, { node, input, weight, name }: Product, channels: readonly number[]): void {
  const [K, N] = weight.dims;
  const mask = new Int8Array(K).fill(1);
  const rows = new Float32Array(channels.length * N);
  for (const [r, k] of channels.entries()) {
    mask[k] = 0;
    rows.set(weight.data.subarray(k * N, (k + 1) * N), r * N);
  }
  const constant = (t: Tensor, suffix: string): Expr => new Expr(graph, graph.constant(t, name + suffix));
  const x = new Expr(graph, input);
  const others = x.mul(constant({ dtype: 'int8', dims: [K], data: mask }, '_others').cast('float32'));
  const few = x
    .gather(constant(tensor('int64', [channels.length], channels), '_channels'), -1)
    .matmul(constant({ dtype: 'float32', dims: [channels.length, N], data: rows }, OUTLIERS));
  const [out] = node.outputs;
  const readers = [...out.readers];
  node.replaceInput(input, others.value);
  const sum = few.add(new Expr(graph, out)).value;
  for (const reader of readers) reader.replaceInput(out, sum);
}

/** The largest absolute value in each channel of some values, over random tokens; nothing where the graph is not an encoder. */
async function largest(graph: Graph, values: readonly Value[], length: number): Promise<Map<Value, Float32Array>> {
  const found = new Map<Value, Float32Array>();
  const vocabulary = wordLookups(graph)[0]?.inputs[0]?.constant?.dims[0];
  if (!vocabulary) return found;
  const copy = graph.clone();
  const byName = copy.values();
  const wanted = values.map((v) => byName.get(v.name) as Value);
  for (const v of wanted) [v.dtype, v.dims] = [undefined, undefined];
  copy.setOutputs(...wanted);
  copy.prune();
  const session = await Session.load(copy, { threads: 1 });
  const random = Random.of(0, 'outliers');
  const dims = [ROWS, length];
  const fill = (value: () => number): Tensor => tensor('int64', dims, Array.from({ length: ROWS * length }, value));
  try {
    for (let batch = 0; batch < BATCHES; batch++) {
      const all: Record<string, Tensor> = {
        input_ids: fill(() => random.integer(vocabulary)),
        attention_mask: fill(() => 1),
        token_type_ids: fill(() => 0),
      };
      const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, all[name]])));
      for (const v of values) {
        const { data, dims: shape } = results[v.name];
        const width = shape[shape.length - 1];
        const sizes = found.get(v) ?? new Float32Array(width);
        for (let i = 0; i < data.length; i++) sizes[i % width] = Math.max(sizes[i % width], Math.abs(Number(data[i])));
        found.set(v, sizes);
      }
    }
  } finally {
    await session.release();
  }
  return found;
}
