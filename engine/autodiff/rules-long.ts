/** @file Gradient rules that take more than a line, each a function named as its operator; the derivative stands above it. */
import { InputError } from '../../common/errors.ts';
import { constant, type Expr } from '../expressions/expr.ts';
import type { Dim } from '../graph/ir.ts';
import type { Context } from './rules.ts';
import { positiveAxis, reshapeLike } from './shapes.ts';

type Gradients = readonly (Expr | null)[];

/** Said where an operator is known but this use of it is not: nothing is skipped in silence. */
export function unsupported(c: Context, what: string): InputError {
  return new InputError({
    code: 'autodiff.unsupported-use',
    subject: `${c.node.title}: ${what}`,
    remedy: 'extend its rule in engine/autodiff/rules.ts',
  });
}

const last = (dims: readonly Dim[], back = 1): number => {
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

/** y = x^p: p x^(p-1); y log x for the exponent. */
export function pow(c: Context): Gradients {
  const { dy, x: [x, p], y: [y] } = c; // biome-ignore format: one line reads better
  const exponent = c.constant(1);
  if (exponent?.length === 1) {
    const e = exponent[0];
    const slope = e === 2 ? x.mul(2) : e === 3 ? x.square().mul(3) : x.pow(e - 1).mul(e);
    return [dy.mul(slope), null];
  }
  // x^p log x tends to 0 at x = 0 for p > 0, where the product of the two factors would be NaN.
  const byExponent = c.wants(1) ? x.greater(0).where(dy.mul(y).mul(x.greater(0).where(x, 1).log()), 0) : null;
  return [dy.mul(p).mul(x.pow(p.sub(1))), byExponent];
}

/** What falls to `a` in max or min: 1 where it wins, half where both are equal, as PyTorch splits it. */
export function share(a: Expr, b: Expr | undefined, wins: 'Greater' | 'Less'): Expr {
  if (!b) return a.sub(a).add(1);
  return a.op(wins, [b]).float().add(a.equal(b).float().mul(0.5));
}

/** min(max(x, low), high): 1 inside, bounds included. */
export function clip(c: Context): Gradients {
  const { dy, x: [x, low, high] } = c; // biome-ignore format: one line reads better
  let inside = dy;
  if (low) inside = x.op('GreaterOrEqual', [low]).where(inside, 0);
  if (high) inside = x.op('LessOrEqual', [high]).where(inside, 0);
  return [inside, null, null];
}

/** Each input has its stretch of dy. */
export function concat(c: Context): Gradients {
  const axis = positiveAxis(c.node.int('axis', 0), c.dims(c.y[0]).length);
  const sizes = c.x.map((x) => c.dims(x)[axis]);
  const split = sizes.every((s) => typeof s === 'number')
    ? constant(c.dy.graph, 'int64', [sizes.length], sizes as number[])
    : c.x[0].op('Shape', [], { start: axis, end: axis + 1 }).concat(
        c.x.slice(1).map((x) => x.op('Shape', [], { start: axis, end: axis + 1 })),
        0,
      );
  return c.dy.ops('Split', [split], c.x.length, { axis });
}

/** Outputs that nobody reads count as zeros. */
export function split(c: Context): Gradients {
  const parts = c.dys.map((d, i) => d ?? c.y[i].mul(0));
  return [parts[0].concat(parts.slice(1), c.node.int('axis', 0)), null];
}

/** Outside training it is the identity; in training the mask and its scale are the second output's. */
export function dropout(c: Context): Gradients {
  const [, ratio, training] = c.x;
  if (!training || c.constant(2)?.[0] === 0) return [c.dy, null, null];
  const mask = c.outputs(2)[1];
  return [c.dy.mul(mask.float()).div((ratio ?? c.dy.number(0.5)).from(1)), null, null];
}

/** Back into the input's shape: Reshape, Flatten, Squeeze and Unsqueeze move nothing. */
export const reshapeBack = (c: Context): Expr => reshapeLike(c.dy, c.dims(c.y[0]), c.dims(c.x[0]), c.x[0]);

/** Axes of a reduction as positive numbers; all where none are given. */
function reducedAxes(c: Context): number[] {
  const rank = c.dims(c.x[0]).length;
  const axes = c.x[1] ? c.constant(1) : c.node.ints('axes');
  if (c.x[1] && !axes) throw unsupported(c, 'its axes are not constant');
  return (axes?.length ? [...axes] : Array.from({ length: rank }, (_, i) => i)).map((a) => positiveAxis(a, rank));
}

/** A reduced value over the input's shape again. */
export function spread(c: Context, reduced: Expr): Expr {
  const dims = c.dims(c.x[0]);
  const kept = c.node.int('keepdims', 1) ? reduced : reduced.unsqueeze(...reducedAxes(c).sort((a, b) => a - b));
  const target = dims.every((d) => typeof d === 'number')
    ? constant(reduced.graph, 'int64', [dims.length], dims as number[])
    : c.x[0].shape();
  return kept.expandTo(target);
}

/** How many elements each mean is over. */
export function reducedCount(c: Context): Expr {
  const dims = c.dims(c.x[0]);
  const axes = reducedAxes(c);
  if (axes.every((a) => typeof dims[a] === 'number'))
    return c.dy.number(axes.reduce((n, a) => n * (dims[a] as number), 1));
  const sizes = c.x[0].shape().gather(constant(c.dy.graph, 'int64', [axes.length], axes));
  return sizes.op('ReduceProd', [], { keepdims: 0 }).float();
}

/** The extreme elements share dy evenly, as PyTorch's amax and amin do. */
export function reduceExtreme(c: Context): Gradients {
  const hit = c.x[0].equal(spread(c, c.y[0])).float();
  const axes = constant(c.dy.graph, 'int64', [reducedAxes(c).length], reducedAxes(c));
  const count = hit.op('ReduceSum', [axes], { keepdims: 1 });
  return [hit.div(count).mul(spread(c, c.dy)), null];
}

/** y (dy - sum(y dy)). */
export function softmax(c: Context): Gradients {
  const { dy, y: [y], node } = c; // biome-ignore format: one line reads better
  const axis = node.int('axis', -1);
  return [y.mul(dy.sub(y.mul(dy).sum([axis], true)))];
}

/** With n = (x - mean) / std and g = dy scale: (g - mean(g) - n mean(n g)) / std; sum(dy n) and sum(dy) for scale and bias. */
export function layerNormalization(c: Context): Gradients {
  const { dy, x: [x, scale, bias] } = c; // biome-ignore format: one line reads better
  const rank = c.dims(x).length;
  const axis = positiveAxis(c.node.int('axis', -1), rank);
  const normed = Array.from({ length: rank - axis }, (_, i) => axis + i);
  const outer = Array.from({ length: axis }, (_, i) => i);
  const [, mean, inverseStd] = c.outputs(3);
  const n = x.sub(mean).mul(inverseStd);
  const dyn = dy.mul(n);
  const g = dy.mul(scale);
  const dx = g
    .sub(g.mean(normed, true))
    .sub(n.mul(dyn.mul(scale).mean(normed, true)))
    .mul(inverseStd);
  const down = (e: Expr): Expr => (outer.length ? e.sum(outer) : e);
  return [dx, down(dyn), bias ? down(dy) : null];
}

/** erf: Phi(x) + x phi(x). tanh: with u = sqrt(2/pi)(x + 0.044715 x^3), (1 + tanh u)/2 + x (1 - tanh^2 u) u'/2. */
export function gelu(c: Context): Gradients {
  const { dy, x: [x], node } = c; // biome-ignore format: one line reads better
  if (node.string('approximate', 'none') === 'tanh') {
    const k = Math.sqrt(2 / Math.PI);
    const square = x.square();
    const t = x.mul(square.mul(0.044715).add(1).mul(k)).tanh();
    const slope = square
      .mul(3 * 0.044715)
      .add(1)
      .mul(k);
    return [
      dy.mul(
        t
          .add(1)
          .mul(0.5)
          .add(x.mul(t.square().from(1)).mul(slope).mul(0.5)),
      ),
    ];
  }
  const cumulative = x.mul(Math.SQRT1_2).op('Erf').mul(0.5).add(0.5);
  const density = x
    .square()
    .mul(-0.5)
    .exp()
    .mul(1 / Math.sqrt(2 * Math.PI));
  return [dy.mul(cumulative.add(x.mul(density)))];
}

/** dA = dY B^T, dB = A^T dY; a matrix on the right is one product over all leading dimensions. */
export function matmul(c: Context): Gradients {
  const { dy, x: [a, b] } = c; // biome-ignore format: one line reads better
  const [da, db] = [c.dims(a), c.dims(b)];
  if (da.length === 1 || db.length === 1) return vectorMatmul(c);
  const swap = (e: Expr, rank: number): Expr =>
    e.transpose(...Array.from({ length: rank - 2 }, (_, i) => i), rank - 1, rank - 2);
  if (db.length === 2 && da.length > 2) {
    const [k, n] = [last(db, 2), last(db)];
    const flat = dy.reshape(-1, n);
    const ga = reshapeLike(flat.op('Gemm', [b], { transB: 1 }), [], da, a);
    return [ga, c.wants(1) ? a.reshape(-1, k).op('Gemm', [flat], { transA: 1 }) : null];
  }
  if (da.length === 2 && db.length === 2) return [dy.op('Gemm', [b], { transB: 1 }), a.op('Gemm', [dy], { transA: 1 })];
  return [dy.matmul(swap(b, db.length)), swap(a, da.length).matmul(dy)];
}

/** [k] x [k, n], [m, k] x [k] and [k] x [k], which drop a dimension. */
function vectorMatmul({ dy, x: [a, b], dims }: Context): Gradients {
  const [ra, rb] = [dims(a).length, dims(b).length];
  if (ra === 1 && rb === 1) return [dy.mul(b), dy.mul(a)];
  if (ra > 2 || rb > 2) throw new Error('a vector times a stack of matrices has no rule');
  if (ra === 1) return [b.matmul(dy), a.unsqueeze(1).mul(dy.unsqueeze(0))];
  return [dy.unsqueeze(1).mul(b.unsqueeze(0)), a.transpose(1, 0).matmul(dy)];
}

/** The shape in which MatMul's gradient for input `k` comes, before the walk sums broadcast batch dimensions. */
export function matmulGradientDims(k: number, a: readonly Dim[], b: readonly Dim[], y: readonly Dim[]): readonly Dim[] {
  const input = k === 0 ? a : b;
  if (a.length === 1 || b.length === 1 || b.length === 2) return input;
  return [...y.slice(0, -2), ...input.slice(-2)];
}

/** Y = alpha A' B' + beta C. */
export function gemm(c: Context): Gradients {
  const { x: [a, b, bias], node } = c; // biome-ignore format: one line reads better
  const [ta, tb] = [node.int('transA', 0), node.int('transB', 0)];
  const alpha = node.float('alpha', 1);
  const beta = node.float('beta', 1);
  const dy = alpha === 1 ? c.dy : c.dy.mul(alpha);
  const da = ta ? b.op('Gemm', [dy], { transA: tb, transB: 1 }) : dy.op('Gemm', [b], { transB: 1 - tb });
  const db = tb ? dy.op('Gemm', [a], { transA: 1, transB: ta }) : a.op('Gemm', [dy], { transA: 1 - ta });
  const dc = bias ? (beta === 1 ? c.dy : c.dy.mul(beta)) : null;
  return [da, db, dc];
}

/**
 * Rows picked by index: what came out goes back to its row, added up where a row was picked twice.
 * A single index along any axis is a product with a one-hot mask.
 */
export function gather(c: Context): Gradients {
  const { dy, x: [table, indices], node } = c; // biome-ignore format: one line reads better
  const dims = c.dims(table);
  const axis = positiveAxis(node.int('axis', 0), dims.length);
  const indexRank = c.dims(indices).length;
  const size =
    typeof dims[axis] === 'number'
      ? constant(dy.graph, 'int64', [1], [dims[axis]])
      : table.op('Shape', [], { start: axis, end: axis + 1 });
  if (indexRank === 0) {
    const hot = oneHot(indices.unsqueeze(0), size).reshape(...dims.map((_, i) => (i === axis ? -1 : 1)));
    return [dy.unsqueeze(axis).mul(hot), null];
  }
  const rank = dims.length;
  const others = Array.from({ length: rank }, (_, i) => i).filter((i) => i !== axis);
  // [.., indices.., ..] -> [indices.., rest..] -> [n, rest], then onto the rows and the axis back to its place.
  const outRank = rank - 1 + indexRank;
  const front = [
    ...Array.from({ length: indexRank }, (_, i) => axis + i),
    ...Array.from({ length: outRank }, (_, i) => i).filter((i) => i < axis || i >= axis + indexRank),
  ];
  const moved = axis === 0 ? dy : dy.transpose(...front);
  const restDims = others.map((i) => dims[i]);
  const flatIndex = indices.reshape(-1);
  if (restDims.every((d) => typeof d === 'number')) {
    const width = restDims.reduce((n: number, d) => n * (d as number), 1);
    // rows: one-hot^T [size, n] x [n, width]; exact, and parallel where a scatter is not
    const rows = oneHot(flatIndex, size).op('Gemm', [moved.reshape(-1, width)], { transA: 1 });
    const shaped = rows.reshape(-1, ...(restDims as number[]));
    return [axis === 0 ? shaped : shaped.transpose(...inverse([axis, ...others])), null];
  }
  const permuted = axis === 0 ? zeros(table, dims) : zeros(table, dims).transpose(axis, ...others);
  const merged =
    indexRank === 1 ? moved : moved.reshapeTo(dy.ints(-1).concat([moved.op('Shape', [], { start: indexRank })], 0));
  const scattered = permuted.op('ScatterND', [flatIndex.unsqueeze(-1), merged], { reduction: 'add' });
  return [axis === 0 ? scattered : scattered.transpose(...inverse([axis, ...others])), null];
}

/** [n] indices -> [n, size] rows with a single 1; negative indices count from the end. By comparison: OneHot has no float64. */
function oneHot(indices: Expr, size: Expr): Expr {
  const places = constantInt(indices, 0).op('Range', [size.squeeze(0), constantInt(indices, 1)]);
  return indices.cast('int64').add(size).op('Mod', [size]).unsqueeze(-1).equal(places).float();
}

export function gatherND(c: Context): Gradients {
  if (c.node.int('batch_dims', 0)) throw unsupported(c, 'batch_dims has no rule');
  const [x, indices] = c.x;
  return [zeros(x, c.dims(x)).op('ScatterND', [indices, c.dy], { reduction: 'add' }), null];
}

/** Zeros around the slice: where it begins and ends is read off the same slice of 0, 1, 2, ... */
export function slice(c: Context): Gradients {
  const { dy, x: [x, starts, ends] } = c; // biome-ignore format: one line reads better
  const dims = c.dims(x);
  const axes =
    (c.x[3]
      ? c.constant(3)
      : c.dims(starts)[0] === undefined
        ? undefined
        : Array.from({ length: last(c.dims(starts)) }, (_, i) => i)) ?? [];
  if (!axes.length) throw unsupported(c, 'its axes are not constant');
  const steps = c.x[4] ? c.constant(4) : axes.map(() => 1);
  if (!steps) throw unsupported(c, 'its steps are not constant');
  let out = dy;
  axes.forEach((given, i) => {
    const axis = positiveAxis(given, dims.length);
    const size = dims[axis];
    const length =
      typeof size === 'number'
        ? dy.ints(size).squeeze(0)
        : x.op('Shape', [], { start: axis, end: axis + 1 }).squeeze(0);
    const zero = constant(dy.graph, 'int64', [], [0]);
    const one = constant(dy.graph, 'int64', [], [1]);
    const places = zero.op('Range', [length, one]);
    const at = (e: Expr): Expr => (axes.length === 1 ? e : e.gather(constant(dy.graph, 'int64', [1], [i])));
    const zeroAxis = constant(dy.graph, 'int64', [1], [0]);
    const picked = places.op('Slice', [at(starts), at(ends), zeroAxis, constant(dy.graph, 'int64', [1], [steps[i]])]);
    if (steps[i] === 1) {
      const before = picked.gather(constant(dy.graph, 'int64', [1], [0]));
      const after = length.sub(constantInt(dy, 1)).sub(picked.gather(constant(dy.graph, 'int64', [1], [-1])));
      out = out.op('Pad', [before.concat([after], 0), null, constant(dy.graph, 'int64', [1], [axis])]);
    } else {
      const front = [axis, ...dims.map((_, d) => d).filter((d) => d !== axis)];
      const moved = axis === 0 ? out : out.transpose(...front);
      const shape = length.unsqueeze(0).concat([moved.op('Shape', [], { start: 1 })], 0);
      const blank = zeros(shapedAs(moved, shape), ['?']);
      const filled = blank.op('ScatterND', [picked.unsqueeze(-1), moved], { reduction: 'add' });
      out = axis === 0 ? filled : filled.transpose(...inverse(front));
    }
  });
  return [out, ...c.x.slice(1).map(() => null)];
}

const constantInt = (e: Expr, value: number): Expr => constant(e.graph, 'int64', [], [value]);

/** Something whose shape is `shape`, for zeros(). */
const shapedAs = (e: Expr, shape: Expr): Expr => e.number(0).expandTo(shape);

/** The middle of dy. */
export function pad(c: Context): Gradients {
  if (c.node.string('mode', 'constant') !== 'constant') throw unsupported(c, 'only constant padding has a rule');
  const [x, pads] = c.x;
  const rank = c.dims(x).length;
  const axes = c.x[3] ? c.constant(3) : Array.from({ length: rank }, (_, i) => i);
  if (!axes) throw unsupported(c, 'its axes are not constant');
  const n = axes.length;
  const begins = pads.slice(0, n, 0);
  const where = constant(
    c.dy.graph,
    'int64',
    [n],
    axes.map((a) => positiveAxis(a, rank)),
  );
  const ends = begins.add(x.shape().gather(where));
  return [c.dy.op('Slice', [begins, ends, where]), ...c.x.slice(1).map(() => null)];
}

/** Repeats are summed: dims [r0, d0, r1, d1, ...]. */
export function tile(c: Context): Gradients {
  const repeats = c.constant(1);
  const dims = c.dims(c.x[0]);
  if (!repeats) throw unsupported(c, 'its repeats are not constant');
  if (dims.filter((d) => typeof d !== 'number').length > 1) throw unsupported(c, 'more than one dynamic dimension');
  const folded = repeats.flatMap((r, i) => [r, typeof dims[i] === 'number' ? (dims[i] as number) : -1]);
  return [c.dy.reshape(...folded).sum(repeats.map((_, i) => 2 * i)), null];
}

/** Each operand's gradient is an einsum of dy with the others; a letter that an operand alone has cannot be summed back. */
export function einsum(c: Context): Gradients {
  const equation = c.node.string('equation', '').replaceAll(' ', '');
  const [left, right] = equation.split('->');
  const terms = left.split(',');
  if (right === undefined || equation.includes('.'))
    throw unsupported(c, `equation '${equation}' has no explicit output or an ellipsis`);
  return terms.map((term, i) => {
    const others = terms.flatMap((t, j) => (j === i ? [] : [{ term: t, x: c.x[j] }]));
    const reachable = right + others.map((o) => o.term).join('');
    if ([...term].some((l) => !reachable.includes(l)) || new Set(term).size < term.length)
      throw unsupported(c, `equation '${equation}' sums or repeats an index within one operand`);
    const inputs = [right, ...others.map((o) => o.term)].join(',');
    return c.dy.op(
      'Einsum',
      others.map((o) => o.x),
      { equation: `${inputs}->${term}` },
    );
  });
}
