/**
 * @file Gradient rules of softmax, normalisation and GELU, which take much of a step's time; each with its derivative as comment.
 */
import { constant, Expr } from '../expressions/expr.ts';
import { float, type Node, type Value } from '../graph/ir.ts';
import { type Context, fuses, type Gradients } from './rule.ts';
import { exchanged, fusedMatMul } from './rules-product.ts';
import { positiveAxis } from './shapes.ts';

/** y (dy - sum(y dy)). */
export function softmax(c: Context): Gradients {
  const { dy, node } = c;
  const axis = node.int('axis', -1);
  // A fully masked row is NaN, which exporters replace by zeros: its gradient is zero too.
  const guarded = [...c.y[0].value.readers].some((n) => n.op === 'IsNaN');
  const y = guarded ? c.y[0].op('IsNaN').where(0, c.y[0]) : c.y[0];
  const rank = c.dims(c.y[0]).length;
  const product =
    (fuses(c.forms) || c.forms === 'webgpu') && !guarded && positiveAxis(axis, rank) === rank - 1
      ? productBehind(c)
      : undefined;
  if (product) return [y.mul(centred(c, product))];
  return [y.mul(dy.sub(y.mul(dy).sum([axis], true)))];
}

/** softmax(x + bias), bias [B, 1, 1, S]. */
export function biasSoftmax(c: Context): Gradients {
  const [dx] = softmax(c) as [Expr];
  return [dx, c.needsGradient(1) ? dx.sum([1, 2], true) : null];
}

/** The product that is all that reads a softmax: perhaps behind a factor, as dropout is. */
interface ReadingProduct {
  /** V and y V, with its gradient. */
  v: Expr;
  out: Expr;
  gradient: Expr;
  /** Whether y itself is multiplied. */
  directly: boolean;
}

/** Found by the product that made dy, since nothing else contributes to it. */
function productBehind({ dy, y: [y] }: Context): ReadingProduct | undefined {
  const by = (v: Value | null | undefined, op: string): Node | undefined =>
    v?.producer?.op === op ? v.producer : undefined;
  const factored = by(dy.value, 'Mul');
  const multiplied = (v: Value | null | undefined): Node | undefined => by(v, 'FusedMatMul') ?? by(v, 'MatMul');
  const node = multiplied(dy.value) ?? multiplied(factored?.inputs[0]);
  const [gradient, right] = node?.inputs ?? [];
  const v = node?.op === 'MatMul' ? exchanged(right) : right;
  if (!node || !gradient || !v) return undefined;
  if (node.op === 'FusedMatMul' && (node.int('transB', 0) !== 1 || node.int('transA', 0) !== 0)) return undefined;
  if (node.float('alpha', 1) !== 1) return undefined;
  // With the very factor: another product of y and V, to which no gradient flows, may have its own.
  const factor = factored?.inputs[1];
  const isFactored = (inputs: readonly (Value | null)[] = []): boolean =>
    (inputs[0] === y.value && inputs[1] === factor) || (inputs[1] === y.value && inputs[0] === factor);
  const reads = (n: Node): boolean =>
    n !== node &&
    (n.op === 'MatMul' || n.op === 'FusedMatMul') &&
    n.inputs[1] === v &&
    (factored ? isFactored(by(n.inputs[0], 'Mul')?.inputs) : n.inputs[0] === y.value);
  const forward = [...v.readers].find(reads);
  if (forward?.float('alpha', 1) !== 1 || forward.int('transA', 0) || forward.int('transB', 0)) return undefined;
  const expr = (value: Value): Expr => new Expr(dy.graph, value);
  return { v: expr(v), out: expr(forward.outputs[0]), gradient: expr(gradient), directly: !factored };
}

/** Columns that take the sum into the product: products of a multiple of eight columns are faster. */
const COLUMNS = 8;

/**
 * dy - sum(y dy), where sum(y dy) = sum(dO O) of the product O = y V: a sum over a head's width and not over all tokens. The product
 * that makes dy subtracts it too: [dO, -sum/8 ..] [V, 1 ..]^T.
 * @source Dao et al. 2022, arXiv 2205.14135, appendix B.2
 */
function centred(c: Context, { v, out, gradient, directly }: ReadingProduct): Expr {
  const dims = c.dims(v);
  const width = dims[dims.length - 1];
  if (!directly || !fuses(c.forms) || typeof width !== 'number') return c.dy.sub(gradient.mul(out).sum([-1], true));
  const fill = (of: number[], value: number): Expr =>
    constant(c.dy.graph, c.dy.graph.float, of, new Float32Array(of.reduce((n, d) => n * d, 1)).fill(value));
  const spreading = c.once(`spreading ${width}`, () => fill([width, COLUMNS], -1 / COLUMNS));
  const ones = c.once(`ones ${dims.slice(0, -1)}`, () =>
    fill([1], 1).expandTo(v.op('Shape', [], { start: 0, end: dims.length - 1 }).concat([v.ints(COLUMNS)], 0)),
  );
  const sums = gradient.mul(out).matmul(spreading);
  const right = v.concat([ones], -1);
  if (dims.length === 2) right.value.dims = [dims[0], width + COLUMNS];
  return fusedMatMul(gradient.concat([sums], -1), right, { transB: 1 });
}

