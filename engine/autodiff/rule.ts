/** @file The type of gradient rules, their context, and helpers shared by several rules. */
import { InputError } from '../../common/errors.ts';
import { constant, type Expr } from '../expressions/expr.ts';
import type { Dim, Node } from '../graph/ir.ts';
import type { Once, SumRows } from './shapes.ts';

/** The context of a rule. Gradients are of the loss; `x` are the inputs, `y` the outputs. */
export interface Context {
  node: Node;
  /** Inputs; an absent optional input is undefined. */
  x: Expr[];
  /** Outputs. */
  y: Expr[];
  /** Gradient of the first output. */
  dy: Expr;
  /** Gradients of all outputs, null where none flows. */
  dys: (Expr | null)[];
  /** The static shape of a value: sizes, and names of sizes that are known when the graph runs. */
  dims(value: Expr): readonly Dim[];
  /** Whether input i needs a gradient: rules may skip costly ones that nothing reads. */
  needsGradient(i: number): boolean;
  /** The input's constant as plain numbers, where it is one. */
  constant(i: number): number[] | undefined;
  /** The node with its optional outputs present. */
  outputs(count: number): Expr[];
  /** Sums over all dimensions but the last, in the form that is fastest on the target. */
  sumRows: SumRows;
  forms: Forms;
  once: Once;
}

/**
 * What gradients are written in, by what is fast where the graph runs; the results are the same up to rounding.
 *
 * - `plain`: ONNX operators as the formulas have them
 * - `cpu`: sums over rows as products with ones
 * - `cuda`: large values read and written as seldom as possible, which is what takes the time there: products that transpose as they
 *   read (com.microsoft), sums inside products
 * - `cuda-half`: the same in half precision; sums over all tokens text by text: see `rowsByText`
 * - `webgpu`: products of sides that were transposed before, and long sums in parts: see `rules-product.ts`
 */
export type Forms = 'plain' | 'cpu' | 'cuda' | 'cuda-half' | 'webgpu';

/** Whether a product may transpose as it reads. */
export const fuses = (forms: Forms): boolean => forms === 'cuda' || forms === 'cuda-half';

/** One gradient per input, in order; null where none flows. */
export type Rule = (c: Context) => Gradients;
export type Gradients = readonly (Expr | null)[];

/** Error for a use of a known operator that its rule does not cover. */
export function unsupported(c: Context, what: string): InputError {
  return new InputError({
    code: 'autodiff.unsupported-use',
    subject: `${c.node.title}: ${what}`,
    remedy: 'extend its rule in engine/autodiff/rules.ts',
  });
}

export const last = (dims: readonly Dim[], back = 1): number => {
  const d = dims[dims.length - back];
  if (typeof d !== 'number') throw new Error(`expected a static dimension, found ${d}`);
  return d;
};

export const inverse = (perm: readonly number[]): number[] => perm.map((_, i) => perm.indexOf(i));

/** Zeros in the shape of x. */
export function zeros(x: Expr, dims: readonly Dim[]): Expr {
  if (dims.every((d) => typeof d === 'number'))
    return constant(
      x.graph,
      x.graph.float,
      dims as number[],
      new Float32Array(dims.reduce((n: number, d) => n * (d as number), 1)),
    );
  return x.shape().op('ConstantOfShape', [], {
    value: {
      dtype: x.graph.float,
      dims: [1],
      data: x.graph.float === 'float64' ? new Float64Array(1) : new Float32Array(1),
    } as never,
  });
}

/** A scalar int64. */
export const constantInt = (e: Expr, value: number): Expr => constant(e.graph, 'int64', [], [value]);

/** The size of one dimension, as int64 [1]. */
export function sizeAt(x: Expr, dims: readonly Dim[], axis: number): Expr {
  const size = dims[axis];
  return typeof size === 'number' ? x.ints(size) : x.shape().gather(x.ints(axis));
}
