/**
 * @file The gradient rules: one line per operator, under its ONNX name. To add an operator, add its line (and its case in the
 * test of this table).
 */
import { type Rule, zeros } from './rule.ts';
import * as arithmetic from './rules-arithmetic.ts';
import * as index from './rules-index.ts';
import * as normalization from './rules-normalization.ts';
import * as product from './rules-product.ts';
import * as reduction from './rules-reduction.ts';
import * as shape from './rules-shape.ts';

/**
 * Broadcasting operators: a rule's gradients have the output's shape, and `differentiate` sums them down.
 */
export const broadcasting = {
  Add: ({ dy }) => [dy, dy],
  Sub: ({ dy }) => [dy, dy.neg()],
  Mul: (c) => normalization.multiplied(c),
  Div: ({ dy, x: [, b], y: [y] }) => [dy.div(b), dy.mul(y).div(b).neg()],
  Pow: (c) => arithmetic.pow(c),
  Max: (c) => arithmetic.extreme(c, 'Greater'),
  Min: (c) => arithmetic.extreme(c, 'Less'),
  PRelu: ({ dy, x: [x, slope] }) => [x.less(0).where(dy.mul(slope), dy), x.less(0).where(dy.mul(x), 0)],
  Where: ({ dy, x: [c] }) => [null, c.where(dy, 0), c.where(0, dy)],
  Expand: ({ dy }) => [dy, null],
  Sum: ({ dy, x }) => x.map(() => dy),
  Mean: ({ dy, x }) => x.map(() => dy.mul(1 / x.length)),
} satisfies Record<string, Rule>;

/** Operators whose rules return gradients of the inputs' own shapes. */
export const shaped = {
  Abs: ({ dy, x: [x] }) => [dy.mul(x.sign())],
  BiasSoftmax: (c) => normalization.biasSoftmax(c),
  Cast: ({ dy, x: [x] }) => [dy.op('CastLike', [x])],
  CastLike: ({ dy, x: [x] }) => [dy.op('CastLike', [x]), null],
  Clip: (c) => arithmetic.clip(c),
  Concat: (c) => shape.concat(c),
  Cos: ({ dy, x: [x] }) => [dy.mul(x.op('Sin')).neg()],
  CumSum: ({ dy, x: [, axis], node }) => [
    dy.op('CumSum', [axis], { exclusive: node.int('exclusive', 0), reverse: 1 - node.int('reverse', 0) }),
    null,
  ],
  DFT: (c) => product.fourier(c),
  Dropout: (c) => arithmetic.dropout(c),
  Einsum: (c) => product.einsum(c),
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
  Flatten: (c) => [shape.reshapeBack(c)],
  Gather: (c) => index.gather(c),
  GatherElements: ({ dy, x: [x, i], node, dims }) => [
    zeros(x, dims(x)).op('ScatterElements', [i, dy], { axis: node.int('axis', 0), reduction: 'add' }),
    null,
  ],
  FusedMatMul: (c) => product.fusedProduct(c),
  GatherND: (c) => index.gatherND(c),
  Gelu: (c) => normalization.gelu(c),
  Gemm: (c) => product.gemm(c),
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
          .mul(1 / 6)
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
  LayerNormalization: (c) => normalization.layerNormalization(c),
  LeakyRelu: ({ dy, x: [x], node }) => [x.greater(0).where(dy, dy.mul(node.float('alpha', 0.01)))],
  Log: ({ dy, x: [x] }) => [dy.div(x)],
  LogSoftmax: ({ dy, y: [y], node }) => [dy.sub(y.exp().mul(dy.sum([node.int('axis', -1)], true)))],
  MatMul: (c) => product.matmul(c),
  Mish: ({ dy, x: [x] }) => {
    const t = x.op('Softplus').tanh();
    return [dy.mul(t.add(x.mul(t.square().rsub(1)).mul(x.sigmoid())))];
  },
  Neg: ({ dy }) => [dy.neg()],
  Pad: (c) => shape.pad(c),
  Reciprocal: ({ dy, y: [y] }) => [dy.mul(y.square()).neg()],
  ReduceL1: (c) => [reduction.spread(c, c.dy).mul(c.x[0].sign()), null],
  ReduceL2: (c) => [reduction.spread(c, c.dy).mul(c.x[0]).div(reduction.spread(c, c.y[0])), null],
  ReduceLogSum: (c) => [reduction.spread(c, c.dy.div(c.y[0].exp())), null],
  ReduceLogSumExp: (c) => [reduction.spread(c, c.dy).mul(c.x[0].sub(reduction.spread(c, c.y[0])).exp()), null],
  ReduceMax: (c) => reduction.reduceExtreme(c),
  ReduceMean: (c) => [reduction.spread(c, c.dy.div(reduction.reducedCount(c))), null],
  ReduceMin: (c) => reduction.reduceExtreme(c),
  ReduceProd: (c) => reduction.reduceProd(c),
  ReduceSum: (c) => [reduction.spread(c, c.dy), null],
  ReduceSumSquare: (c) => [reduction.spread(c, c.dy).mul(c.x[0]).mul(2), null],
  Relu: ({ dy, y: [y] }) => [dy.mul(y.sign())],
  Reshape: (c) => [shape.reshapeBack(c), null],
  ScatterElements: (c) => index.scatterElements(c),
  ScatterND: (c) => index.scatterND(c),
  Sigmoid: ({ dy, y: [y] }) => [dy.mul(y).mul(y.rsub(1))],
  Sin: ({ dy, x: [x] }) => [dy.mul(x.op('Cos'))],
  Slice: (c) => shape.slice(c),
  Softmax: (c) => normalization.softmax(c),
  Softplus: ({ dy, x: [x] }) => [dy.mul(x.sigmoid())],
  Softsign: ({ dy, x: [x] }) => [dy.div(x.abs().add(1).square())],
  Split: (c) => shape.split(c),
  Sqrt: ({ dy, y: [y] }) => [dy.div(y.mul(2))],
  Squeeze: (c) => [shape.reshapeBack(c), null],
  Tanh: ({ dy, y: [y] }) => [dy.mul(y.square().rsub(1))],
  Tile: (c) => shape.tile(c),
  TopK: ({ dy, x: [x], y: [, i], node, dims }) => [
    zeros(x, dims(x)).op('ScatterElements', [i, dy], { axis: node.int('axis', -1), reduction: 'add' }),
    null,
  ],
  Transpose: (c) => shape.transpose(c),
  Trilu: ({ dy, x: [, k], node }) => [dy.op('Trilu', [k ?? null], { upper: node.int('upper', 1) }), null],
  Unsqueeze: (c) => [shape.reshapeBack(c), null],
} satisfies Record<string, Rule>;

/** Operators without gradient: their outputs are integers, booleans or piecewise constant. */
export const constantAlmostEverywhere: ReadonlySet<string> = new Set(
  (
    'ArgMax ArgMin And Or Xor Not BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitShift Equal Greater GreaterOrEqual Less LessOrEqual Floor Ceil Round Sign IsNaN IsInf Shape Size ' +
    'ConstantOfShape EyeLike NonZero OneHot Hardmax Range RandomUniform RandomUniformLike RandomNormal RandomNormalLike Bernoulli Mod'
  ).split(' '),
);

/** The gradient rule of each operator, by its ONNX name; see engine/README.md for how to add one. */
export const rules: Readonly<Record<string, Rule>> = { ...broadcasting, ...shaped };
