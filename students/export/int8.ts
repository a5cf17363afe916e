/** @file Dynamic int8: weights by output channel, activations as they come, tables with a scale a row. */
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { floatToHalf, halfToFloat } from '../../math/half.ts';
import { transposed } from './simplify.ts';

/** The least normal half-precision number: scales from here on are stored as halves without loss that matters. */
const LEAST_HALF = 2 ** -14;
/** Smaller tables stay as they are. */
const SMALLEST_TABLE = 1024;

/** How a constant is called whose products stay in float. */
export const OUTLIERS = '_outliers';

/** A product with a weight on its right, as [K, N]. */
export interface Product {
  node: Node;
  input: Value;
  weight: Tensor<'float32'>;
  name: string;
  bias?: Value;
}

/** The matrix products with stored weights, MatMul and plain Gemm, in the graph's order. */
export function weightedProducts(graph: Graph): Product[] {
  return graph.nodes.flatMap((node): Product[] => {
    const [input, weight, bias] = node.inputs;
    if (!input || !weight || weight.constant?.dtype !== 'float32' || weight.constant.dims.length !== 2) return [];
    if (weight.name.endsWith(OUTLIERS)) return [];
    const t = weight.constant as Tensor<'float32'>;
    if (node.op === 'MatMul') return [{ node, input, weight: t, name: weight.name }];
    const plain =
      node.op === 'Gemm' && !node.int('transA', 0) && node.float('alpha', 1) === 1 && node.float('beta', 1) === 1;
    if (!plain) return [];
    return [
      { node, input, weight: node.int('transB', 0) ? transposed(t) : t, name: weight.name, bias: bias ?? undefined },
    ];
  });
}

/** Lets what stands for a node's output take its place. */
export function substitute(graph: Graph, node: Node, by: Expr): void {
  const [old] = node.outputs;
  const { name, dtype, dims } = old;
  graph.replace(old, by.value);
  if (graph.outputs.includes(by.value)) {
    old.name = graph.freshName(`${name}_before`);
    Object.assign(by.value, { name, dtype, dims });
  }
  graph.removeNodes(new Set([node]));
}

const halfRounded = (scale: number): number => halfToFloat(floatToHalf(scale));
/** Scales are halves where halves have room for them: they are stored so, and weights are rounded by what is stored. */
const roundedToHalf = (scale: number): number => (scale === 0 || scale >= LEAST_HALF ? halfRounded(scale) : scale);

/** Symmetric int8 with a scale for each group of values. @param groupOf the group of a position */
export function quantize(
  data: Float32Array,
  groups: number,
  groupOf: (i: number) => number,
  round: (scale: number) => number = Math.fround,
): { data: Int8Array; scales: Float32Array } {
  const scales = new Float32Array(groups);
  for (let i = 0; i < data.length; i++) {
    const g = groupOf(i);
    scales[g] = Math.max(scales[g], Math.abs(data[i]));
  }
  for (let g = 0; g < groups; g++) scales[g] = round(scales[g] / 127);
  const rounded = new Int8Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const scale = scales[groupOf(i)];
    rounded[i] = scale ? Math.max(-127, Math.min(127, Math.round(data[i] / scale))) : 0;
  }
  return { data: rounded, scales };
}

/**
 * x W = (x_q - z) W_q * (s_x s_W): DynamicQuantizeLinear, MatMulInteger, Cast, Mul, as onnxruntime's quantize_dynamic
 * writes it, so that ONNX Runtime fuses the four into one; s_W has one number a column.
 */
