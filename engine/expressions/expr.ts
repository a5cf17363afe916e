/** @file Arithmetic on graph values: gradient rules, losses and optimizers are all written in these. */
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

  ints(...values: number[]): Expr {
    return constant(this.graph, 'int64', [values.length], values);
  }

  private lift(other: Operand): Expr {
    return typeof other === 'number' ? this.number(other) : other;
  }

  add(other: Operand): Expr {
    return this.op('Add', [this.lift(other)]);
  }
  sub(other: Operand): Expr {
    return this.op('Sub', [this.lift(other)]);
  }
  mul(other: Operand): Expr {
    return this.op('Mul', [this.lift(other)]);
  }
  div(other: Operand): Expr {
    return this.op('Div', [this.lift(other)]);
  }
  /** other - this */
  rsub(other: Operand): Expr {
    return this.lift(other).sub(this);
  }
  pow(other: Operand): Expr {
    return this.op('Pow', [this.lift(other)]);
  }
  square(): Expr {
    return this.mul(this);
  }
  neg(): Expr {
    return this.op('Neg');
  }
  exp(): Expr {
    return this.op('Exp');
  }
  log(): Expr {
    return this.op('Log');
  }
  sqrt(): Expr {
    return this.op('Sqrt');
  }
  reciprocal(): Expr {
    return this.op('Reciprocal');
  }
  abs(): Expr {
    return this.op('Abs');
  }
  sign(): Expr {
    return this.op('Sign');
  }
  sigmoid(): Expr {
    return this.op('Sigmoid');
  }
  tanh(): Expr {
    return this.op('Tanh');
  }
  relu(): Expr {
    return this.op('Relu');
  }
  max(other: Operand): Expr {
    return this.op('Max', [this.lift(other)]);
  }
  min(other: Operand): Expr {
    return this.op('Min', [this.lift(other)]);
  }

  matmul(other: Expr): Expr {
    return this.op('MatMul', [other]);
  }
  /** Axes in their new order. */
  transpose(...perm: number[]): Expr {
    return this.op('Transpose', [], { perm });
  }
  /** 0 keeps a dimension, -1 is what remains, as in ONNX. */
  reshape(...dims: number[]): Expr {
    return this.op('Reshape', [this.ints(...dims)]);
  }
  reshapeTo(shape: Expr): Expr {
    return this.op('Reshape', [shape], { allowzero: 0 });
  }
  expandTo(shape: Expr): Expr {
    return this.op('Expand', [shape]);
  }
  shape(): Expr {
    return this.op('Shape');
  }
  unsqueeze(...axes: number[]): Expr {
    return this.along('Unsqueeze', axes, 13);
  }
  squeeze(...axes: number[]): Expr {
    return this.along('Squeeze', axes, 13);
  }
  sum(axes: readonly number[], keepDims = false): Expr {
    return this.along('ReduceSum', axes, 13, { keepdims: keepDims ? 1 : 0 });
  }
  mean(axes: readonly number[], keepDims = false): Expr {
    return this.along('ReduceMean', axes, 18, { keepdims: keepDims ? 1 : 0 });
  }
  reduceMax(axes: readonly number[], keepDims = false): Expr {
    return this.along('ReduceMax', axes, 18, { keepdims: keepDims ? 1 : 0 });
  }
  /** An operator with axes, in the form of the graph's opset: an attribute, or an input since the opset given. */
  private along(op: string, axes: readonly number[], inputSince: number, more: Record<string, number> = {}): Expr {
    return this.graph.opset < inputSince
      ? this.op(op, [], { axes: [...axes], ...more })
      : this.op(op, [this.ints(...axes)], more);
  }
  softmax(axis = -1): Expr {
    return this.op('Softmax', [], { axis });
  }
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
  slice(start: number, end: number, axis: number): Expr {
    return this.op('Slice', [this.ints(start), this.ints(end), this.ints(axis)]);
  }
  concat(others: readonly Expr[], axis: number): Expr {
    return this.op('Concat', others, { axis });
  }
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
  greater(other: Operand): Expr {
    return this.op('Greater', [this.lift(other)]);
  }
  less(other: Operand): Expr {
    return this.op('Less', [this.lift(other)]);
  }
  equal(other: Operand): Expr {
    return this.op('Equal', [this.lift(other)]);
  }
  not(): Expr {
    return this.op('Not');
  }
  /** The same number with no gradient: what the teacher says, weights, masks made of the student's scores. */
  stopGradient(): Expr {
    const held = this.op('Identity');
    held.value.detached = true;
    return held;
  }

  /** x / max(||x||, 1e-12) along the last axis; the square root never meets 0, where its gradient has no limit. */
  l2Normalize(): Expr {
    return this.div(this.square().sum([-1], true).add(1e-24).sqrt());
  }
}

/** A constant of a graph. @param dims its shape @param values as many numbers as the shape has, row-major */
export function constant(graph: Graph, dtype: DType, dims: readonly number[], values: ArrayLike<number>): Expr {
  return new Expr(graph, graph.constant(tensor(dtype, dims, values)));
}
