/** @file Uses of every operator that has a gradient rule: shapes (a letter is a dimension that differs from run to run), attributes and a safe domain. */
import type { AttributeInput } from '../../../engine/graph/ir.ts';
import { float } from '../../../engine/graph/ir.ts';

export type Size = number | 'B' | 'L' | 'N';

/** A random input to differentiate, constant whole numbers, or whole numbers (or truth values) fed from run to run. */
export type Input =
  | { float: readonly Size[]; from?: number; to?: number }
  | { ints: readonly number[]; dims?: readonly number[] }
  | { number: number }
  | { index: readonly Size[]; below: Size; distinct?: boolean }
  | { mask: readonly Size[] }
  | null;

export interface Use {
  inputs: readonly Input[];
  attributes?: Record<string, AttributeInput>;
  outputs?: number;
  domain?: string;
}

const f = (...dims: Size[]): Input => ({ float: dims });
const within = (from: number, to: number, ...dims: Size[]): Input => ({ float: dims, from, to });
const ints = (...values: number[]): Input => ({ ints: values });
const one = (value: number): Input => ({ ints: [value], dims: [] });
const use = (inputs: readonly Input[], attributes?: Record<string, AttributeInput>, outputs?: number): Use => ({
  inputs,
  attributes,
  outputs,
});
const unary = (from = -2, to = 2, attributes?: Record<string, AttributeInput>): Use[] => [
  use([within(from, to, 'B', 3)], attributes),
];
/** Broadcasting on either side, by a leading, an inner and no dimension, and by a scalar. */
const binary = (from = -2, to = 2): Use[] =>
  [
    [
      ['B', 'L', 3],
      ['B', 'L', 3],
    ],
    [['B', 'L', 3], [3]],
    [
      ['L', 1],
      ['B', 1, 3],
    ],
    [[], ['B', 3]],
    [
      [1, 3],
      [2, 1],
    ],
  ].map(([a, b]) => use([within(from, to, ...(a as Size[])), within(from, to, ...(b as Size[]))]));
const reduction = (from = -2, to = 2): Use[] => [
  use([within(from, to, 'B', 'L', 3), ints(-1)], { keepdims: 1 }),
  use([within(from, to, 'B', 'L', 3), ints(1)], { keepdims: 0 }),
  use([within(from, to, 'B', 'L', 3), ints(0, -1)], { keepdims: 0 }),
  use([within(from, to, 'B', 2)], { keepdims: 1 }),
  use([within(from, to, 2, 'L'), null], { keepdims: 0 }),
];