export function productsToInt8(graph: Graph): number {
  const activations = new Map<Value, Expr[]>();
  // ONNX Runtime fuses products with a scale a column only where each column has its zero point.
  const zeros = new Map<number, Expr>();
  const products = weightedProducts(graph);
  for (const { node, input, weight, name, bias } of products) {
    const [, columns] = weight.dims;
    const q = quantize(weight.data, columns, (i) => i % columns, roundedToHalf);
    let parts = activations.get(input);
    if (!parts) {
      parts = new Expr(graph, input).ops('DynamicQuantizeLinear', [], 3);
      activations.set(input, parts);
    }
    const [x, scale, zero] = parts;
    const constant = (t: Tensor, called: string): Expr => new Expr(graph, graph.constant(t, called));
    const zeroPoints =
      zeros.get(columns) ??
      constant({ dtype: 'int8', dims: [columns], data: new Int8Array(columns) }, `zero_points_${columns}`);
    zeros.set(columns, zeroPoints);
    const rounded = constant({ dtype: 'int8', dims: weight.dims, data: q.data }, `${name}_quantized`);
    const integers = x.op('MatMulInteger', [rounded, zero, zeroPoints]);
    const scales = scale.mul(constant({ dtype: 'float32', dims: [columns], data: q.scales }, `${name}_scale`));
    let out = integers.cast('float32').mul(scales);
    if (bias) out = out.add(new Expr(graph, bias));
    substitute(graph, node, out);
  }
  graph.sort();
  return products.length;
}

/** Tables from here on have a scale of 256 a row, one byte each, in place of one of their own. */
const MANY_ROWS = 2048;

/**
 * A table [V, D] as int8 rows with a scale each, or for large ones with the nearest larger of 256 scales, spread evenly in
 * the logarithm between the least and the largest.
 */
export function quantizeRows(table: Tensor<'float32'>): {
  rows: Tensor<'int8'>;
  scales: Float32Array;
  levels?: { of: Uint8Array; scales: Float32Array };
} {
  const [V, width] = table.dims;
  const rowOf = (i: number): number => Math.floor(i / width);
  if (V < MANY_ROWS) {
    const { data, scales } = quantize(table.data, V, rowOf, roundedToHalf);
    return { rows: { dtype: 'int8', dims: table.dims, data }, scales };
  }
  const exact = quantize(table.data, V, rowOf).scales.filter((s) => s > 0);
  const least = exact.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const largest = exact.reduce((a, b) => Math.max(a, b), 0);
  const step = Math.log(largest / least) / 255 || 1;
  const levels = Float32Array.from({ length: 256 }, (_, k) => (k === 255 ? largest : least * Math.exp(k * step)));
  const levelOf = (scale: number): number =>
    scale > 0 ? Math.min(255, Math.max(0, Math.ceil(Math.log(scale / least) / step - 1e-6))) : 0;
  const { data, scales } = quantize(table.data, V, rowOf, (s) => levels[levelOf(s)]);
  const of = Uint8Array.from(scales, (s) => levels.indexOf(s));
  return { rows: { dtype: 'int8', dims: table.dims, data }, scales, levels: { of, scales: levels } };
}

/** The look-ups of rows in float tables, with their tables. */
export function tableLookups(graph: Graph): { node: Node; table: Value }[] {
  return graph.nodes.flatMap((node) => {
    const [table] = node.inputs;
    const rows = table?.constant?.dtype === 'float32' && table.constant.dims.length === 2 && node.int('axis', 0) === 0;
    return node.op === 'Gather' && rows && table.constant!.data.length >= SMALLEST_TABLE ? [{ node, table }] : [];
  });
}

/** Gather(T, i) = Cast(Gather(T_q, i)) * Gather(s, i) for every table; what leads to s is folded when the file is loaded. */
export function tablesToInt8(graph: Graph): number {
  const lookups = tableLookups(graph);
  const made = new Map<Value, { rows: Expr; scales: Expr }>();
  for (const { node, table } of lookups) {
    let parts = made.get(table);
    if (!parts) {
      const { rows, scales, levels } = quantizeRows(table.constant as Tensor<'float32'>);
      const constant = (t: Tensor, suffix: string): Expr =>
        new Expr(graph, graph.constant(t, `${table.name}_${suffix}`));
      const V = scales.length;
      const scale = levels
        ? constant({ dtype: 'float32', dims: [256], data: levels.scales }, 'scale').gather(
            constant({ dtype: 'uint8', dims: [V, 1], data: levels.of }, 'level').cast('int32'),
          )
        : constant({ dtype: 'float32', dims: [V, 1], data: scales }, 'scale');
      parts = { rows: constant(rows, 'quantized'), scales: scale };
      made.set(table, parts);
    }
    const indices = new Expr(graph, node.inputs[1] as Value);
    substitute(graph, node, parts.rows.gather(indices).cast('float32').mul(parts.scales.gather(indices)));
  }
  graph.sort();
  return lookups.length;
}
