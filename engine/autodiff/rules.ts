/** @file The gradient rules: one line an operator, under its ONNX name. To add an operator, add its line (and its case in the test of this table). */
import type { Expr } from '../expressions/expr.ts';
import type { Dim, Node } from '../graph/ir.ts';
import * as long from './rules-long.ts';

/** What a rule is given. Gradients are of the loss; `x` are the inputs, `y` the outputs. */
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
  dims(value: Expr): readonly Dim[];
  /** Whether input i wants a gradient: rules may skip costly ones nobody reads. */
  wants(i: number): boolean;
  /** The input's constant as plain numbers, where it is one. */
  constant(i: number): number[] | undefined;
  /** The node with its optional outputs present. */
  outputs(count: number): Expr[];
}

/** One gradient an input, in order; null where none flows. */
export type Rule = (c: Context) => readonly (Expr | null)[];

/**
 * Operators that broadcast: a rule's gradients have the output's shape and the walk sums them down.
 */
export const broadcasting = {
  Add: ({ dy }) => [dy, dy],
  Sub: ({ dy }) => [dy, dy.neg()],
  Mul: ({ dy, x: [a, b] }) => [dy.mul(b), dy.mul(a)],
  Div: ({ dy, x: [, b], y: [y] }) => [dy.div(b), dy.mul(y).div(b).neg()],
  Pow: (c) => long.pow(c),
  Max: ({ dy, x: [a, b] }) => [dy.mul(long.share(a, b, 'Greater')), b && dy.mul(long.share(b, a, 'Greater'))],
  Min: ({ dy, x: [a, b] }) => [dy.mul(long.share(a, b, 'Less')), b && dy.mul(long.share(b, a, 'Less'))],
  Where: ({ dy, x: [c] }) => [null, c.where(dy, 0), c.where(0, dy)],
  Expand: ({ dy }) => [dy, null],
  Sum: ({ dy, x }) => x.map(() => dy),
  Mean: ({ dy, x }) => x.map(() => dy.mul(1 / x.length)),
} satisfies Record<string, Rule>;

