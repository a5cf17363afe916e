/** @file Four bits by blocks: MatMulNBits of ONNX Runtime's own domain, and tables that plain operators unpack. */
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { substitute, tableLookups, weightedProducts } from './int8.ts';
import { transposed } from './simplify.ts';

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

/**
 * Every table whose width is a multiple of the block: rows of bytes are looked up and unpacked by plain operators, since
 * GatherBlockQuantized is missing from ONNX Runtime's builds for browsers. A byte holds a value of a block's first half
 * (low) and one of its second.
 */
export function tablesToQ4(graph: Graph): number {
  const lookups = tableLookups(graph).filter(({ table }) => Number(table.constant?.dims[1]) % BLOCK === 0);
  const made = new Map<Value, { bytes: Expr; scales: Expr }>();
  for (const { node, table } of lookups) {
    let parts = made.get(table);
    if (!parts) {
      const rows = (table.constant as Tensor).dims[0];
      const { packed, scales, blocks } = quantizeBlocks(table.constant as Tensor<'float32'>);
      const bytes: Tensor = { dtype: 'uint8', dims: [rows, blocks, BLOCK / 2], data: halvesApart(packed) };
      const scale: Tensor = { dtype: 'float32', dims: [rows, blocks, 1], data: scales };
      parts = {
        bytes: new Expr(graph, graph.constant(bytes, `${table.name}_q4`)),
        scales: new Expr(graph, graph.constant(scale, `${table.name}_scale`)),
      };
      made.set(table, parts);
    }
    const indices = new Expr(graph, node.inputs[1] as Value);
    const bytes = parts.bytes.gather(indices).cast('float32'); // [..., blocks, 16]
    const high = bytes.mul(1 / 16).op('Floor');
    const low = bytes.sub(high.mul(16));
    const values = low.concat([high], -1).sub(MIDDLE).mul(parts.scales.gather(indices)); // [..., blocks, 32]
    const shape = indices.shape().concat([constant(graph, 'int64', [1], [-1])], 0);
    substitute(graph, node, values.reshapeTo(shape));
  }
  graph.sort();
  return lookups.length;
}

/** Neighbours in a byte become values half a block apart. */
function halvesApart(packed: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(packed.length);
  const half = BLOCK / 2;
  const value = (i: number): number => (i % 2 ? packed[i >> 1] >> 4 : packed[i >> 1] & 15);
  for (let k = 0; k < packed.length; k++) {
    const first = Math.floor(k / half) * BLOCK + (k % half);
    out[k] = value(first) | (value(first + half) << 4);
  }
  return out;
}
