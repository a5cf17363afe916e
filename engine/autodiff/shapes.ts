/** @file Shapes as differentiation uses them: the dimensions of each value, dynamic ones by name. */
import type { Expr } from '../expressions/expr.ts';
import type { Dim, Value } from '../graph/ir.ts';
import { type DType, tensor } from '../graph/tensor.ts';

/** Type and dimensions of a value; a dimension that varies is a name. */
export interface Shape {
  dtype: DType;
  /** A name denotes a dynamic dimension; equal names are equal dimensions. */
  dims: readonly Dim[];
}

/** Types and dimensions of every value, as observed (see runtime/infer-shapes.ts). */
export type Shapes = ReadonlyMap<Value, Shape>;

/** The axes along which `from` must be summed to undo broadcasting from `to`. */
function broadcastAxes(from: readonly Dim[], to: readonly Dim[]): number[] {
  const lead = from.length - to.length;
  return from.map((_, i) => i).filter((i) => i < lead || (to[i - lead] === 1 && from[i] !== 1));
}

/** The values of a key, made once a graph: `make` is called the first time. */
export type Once = (key: string, make: () => Expr) => Expr;

/** For one graph. */
export function onceOf(): Once {
  const made = new Map<string, Expr>();
  return (key, make) => {
    const own = made.get(key) ?? make();
    made.set(key, own);
    return own;
  };
}

/** Sums over all dimensions but the last, as the gradient of a bias is. */
export type SumRows = (x: Expr, dims: readonly Dim[]) => Expr;

/** With dimensions kept and then dropped: CUDA's ReduceSum refuses no rows at all, as an expert without tokens has, unless they are. */
export const reducedRows: SumRows = (x, dims) => {
  if (dims.length < 2) return x;
  const leading = dims.slice(1).map((_, i) => i);
  const sums = x.sum(leading, true);
  sums.value.dims = [...leading.map(() => 1), dims[dims.length - 1]];
  return sums.reshape(-1);
};

/**
 * The same as a product of a vector of ones with the rows, for a CPU: ONNX Runtime's ReduceSum over leading dimensions is slower
 * there (1,024 rows of 384 and of 1,536 on two threads: 0.16 and 0.53 ms, the product 0.10 and 0.34). Values of equal leading
 * dimensions share the ones.
 */
export function multipliedRows(once: Once): SumRows {
  return (x, dims) => {
    const width = dims.at(-1);
    if (dims.length < 2 || typeof width !== 'number') return reducedRows(x, dims);
    const rows = x.reshape(-1, width);
    const ones = once(`ones for rows of ${dims.slice(0, -1)}`, () => onesOf(sizes(rows, 0, 1)));
    return ones.matmul(rows);
  };
}

/**
 * In two steps: over the second last dimension by a product with ones, then over the others. For half precision: a product adds up in
 * float32, ReduceSum over leading dimensions partly in the type itself, and the sum of one text is far from float16's limits.
 */
export function rowsByText(once: Once): SumRows {
  const whole = multipliedRows(once);
  return (x, dims) => {
    if (dims.length < 3) return whole(x, dims);
    return sumsByText(x, dims, once).sum(dims.slice(1).map((_, i) => i));
  };
}

/** [.., 1, width] sums over the second last dimension, as products with ones; values of equal leading dimensions share these. */
function sumsByText(x: Expr, dims: readonly Dim[], once: Once): Expr {
  const at = dims.length - 2;
  // With the leading dimensions: CUDA multiplies batches of equal strides, not one matrix on the left with many.
  const ones = once(`ones for texts of ${dims.slice(0, -1)}`, () =>
    onesOf(sizes(x, 0, at).concat([x.ints(1), sizes(x, at, at + 1)], 0)),
  );
  return ones.matmul(x);
}

const sizes = (x: Expr, start: number, end: number): Expr => x.op('Shape', [], { start, end });

/** Ones in a shape. */
const onesOf = (shape: Expr): Expr => shape.op('ConstantOfShape', [], { value: tensor(shape.graph.float, [1], [1]) });

/**
 * In two products with ones, first over the second last dimension and then over the others: for WebGPU, whose ReduceSum over leading
 * dimensions transposes before (109,440 rows of 1,536 on an H200: 1.9 ms, so 0.4). One matrix by Gemm: its rows may be none, as an
 * expert without tokens has, of which WebGPU's MatMul ends the process.
 */
export function rowsInParts(once: Once): SumRows {
  const whole = (x: Expr, key: string, width: number): Expr => {
    const rows = x.reshape(-1, width);
    const ones = once(`row of ones for ${key}`, () => onesOf(x.ints(1).concat([sizes(rows, 0, 1)], 0)));
    return ones.op('Gemm', [rows]).reshape(-1);
  };
  return (x, dims) => {
    const width = dims[dims.length - 1];
    if (dims.length < 2 || typeof width !== 'number') return reducedRows(x, dims);
    if (dims.slice(0, -2).every((d) => d === 1)) return whole(x, String(dims.slice(0, -1)), width);
    return whole(sumsByText(x, dims, once), `texts of ${dims.slice(0, -2)}`, width);
  };
}

/** Undoes broadcasting: sums a gradient of shape `from` down to shape `to`. */
export function unbroadcast(gradient: Expr, from: readonly Dim[], to: readonly Dim[], sumRows: SumRows): Expr {
  const axes = broadcastAxes(from, to);
  if (!axes.length) return gradient;
  const lead = from.length - to.length;
  if (axes.length === lead) return to.length === 1 ? sumRows(gradient, from) : gradient.sum(axes);
  const summed = gradient.sum(axes, true);
  return lead ? summed.squeeze(...Array.from({ length: lead }, (_, i) => i)) : summed;
}

/**
 * The constant shape of a Reshape, where there is one: in ONNX 0 copies a dimension and one -1 is inferred. A static 0-sized dimension
 * would be read as "copy".
 */
export function constantShape(from: readonly Dim[], to: readonly Dim[]): number[] | undefined {
  const written = to.map((d, i) => (typeof d === 'number' ? d : from[i] === d ? 0 : -1));
  return written.filter((d) => d === -1).length <= 1 && !to.includes(0) ? written : undefined;
}

/** Reshapes to `to`, with a constant shape where possible. Otherwise the shape is read from `like` at run time. */
export function reshapeLike(x: Expr, from: readonly Dim[], to: readonly Dim[], like: Expr): Expr {
  const written = constantShape(from, to);
  return written ? x.reshape(...written) : x.reshapeTo(like.shape());
}

/** Last axes as positive numbers. */
export const positiveAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
