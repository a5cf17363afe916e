/** @file Expressions on graph values, in which gradient rules, losses and optimizers are written. */
import type { AttributeInput, Graph, Value } from '../graph/ir.ts';
import { type DType, tensor } from '../graph/tensor.ts';
import { onnxType } from '../io/onnx-file.ts';

/** The second operand of arithmetic: a value of the same graph, or a number, which becomes a scalar constant. */
export type Operand = Expr | number;

/** A value of a graph with the operators of ONNX as methods; each call appends one node. */
export class Expr {
  readonly graph: Graph;
  readonly value: Value;

  constructor(graph: Graph, value: Value) {
    this.graph = graph;
    this.value = value;
  }

  /** One node of any operator. */
  op(name: string, others: readonly (Expr | null)[] = [], attributes: Record<string, AttributeInput> = {}): Expr {
    return new Expr(this.graph, this.graph.add(name, [this.value, ...others.map((e) => e?.value ?? null)], attributes));
  }

  /** One node with several outputs. */
  ops(
    name: string,
    others: readonly (Expr | null)[],
    outputs: number,
    attributes: Record<string, AttributeInput> = {},
  ): Expr[] {
    const inputs = [this.value, ...others.map((e) => e?.value ?? null)];
    return this.graph.addMany(name, inputs, outputs, attributes).map((v) => new Expr(this.graph, v));
  }

  /** A scalar constant of the graph's float type. */
  number(value: number): Expr {
    return constant(this.graph, this.graph.float, [], [value]);
  }

  /** A constant of int64 numbers, shape [n]. */
  ints(...values: number[]): Expr {
    return constant(this.graph, 'int64', [values.length], values);
  }

  private lift(other: Operand): Expr {
    return typeof other === 'number' ? this.number(other) : other;
  }

  /** this + other, with broadcasting as in ONNX. */
  add(other: Operand): Expr {
    return this.op('Add', [this.lift(other)]);
  }
  /** this - other. */
  sub(other: Operand): Expr {
    return this.op('Sub', [this.lift(other)]);
  }
  /** this * other, element by element. */
  mul(other: Operand): Expr {
    return this.op('Mul', [this.lift(other)]);
  }
  /** this / other. */
  div(other: Operand): Expr {
    return this.op('Div', [this.lift(other)]);
  }
  /** other - this */
  rsub(other: Operand): Expr {
    return this.lift(other).sub(this);
  }
  /** this to the power of other. */
  pow(other: Operand): Expr {
    return this.op('Pow', [this.lift(other)]);
  }
  /** this * this. */
  square(): Expr {
    return this.mul(this);
  }
  /** -this. */
  neg(): Expr {
    return this.op('Neg');
  }
  /** e to the power of each element. */
  exp(): Expr {
    return this.op('Exp');
  }
  /** Natural logarithm; -infinity at 0. */
  log(): Expr {
    return this.op('Log');
  }
  /** Square root; NaN below 0. */
  sqrt(): Expr {
    return this.op('Sqrt');
  }
  /** 1 / this. */
  reciprocal(): Expr {
    return this.op('Reciprocal');
  }
  /** Absolute value. */
  abs(): Expr {
    return this.op('Abs');
  }
  /** -1, 0 or 1. */
  sign(): Expr {
    return this.op('Sign');
  }
  /** 1 / (1 + exp(-this)). */
  sigmoid(): Expr {
    return this.op('Sigmoid');
  }
  /** Hyperbolic tangent. */
  tanh(): Expr {
    return this.op('Tanh');
  }
  /** max(this, 0). */
  relu(): Expr {
    return this.op('Relu');
  }
  /** The larger of the two, element by element. Along axes: `reduceMax`. */
  max(other: Operand): Expr {
    return this.op('Max', [this.lift(other)]);
  }
  /** The smaller of the two, element by element. */
  min(other: Operand): Expr {
    return this.op('Min', [this.lift(other)]);
  }