/** Operators whose rules return gradients of the inputs' own shapes. */
export const shaped = {
  Abs: ({ dy, x: [x] }) => [dy.mul(x.sign())],
  Cast: ({ dy, x: [x] }) => [dy.op('CastLike', [x])],
  CastLike: ({ dy, x: [x] }) => [dy.op('CastLike', [x]), null],
  Clip: (c) => long.clip(c),
  Concat: (c) => long.concat(c),
  Cos: ({ dy, x: [x] }) => [dy.mul(x.op('Sin')).neg()],
  CumSum: ({ dy, x: [, axis], node }) => [
    dy.op('CumSum', [axis], { exclusive: node.int('exclusive', 0), reverse: 1 - node.int('reverse', 0) }),
    null,
  ],
  Dropout: (c) => long.dropout(c),
  Einsum: (c) => long.einsum(c),
  Elu: ({ dy, x: [x], y: [y], node }) => [x.greater(0).where(dy, dy.mul(y.add(node.float('alpha', 1))))],
  Erf: ({ dy, x: [x] }) => [
    dy.mul(
      x
        .square()
        .neg()
        .exp()
        .mul(2 / Math.sqrt(Math.PI)),
    ),
  ],
  Exp: ({ dy, y: [y] }) => [dy.mul(y)],
  Flatten: (c) => [long.reshapeBack(c)],
  Gather: (c) => long.gather(c),
  GatherElements: ({ dy, x: [x, i], node, dims }) => [
    long.zeros(x, dims(x)).op('ScatterElements', [i, dy], { axis: node.int('axis', 0), reduction: 'add' }),
    null,
  ],
  GatherND: (c) => long.gatherND(c),
  Gelu: (c) => long.gelu(c),
  Gemm: (c) => long.gemm(c),
  HardSigmoid: ({ dy, x: [x], node }) => {
    const [alpha, beta] = [node.float('alpha', 0.2), node.float('beta', 0.5)];
    const inside = x.mul(alpha).add(beta);
    return [
      inside
        .greater(0)
        .op('And', [inside.less(1)])
        .where(dy.mul(alpha), 0),
    ];
  },
  HardSwish: ({ dy, x: [x] }) => [
    dy
      .mul(
        x
          .mul(1 / 3)
          .add(0.5)
          .max(0)
          .min(1),
      )
      .add(
        x
          .abs()
          .less(3)
          .where(dy.mul(x).mul(1 / 6), 0),
      ),
  ],
  Identity: ({ dy }) => [dy],
  LayerNormalization: (c) => long.layerNormalization(c),
  LeakyRelu: ({ dy, x: [x], node }) => [x.greater(0).where(dy, dy.mul(node.float('alpha', 0.01)))],
  Log: ({ dy, x: [x] }) => [dy.div(x)],
  LogSoftmax: ({ dy, y: [y], node }) => [dy.sub(y.exp().mul(dy.sum([node.int('axis', -1)], true)))],
  MatMul: (c) => long.matmul(c),
  Mish: ({ dy, x: [x] }) => {
    const t = x.op('Softplus').tanh();
    return [dy.mul(t.add(x.mul(t.square().from(1)).mul(x.sigmoid())))];
  },
  Neg: ({ dy }) => [dy.neg()],
  Pad: (c) => long.pad(c),
  Reciprocal: ({ dy, y: [y] }) => [dy.mul(y.square()).neg()],
  ReduceL2: (c) => [long.spread(c, c.dy).mul(c.x[0]).div(long.spread(c, c.y[0])), null],
  ReduceLogSumExp: (c) => [long.spread(c, c.dy).mul(c.x[0].sub(long.spread(c, c.y[0])).exp()), null],
  ReduceMax: (c) => long.reduceExtreme(c),
  ReduceMean: (c) => [long.spread(c, c.dy.div(long.reducedCount(c))), null],
  ReduceMin: (c) => long.reduceExtreme(c),
  ReduceSum: (c) => [long.spread(c, c.dy), null],
  ReduceSumSquare: (c) => [long.spread(c, c.dy).mul(c.x[0]).mul(2), null],
  Relu: ({ dy, y: [y] }) => [dy.mul(y.sign())],
  Reshape: (c) => [long.reshapeBack(c), null],
  Sigmoid: ({ dy, y: [y] }) => [dy.mul(y).mul(y.from(1))],
  Sin: ({ dy, x: [x] }) => [dy.mul(x.op('Cos'))],
  Slice: (c) => long.slice(c),
  Softmax: (c) => long.softmax(c),
  Softplus: ({ dy, x: [x] }) => [dy.mul(x.sigmoid())],
  Split: (c) => long.split(c),
  Sqrt: ({ dy, y: [y] }) => [dy.div(y.mul(2))],
  Squeeze: (c) => [long.reshapeBack(c), null],
  Tanh: ({ dy, y: [y] }) => [dy.mul(y.square().from(1))],
  Tile: (c) => long.tile(c),
  TopK: ({ dy, x: [x], y: [, i], node, dims }) => [
    long.zeros(x, dims(x)).op('ScatterElements', [i, dy], { axis: node.int('axis', -1), reduction: 'add' }),
    null,
  ],
  Transpose: ({ dy, node, dims, x: [x] }) => [
    dy.transpose(...long.inverse(node.ints('perm') ?? dims(x).map((_, i, d) => d.length - 1 - i))),
  ],
  Trilu: ({ dy, x: [, k], node }) => [dy.op('Trilu', [k ?? null], { upper: node.int('upper', 1) }), null],
  Unsqueeze: (c) => [long.reshapeBack(c), null],
} satisfies Record<string, Rule>;

/** Operators through which nothing flows: their outputs are whole numbers, truth values or piecewise constant. */
export const constantAlmostEverywhere: ReadonlySet<string> = new Set(
  (
    'ArgMax ArgMin And Or Xor Not Equal Greater GreaterOrEqual Less LessOrEqual Floor Ceil Round Sign IsNaN IsInf Shape Size ' +
    'ConstantOfShape EyeLike NonZero OneHot Range RandomUniform RandomUniformLike RandomNormal RandomNormalLike Bernoulli Mod'
  ).split(' '),
);

export const rules: Readonly<Record<string, Rule>> = { ...broadcasting, ...shaped };