/**
 * With n = (x - mean) / std and g = dy scale: (g - mean(g) - n mean(n g)) / std; sum(dy n) and sum(dy) for scale and bias.
 * n is recomputed by the operator itself, in one pass, and mean(n g) by a product with the scale; on WebGPU, where the operator takes
 * 0.57 ms and a difference or product of such values 0.11 (109,440 rows of 384), from mean and deviation.
 */
export function layerNormalization(c: Context): Gradients {
  const { dy, x: [x, scale, bias], node } = c; // biome-ignore format: one line reads better
  const rank = c.dims(x).length;
  const axis = positiveAxis(node.int('axis', -1), rank);
  const normed = Array.from({ length: rank - axis }, (_, i) => axis + i);
  const outer = Array.from({ length: axis }, (_, i) => i);
  const width = c.dims(x)[rank - 1];
  const g = dy.mul(scale);
  const vector = normed.length === 1 && typeof width === 'number' && c.dims(scale).length === 1;
  const sum = (e: Expr): Expr => (vector ? c.sumRows(e, c.dims(x)) : outer.length ? e.sum(outer) : e);
  if (!vector || c.forms === 'webgpu') {
    const [, mean, inverseStd] = c.outputs(3);
    const n = x.sub(mean).mul(inverseStd);
    const dyn = dy.mul(n);
    const along = n.mul(dyn.mul(scale).mean(normed, true));
    return [g.sub(g.mean(normed, true)).sub(along).mul(inverseStd), sum(dyn), bias ? sum(dy) : null];
  }
  const fill = (value: number): Expr => constant(x.graph, x.graph.float, [width], new Float32Array(width).fill(value));
  const epsilon = { kind: 'float', value: node.float('epsilon', 1e-5) } as const;
  const [n, , inverseStd] = x.ops('LayerNormalization', [fill(1), fill(0)], 3, { axis: -1, epsilon });
  const dyn = dy.mul(n);
  const meanOfProduct = fuses(c.forms)
    ? fusedMatMul(dyn, scale.unsqueeze(-1), { alpha: 1 / width })
    : dyn.matmul(scale.mul(1 / width).unsqueeze(-1)); // [.., 1]
  const centred = c.forms === 'cuda-half' ? centredProduct(c, dy, scale, width) : g.sub(g.mean(normed, true));
  const dx = centred.sub(n.mul(meanOfProduct)).mul(inverseStd);
  return [dx, sum(dyn), bias ? sum(dy) : null];
}

/** g - mean(g) for g = dy scale, in one pass: a product with diag(scale) (I - 1 / width). */
function centredProduct(c: Context, dy: Expr, scale: Expr, width: number): Expr {
  const centring = c.once(`centring ${width}`, () => {
    const matrix = new Float64Array(width * width).fill(-1 / width);
    for (let i = 0; i < width; i++) matrix[i * width + i] += 1;
    return constant(dy.graph, dy.graph.float, [width, width], matrix);
  });
  return dy.matmul(scale.unsqueeze(-1).mul(centring));
}

/**
 * erf: Phi(x) + x phi(x); with s = x / sqrt 2 these are (1 + erf s) / 2 and s exp(-s^2) / sqrt pi.
 * tanh: with u = sqrt(2/pi)(x + 0.044715 x^3), (1 + tanh u)/2 + x (1 - tanh^2 u) u'/2.
 */
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
          .add(x.mul(t.square().rsub(1)).mul(slope).mul(0.5)),
      ),
    ];
  }
  const s = x.mul(Math.SQRT1_2);
  return [dy.mul(geluSlope(s, halfOfOnePlus(s.op('Erf'))))];
}

/** (1 + x) / 2 for x from -1 to 1, as HardSigmoid computes it in one pass, clamped only outside x's range. */
export const HALF_OF_ONE_PLUS = { alpha: float(0.5), beta: float(0.5) };

/** HardSigmoid has no float64 kernel. */
const halfOfOnePlus = (x: Expr): Expr =>
  x.graph.float === 'float64' ? x.mul(0.5).add(0.5) : x.op('HardSigmoid', [], HALF_OF_ONE_PLUS);

/** d x Phi(x) / dx for s = x / sqrt 2 and P = Phi(x): P + s exp(-s^2) / sqrt pi. */
const geluSlope = (s: Expr, part: Expr): Expr =>
  part.add(
    s.mul(
      s
        .square()
        .rsub(-0.5 * Math.log(Math.PI))
        .exp(),
    ),
  );

/** a b. Of s (1 + erf s) / 2, as one factor's gradient: GELU's. */
export function multiplied(c: Context): Gradients {
  const { dy, x: [a, b] } = c; // biome-ignore format: one line reads better
  const half = b.value.producer;
  const isHalf = half?.op === 'HardSigmoid' && half.float('alpha', 0.2) === 0.5 && half.float('beta', 0.5) === 0.5;
  const erf = isHalf ? half.inputs[0]?.producer : undefined;
  // Without gradient, the other factor is a constant.
  if (c.needsGradient(1) && erf?.op === 'Erf' && erf.inputs[0] === a.value) return [dy.mul(geluSlope(a, b)), null];
  return [dy.mul(b), dy.mul(a)];
}
