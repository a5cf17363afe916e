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

/** Sums over all dimensions but the last, as the gradient of a bias is. */
export type SumRows = (x: Expr, dims: readonly Dim[]) => Expr;

/** With dimensions kept and then dropped: CUDA's ReduceSum refuses no rows at all, as an expert without tokens has, unless they are. */
export const reducedRows: SumRows = (x, dims) =>
  dims.length > 1
    ? x
        .sum(
          dims.slice(1).map((_, i) => i),
          true,
        )
        .reshape(-1)
    : x;

/**
 * The same as a product of a vector of ones with the rows, for a CPU: ONNX Runtime's ReduceSum over leading dimensions is slower
 * there (1,024 rows of 384 and of 1,536 on two threads: 0.16 and 0.53 ms, the product 0.10 and 0.34). Values of equal leading
 * dimensions share the ones.
 */
export function multipliedRows(): SumRows {
  const ones = new Map<string, Expr>();
  return (x, dims) => {
    const width = dims.at(-1);
    if (dims.length < 2 || typeof width !== 'number') return reducedRows(x, dims);
    const rows = x.reshape(-1, width);
    const key = dims.slice(0, -1).join();
    const one = tensor(x.graph.float, [1], [1]);
    const own = ones.get(key) ?? rows.op('Shape', [], { start: 0, end: 1 }).op('ConstantOfShape', [], { value: one });
    ones.set(key, own);
    return own.matmul(rows);
  };
}

/**
 * In two steps: over the second last dimension by a product with ones, then over the others. For half precision: a product adds up in
 * float32, ReduceSum over leading dimensions partly in the type itself, and the sum of one text is far from float16's limits.
 */
export function rowsByText(): SumRows {
  const whole = multipliedRows();
  const ones = new Map<string, Expr>();
  return (x, dims) => {
    if (dims.length < 3) return whole(x, dims);
    return sumsByText(x, dims, ones).sum(dims.slice(1).map((_, i) => i));
  };
}

/** [.., 1, width] sums over the second last dimension, as products with ones; values of equal leading dimensions share these. */
function sumsByText(x: Expr, dims: readonly Dim[], ones: Map<string, Expr>): Expr {
  const at = dims.length - 2;
  const value = tensor(x.graph.float, [1], [1]);
  // With the leading dimensions: CUDA multiplies batches of equal strides, not one matrix on the left with many.
  const key = String(dims.slice(0, -1));
  const own =
    ones.get(key) ??
    x
      .op('Shape', [], { start: 0, end: at })
      .concat([x.ints(1), x.op('Shape', [], { start: at, end: at + 1 })], 0)
      .op('ConstantOfShape', [], { value });
  ones.set(key, own);
  return own.matmul(x);
}

/**
 * In two products with ones, first over the second last dimension and then over the others: for WebGPU, whose ReduceSum over leading
 * dimensions transposes before (109,440 rows of 1,536 on an H200: 1.9 ms, so 0.4). One matrix by Gemm: its rows may be none, as an
 * expert without tokens has, of which WebGPU's MatMul ends the process.
 */
export function rowsInParts(): SumRows {
  const ones = new Map<string, Expr>();
  const whole = (x: Expr, key: string, width: number): Expr => {
    const rows = x.reshape(-1, width);
    const value = tensor(x.graph.float, [1], [1]);
    const count = rows.op('Shape', [], { start: 0, end: 1 });
    const own = ones.get(key) ?? x.ints(1).concat([count], 0).op('ConstantOfShape', [], { value });
    ones.set(key, own);
    return own.op('Gemm', [rows]).reshape(-1);
  };
  const byText = new Map<string, Expr>();
  return (x, dims) => {
    const width = dims[dims.length - 1];
    if (dims.length < 2 || typeof width !== 'number') return reducedRows(x, dims);
    if (dims.slice(0, -2).every((d) => d === 1)) return whole(x, String(dims.slice(0, -1)), width);
    return whole(sumsByText(x, dims, byText), `texts of ${dims.slice(0, -2)}`, width);
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
 * Reshapes to `to`, with a constant shape where possible (in ONNX 0 copies a dimension and one -1 is inferred). Otherwise the
 * shape is read from `like` at run time.
 */
export function reshapeLike(x: Expr, from: readonly Dim[], to: readonly Dim[], like: Expr): Expr {
  const written = to.map((d, i) => (typeof d === 'number' ? d : from[i] === d ? 0 : -1));
  const unknown = written.filter((d) => d === -1).length;
  // A static 0-sized dimension would be read as "copy": such shapes use the general form.
  if (unknown <= 1 && !to.includes(0)) return x.reshape(...written);
  return x.reshapeTo(like.shape());
}

/** Last axes as positive numbers. */
export const positiveAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