  /** Matrix product over the last two axes, leading axes broadcast: [.., m, k] x [.., k, n] gives [.., m, n]. */
  matmul(other: Expr): Expr {
    return this.op('MatMul', [other]);
  }
  /** Axes in their new order. */
  transpose(...perm: number[]): Expr {
    return this.op('Transpose', [], { perm });
  }
  /** 0 keeps a dimension, -1 is inferred, as in ONNX. */
  reshape(...dims: number[]): Expr {
    return this.op('Reshape', [this.ints(...dims)]);
  }
  /** Reshapes to a shape that the graph computes: int64 [rank]. */
  reshapeTo(shape: Expr): Expr {
    return this.op('Reshape', [shape], { allowzero: 0 });
  }
  /** Broadcasts to a shape that the graph computes: int64 [rank]. */
  expandTo(shape: Expr): Expr {
    return this.op('Expand', [shape]);
  }
  /** The shape, as int64 [rank]. */
  shape(): Expr {
    return this.op('Shape');
  }
  /** Inserts axes of size 1 at these positions of the result. */
  unsqueeze(...axes: number[]): Expr {
    return this.along('Unsqueeze', axes, 13);
  }
  /** Removes axes of size 1. */
  squeeze(...axes: number[]): Expr {
    return this.along('Squeeze', axes, 13);
  }
  /** Sum over axes. */
  sum(axes: readonly number[], keepDims = false): Expr {
    return this.along('ReduceSum', axes, 13, { keepdims: keepDims ? 1 : 0 });
  }
  /** Mean over axes. */
  mean(axes: readonly number[], keepDims = false): Expr {
    return this.along('ReduceMean', axes, 18, { keepdims: keepDims ? 1 : 0 });
  }
  /** Maximum over axes. */
  reduceMax(axes: readonly number[], keepDims = false): Expr {
    return this.along('ReduceMax', axes, 18, { keepdims: keepDims ? 1 : 0 });
  }
  /** An operator with axes, in the form of the graph's opset: an attribute, or an input since the opset given. */
  private along(op: string, axes: readonly number[], inputSince: number, more: Record<string, number> = {}): Expr {
    return this.graph.opset < inputSince
      ? this.op(op, [], { axes: [...axes], ...more })
      : this.op(op, [this.ints(...axes)], more);
  }
  /** Softmax along an axis. */
  softmax(axis = -1): Expr {
    return this.op('Softmax', [], { axis });
  }
  /** Logarithm of the softmax along an axis, computed without overflow. */
  logSoftmax(axis = -1): Expr {
    return this.op('LogSoftmax', [], { axis });
  }
  /** Rows (or slices along an axis) by integer index. */
  gather(indices: Expr, axis = 0): Expr {
    return this.op('Gather', [indices], { axis });
  }
  /** One element for each index, along an axis. */
  gatherElements(indices: Expr, axis = -1): Expr {
    return this.op('GatherElements', [indices], { axis });
  }
  /** The elements from `start` to before `end` along an axis; negative positions count from the end. */
  slice(start: number, end: number, axis: number): Expr {
    return this.op('Slice', [this.ints(start), this.ints(end), this.ints(axis)]);
  }
  /** This and the others joined along an axis. */
  concat(others: readonly Expr[], axis: number): Expr {
    return this.op('Concat', others, { axis });
  }
  /** The same numbers as another type. */
  cast(dtype: DType): Expr {
    return this.op('Cast', [], { to: onnxType(dtype) });
  }
  /** As the graph's float type: for masks and integers that enter arithmetic. */
  float(): Expr {
    return this.cast(this.graph.float);
  }
  /** Where this boolean holds, `yes`, elsewhere `no`. */
  where(yes: Operand, no: Operand): Expr {
    return this.op('Where', [this.lift(yes), this.lift(no)]);
  }
  /** Whether this > other, as booleans. */
  greater(other: Operand): Expr {
    return this.op('Greater', [this.lift(other)]);
  }
  /** Whether this < other, as booleans. */
  less(other: Operand): Expr {
    return this.op('Less', [this.lift(other)]);
  }
  /** Whether this = other, as booleans. */
  equal(other: Operand): Expr {
    return this.op('Equal', [this.lift(other)]);
  }
  /** The opposite of each boolean. */
  not(): Expr {
    return this.op('Not');
  }
  /** The same value without gradient: teacher scores, weights, masks made of the student's scores. */
  stopGradient(): Expr {
    const held = this.op('Identity');
    held.value.detached = true;
    return held;
  }

  /** x / max(||x||, 1e-12) along the last axis; the argument of the square root stays above 0, where its gradient is bounded. */
  l2Normalize(): Expr {
    return this.div(this.square().sum([-1], true).add(1e-24).sqrt());
  }
}

/** A constant of a graph. @param dims its shape @param values its elements, row-major */
export function constant(graph: Graph, dtype: DType, dims: readonly number[], values: ArrayLike<number>): Expr {
  return new Expr(graph, graph.constant(tensor(dtype, dims, values)));
}

/** Several values along an axis, or the one that there is. */
export const concatenated = ([first, ...others]: readonly Expr[], axis: number): Expr =>
  others.length ? first.concat(others, axis) : first;