export const uses: Readonly<Record<string, readonly Use[]>> = {
  Abs: [...unary(0.3, 2), ...unary(-2, -0.3)],
  Add: binary(),
  BiasSoftmax: [{ ...use([f('B', 2, 'L', 3), f('B', 1, 1, 3)], { axis: 3, is_inner_broadcast: 1 }), domain: 'com.microsoft' }],
  Cast: [use([f('B', 3)], { to: 11 })],
  CastLike: [use([f('B', 3), { number: 1 }])],
  Clip: [use([within(-0.4, 0.4, 'B', 3), { number: -0.5 }, { number: 0.5 }]), use([within(0.6, 2, 'B', 3), { number: -0.5 }, { number: 0.5 }]), use([f('B', 3), { number: -9 }]), use([f('B', 3), null, { number: 9 }])],
  Concat: [use([f('B', 2), f('B', 3)], { axis: 1 }), use([f('B', 2), f('L', 2), f(1, 2)], { axis: 0 }), use([f(2, 'B'), f(2, 'L')], { axis: -1 })],
  Cos: unary(),
  CumSum: [use([f('B', 'L'), one(1)]), use([f('B', 'L'), one(0)], { reverse: 1 }), use([f('B', 'L'), one(-1)], { exclusive: 1 })],
  DFT: [
    use([f('B', 5, 1), null, one(1)]),
    use([f('B', 'L', 2), null, one(-2)]),
    use([f('B', 'L', 3, 2), null, one(1)], { inverse: 1 }),
  ],
  Div: binary(0.5, 2),
  Dropout: [use([f('B', 3)]), use([f('B', 3), { number: 0.5 }, null])],
  Einsum: [
    use([f('B', 2, 3), f('B', 3, 4)], { equation: 'bij,bjk->bik' }),
    use([f('B', 'L', 2, 3), f('B', 'N', 2, 3)], { equation: 'blhd, bnhd -> bhln' }),
    use([f('B', 3), f(3)], { equation: 'bi,i' }),
    use([f('B', 'L', 3), f('B', 3, 2)], { equation: '...ij,...jk->...ik' }),
    use([f('B', 3, 2), f('B', 4)], { equation: 'bij,bk->bi' }),
    use([f('B', 'L')], { equation: 'ij->ji' }),
  ],
  Elu: unary(-2, 2, { alpha: float(1.5) }),
  Erf: unary(),
  Exp: unary(),
  Expand: [use([f('B', 1, 3), ints(1, 4, 1)]), use([f(3), ints(2, 3)]), use([f(), ints(2, 2)])],
  Flatten: [use([f('B', 2, 3)], { axis: 1 }), use([f('B', 'L', 3)], { axis: 2 })],
  Gather: [
    use([f(5, 3), { index: ['B', 'L'], below: 5 }]),
    use([f('B', 5, 3), { index: ['L'], below: 5 }], { axis: 1 }),
    use([f('B', 4, 'L'), { index: ['N'], below: 4 }], { axis: -2 }),
    use([f('B', 'L', 3), { index: ['N', 2], below: 'L' }], { axis: 1 }),
    use([f('L', 'B'), { index: ['N', 2], below: 'L' }]),
    use([f('B', 'L', 3), one(-1)], { axis: 1 }),
    use([f('B', 'L'), one(0)], { axis: 0 }),
  ],
  GatherElements: [use([f('B', 5), { index: ['B', 3], below: 5 }], { axis: 1 }), use([f(4, 'L'), { index: [3, 'L'], below: 4 }])],
  GatherND: [
    use([f(4, 3), { index: ['N', 1], below: 4 }]),
    use([f(3, 3), { index: ['N', 2], below: 3 }]),
    use([f('B', 3, 3), { index: ['B', 'N', 1], below: 3 }], { batch_dims: 1 }),
    use([f('B', 'L', 3, 2), { index: ['B', 'L', 1], below: 3 }], { batch_dims: 2 }),
  ],
  Gelu: [...unary(), ...unary(-2, 2, { approximate: 'tanh' })],
  Gemm: [0, 1].flatMap((transA) =>
    [0, 1].map((transB) =>
      use([transA ? f(3, 'B') : f('B', 3), transB ? f(4, 3) : f(3, 4), transA ? f(4) : transB ? f('B', 1) : f('B', 4)], { transA, transB, alpha: float(0.7), beta: float(1.3) }),
    ),
  ),
  FusedMatMul: [0, 1].flatMap((transB) => [
    ...[0, 1].map((transA) => ({
      ...use([transA ? f('B', 3, 'L') : f('B', 'L', 3), transB ? f('B', 4, 3) : f('B', 3, 4)], { transA, transB, alpha: float(0.7) }),
      domain: 'com.microsoft',
    })),
    { ...use([f('B', 'L', 3), transB ? f(4, 3) : f(3, 4)], { transB, alpha: float(0.7) }), domain: 'com.microsoft' },
  ]),
  HardSigmoid: [...unary(-2, 2, { alpha: float(0.2) }), ...unary(3, 4)],
  HardSwish: [...unary(-2.8, 2.8), ...unary(3.2, 4), ...unary(-4, -3.2)],
  Identity: unary(),
  LayerNormalization: [use([f('B', 'L', 4), f(4), f(4)]), use([f('B', 4), f(4)], { axis: 1, epsilon: float(0.1) }), use([f('B', 2, 3), f(2, 3), f(2, 3)], { axis: 1 })],
  LeakyRelu: [...unary(0.3, 2), ...unary(-2, -0.3, { alpha: float(0.3) })],
  Log: unary(0.3, 2),
  LogSoftmax: [use([f('B', 'L')]), use([f('B', 'L', 3)], { axis: 1 })],
  MatMul: [
    use([f('B', 3), f(3, 4)]),
    use([f('B', 'L', 3), f(3, 4)]),
    use([f('B', 2, 'L', 3), f('B', 2, 3, 'L')]),
    use([f('B', 1, 'L', 3), f(2, 3, 4)]),
    use([f('L', 3), f('B', 3, 2)]),
    use([f(3), f(3, 4)]),
    use([f('B', 3), f(3)]),
    use([f('B', 'L', 3), f(3)]),
    use([f(3), f('B', 3, 2)]),
    use([f(3), f(3)]),
  ],
  Max: binary(),
  Mean: [...binary(), use([f('B', 3), f(3), f(1)])],
  Min: binary(),
  Mish: unary(),
  Mul: binary(),
  Neg: unary(),
  PRelu: [use([within(0.3, 2, 'B', 3), f(3)]), use([within(-2, -0.3, 'B', 3), f(3)]), use([within(-2, -0.3, 'B', 3), f(1)])],
  Pad: [use([f('B', 3), ints(1, 0, 0, 2)]), use([f('B', 3), ints(2, 1), null, ints(1)]), use([f('B', 'L'), ints(0, -1, 0, 1)])],
  Pow: [...binary(0.3, 2), use([within(0.3, 2, 'B', 3), { number: 2 }]), use([within(-2, 2, 'B', 3), { number: 3 }]), use([within(0.3, 2, 'B', 3), { number: -0.5 }])],
  Reciprocal: unary(0.5, 2),
  ReduceL1: reduction(0.3, 2),
  ReduceL2: reduction(0.3, 2),
  ReduceLogSum: reduction(0.3, 2),
  ReduceLogSumExp: reduction(),
  ReduceMax: reduction(),
  ReduceMean: reduction(),
  ReduceMin: reduction(),
  ReduceProd: [use([f('B', 3), ints(-1)], { keepdims: 1 }), use([f('B', 'L', 2), ints(1)], { keepdims: 0 })],
  ReduceSum: reduction(),
  ReduceSumSquare: reduction(),
  Relu: [...unary(0.3, 2), ...unary(-2, -0.3)],
  Reshape: [use([f('B', 2, 3), ints(0, -1)]), use([f('B', 'L', 2), ints(-1, 2)]), use([f('B', 'L', 4), ints(0, 0, 2, 2)]), use([f(2, 3), ints(6)])],
  ScatterElements: [use([f('B', 5), { index: ['B', 3], below: 5 }, f('B', 3)], { axis: 1, reduction: 'add' }), use([f(5, 'L'), { ints: [4, 0], dims: [2, 1] }, f(2, 1)])],
  ScatterND: [use([f(6, 3), { index: ['N', 1], below: 6 }, f('N', 3)], { reduction: 'add' }), use([f(6, 'L'), { ints: [4, 0], dims: [2, 1] }, f(2, 'L')])],
  Sigmoid: unary(),
  Sin: unary(),
  Slice: [
    use([f('B', 5), ints(1), ints(4), ints(1)]),
    use([f('B', 5, 'L'), ints(1, 0), ints(-1, -1), ints(1, 2)]),
    use([f('B', 6), ints(0), ints(6), ints(1), ints(2)]),
    use([f('B', 5, 'L'), ints(-1), ints(-9), ints(-2), ints(-1)]),
    use([f('B', 'L'), ints(0), ints(99), ints(0)]),
    use([f(4, 'L'), ints(1, 0), ints(3, 2)]),
    use([f(5), ints(4), ints(0), ints(0), ints(-2)]),
    use([f('B', 'L'), ints(-99), ints(-1), ints(1)]),
  ],
  Softmax: [use([f('B', 'L')]), use([f('B', 'L', 3)], { axis: 1 })],
  Softplus: unary(),
  Softsign: unary(),
  Split: [use([f('B', 5), ints(2, 3)], { axis: 1 }, 2), use([f(4, 'L')], { num_outputs: 2 }, 2), use([f('B', 'L', 6)], { axis: -1, num_outputs: 3 }, 3)],
  Sqrt: unary(0.3, 2),
  Squeeze: [use([f('B', 1, 3), ints(1)]), use([f(1, 'B', 1)]), use([f('B', 'L', 1), ints(-1)])],
  Sub: binary(),
  Sum: [...binary(), use([f('B', 3), f(3), f(1)])],
  Tanh: unary(),
  Tile: [use([f('B', 3), ints(2, 1)]), use([f('B', 'L', 2), ints(1, 2, 3)])],
  TopK: [use([f('B', 5), ints(2)], {}, 2), use([f(5, 'L'), ints(3)], { axis: 0, largest: 0 }, 2)],
  Transpose: [use([f('B', 'L', 3)], { perm: [2, 0, 1] }), use([f('B', 'L', 3)])],
  Trilu: [use([f('B', 3, 3)]), use([f('B', 'L', 3), one(-1)], { upper: 0 })],
  Unsqueeze: [use([f('B', 3), ints(1)]), use([f('B', 'L'), ints(0, -1)])],
  Where: [use([{ mask: ['B', 'L'] }, f('B', 'L'), f('B', 'L')]), use([{ mask: ['B', 1, 'L'] }, f(3, 1), f()])],
}; // biome-ignore format: a table
