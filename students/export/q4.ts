/** @file Four bits by blocks: MatMulNBits and GatherBlockQuantized of ONNX Runtime's own domain. */
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { substitute, tableLookups, weightedProducts } from './int8.ts';
import { transposed } from './tidy.ts';

const DOMAIN = 'com.microsoft';
const BLOCK = 32;
/** What a stored 0 to 15 is counted from where no zero points are given. */
const MIDDLE = 8;
/** Scales tried a block, as shares of the largest value over the middle; the best in squared error is kept. */
const SHARES = [1, 0.95, 0.9, 0.85, 0.8, -1, -0.95, -0.9, -0.85, -0.8];

/**
 * Rows of values in blocks of 32 along each row, w = (q - 8) s with q in 0..15.
 * @returns packed [rows, blocks * 16], two values a byte, the earlier one low; scales [rows, blocks]
 */
export function quantizeBlocks(t: Tensor<'float32'>): { packed: Uint8Array; scales: Float32Array; blocks: number } {
  const [rows, width] = t.dims;
  const blocks = Math.ceil(width / BLOCK);
  const packed = new Uint8Array((rows * blocks * BLOCK) / 2).fill(MIDDLE | (MIDDLE << 4));
  const scales = new Float32Array(rows * blocks);
  for (let r = 0; r < rows; r++)
    for (let b = 0; b < blocks; b++) {
      const from = r * width + b * BLOCK;
      const values = t.data.subarray(from, Math.min(from + BLOCK, (r + 1) * width));
      const scale = bestScale(values);
      scales[r * blocks + b] = scale;
      for (let i = 0; i < values.length; i++) {
        const at = ((r * blocks + b) * BLOCK + i) >> 1;
        const q = level(values[i], scale);
        packed[at] = i % 2 ? (packed[at] & 15) | (q << 4) : (packed[at] & 240) | q;
      }
    }
  return { packed, scales, blocks };
}

const level = (value: number, scale: number): number =>
  scale ? Math.max(0, Math.min(15, Math.round(value / scale) + MIDDLE)) : MIDDLE;

/** One side reaches eight steps and the other seven: the sign of the scale says which. */
function bestScale(values: Float32Array): number {
  let largest = 0;
  for (const v of values) if (Math.abs(v) > Math.abs(largest)) largest = v;
  if (!largest) return 0;
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  for (const share of SHARES) {
    const scale = Math.fround((-largest * share) / MIDDLE);
    let error = 0;
    for (const v of values) error += (v - (level(v, scale) - MIDDLE) * scale) ** 2;
    if (error < least) [best, least] = [scale, error];
  }
  return best;
}

/** Every product with stored weights becomes MatMulNBits; activations are rounded to int8 at run time where that is faster. */
export function productsToQ4(graph: Graph): number {
  const products = weightedProducts(graph);
  for (const { node, input, weight, name, bias } of products) {
    const [K, N] = weight.dims;
    const { packed, scales, blocks } = quantizeBlocks(transposed(weight));
    const inputs = [
      input,
      graph.constant({ dtype: 'uint8', dims: [N, blocks, BLOCK / 2], data: packed }, `${name}_q4`),
      graph.constant({ dtype: 'float32', dims: [N * blocks], data: scales }, `${name}_scale`),
    ];
    const attributes = { K, N, bits: 4, block_size: BLOCK, accuracy_level: 4 };
    let out = new Expr(graph, graph.add('MatMulNBits', inputs, attributes, { domain: DOMAIN, name: 'MatMulNBits' }));
    if (bias) out = out.add(new Expr(graph, bias));
    substitute(graph, node, out);
  }
  graph.sort();
  return products.length;
}

/** Every table becomes GatherBlockQuantized; tables whose width is no multiple of the block stay as they are. */
export function tablesToQ4(graph: Graph): number {
  const lookups = tableLookups(graph).filter(({ table }) => Number(table.constant?.dims[1]) % BLOCK === 0);
  const made = new Map<Value, [Value, Value]>();
  for (const { node, table } of lookups) {
    let parts = made.get(table);
    if (!parts) {
      const [rows, width] = (table.constant as Tensor).dims;
      const { packed, scales, blocks } = quantizeBlocks(table.constant as Tensor<'float32'>);
      parts = [
        graph.constant({ dtype: 'uint8', dims: [rows, width / 2], data: packed }, `${table.name}_q4`),
        graph.constant({ dtype: 'float32', dims: [rows, blocks], data: scales }, `${table.name}_scale`),
      ];
      made.set(table, parts);
    }
    const [packed, scales] = parts;
    const attributes = { bits: 4, block_size: BLOCK, gather_axis: 0, quantize_axis: 1 };
    const inputs = [packed, node.inputs[1], scales];
    const name = 'GatherBlockQuantized';
    substitute(graph, node, new Expr(graph, graph.add(name, inputs, attributes, { domain: DOMAIN, name })));
  }
  graph.sort();
  return lookups.length;
}
