/**
 * @file Gradient rules of matrix products.
 *
 * On WebGPU a MatMul of sides as they lie makes 23 TFLOP/s where Gemm with `transB` makes 6.7 and with `transA` 7.6 to 18 (one H200,
 * 109,440 rows of 384 and 1,536): there sides are transposed before, always the smaller one, and a product over all rows is made in
 * parts, whose sum is small, since a matrix of weights has too few tiles to fill a card.
 */
import { Expr } from '../expressions/expr.ts';
import { type Dim, float, type Value } from '../graph/ir.ts';
import { type Context, fuses, type Gradients, last, sizeAt, unsupported } from './rule.ts';
import { positiveAxis, reshapeLike } from './shapes.ts';

/** dA = dY B^T, dB = A^T dY; a matrix on the right is one product over all leading dimensions. */
export function matmul(c: Context): Gradients {
  const { dy, x: [a, b] } = c; // biome-ignore format: one line reads better
  const [da, db] = [c.dims(a), c.dims(b)];
  if (da.length === 1 || db.length === 1) return vectorMatmul(c);
  if (db.length === 2 && da.length > 2) {
    const [k, n] = [last(db, 2), last(db)];
    if (c.forms === 'webgpu')
      return [dy.matmul(swap(b, 2)), c.needsGradient(1) ? overRows(c, a, dy, { k, n, lead: da.slice(0, -1) }) : null];
    const flat = dy.reshape(-1, n);
    b.value.dims ??= db;
    const ga = fuses(c.forms)
      ? fusedMatMul(dy, b, { transB: 1 })
      : reshapeLike(flat.op('Gemm', [b], { transB: 1 }), [], da, a);
    // Of products of one x, as those of queries, keys and values, once.
    const rows = (): Expr => c.once(`rows of ${a.value.name}`, () => a.reshape(-1, k));
    return [ga, c.needsGradient(1) ? rows().op('Gemm', [flat], { transA: 1 }) : null];
  }
  if (da.length === 2 && db.length === 2) return [dy.op('Gemm', [b], { transB: 1 }), a.op('Gemm', [dy], { transA: 1 })];
  if (fuses(c.forms) && String(da.slice(0, -2)) === String(db.slice(0, -2)))
    return [fusedMatMul(dy, b, { transB: 1 }), fusedMatMul(a, dy, { transA: 1 })];
  const rank = Math.max(da.length, db.length);
  const ga = dy.matmul(swap(b, db.length));
  // Of attention's probabilities and a gradient as wide as a head, the gradient is the one to transpose.
  if (c.forms === 'webgpu' && typeof da[da.length - 1] !== 'number' && typeof db[db.length - 1] === 'number')
    return [ga, swap(swap(dy, rank).matmul(a), rank)];
  return [ga, swap(a, da.length).matmul(dy)];
}

/** With the last two axes exchanged; what was exchanged before is as it was. */
const swap = (e: Expr, rank: number): Expr => {
  const before = exchanged(e.value);
  return before
    ? new Expr(e.graph, before)
    : e.transpose(...Array.from({ length: rank - 2 }, (_, i) => i), rank - 1, rank - 2);
};

/** What a value is with its last two axes exchanged. */
export function exchanged(v: Value | null | undefined): Value | undefined {
  const node = v?.producer;
  if (node?.op !== 'Transpose') return undefined;
  const perm = node.ints('perm') ?? [];
  const last = perm.length - 1;
  const exchanges = perm.every((axis, i) => axis === (i === last ? last - 1 : i === last - 1 ? last : i));
  return perm.length > 1 && exchanges ? (node.inputs[0] ?? undefined) : undefined;
}

/** Tiles of 32 x 32 that keep a card's processors at work. */
const TILES = 4096;
const MOST_PARTS = 32;

/**
 * a^T dy over all leading dimensions, in parts that are added: [.., k] and [.., n] to [k, n].
 * @param lead the leading dimensions of both
 */
export function overRows(
  c: Context,
  a: Expr,
  dy: Expr,
  { k, n, lead }: { k: number; n: number; lead: readonly Dim[] },
): Expr {
  const tiles = Math.ceil(k / 32) * Math.ceil(n / 32);
  const wanted = Math.min(MOST_PARTS, Math.max(4, 2 ** Math.ceil(Math.log2(TILES / tiles))));
  const parts = c.once(`${wanted} parts of ${lead}`, () => partsOfRows(a, lead.length, wanted));
  const cut = (x: Expr, width: number): Expr => x.op('Reshape', [parts.concat([x.ints(width)], 0)], { allowzero: 1 });
  const sum = (products: Expr, rows: number, columns: number): Expr => products.sum([0], true).reshape(rows, columns);
  // The narrower side is transposed, and the product too where that is the gradient. Products of one x share its transpose.
  if (k <= n) {
    const turned = c.once(`${wanted} parts of ${a.value.name}, transposed`, () => swap(cut(a, k), 3));
    return sum(turned.matmul(cut(dy, n)), k, n);
  }
  return swap(sum(swap(cut(dy, n), 3).matmul(cut(a, k)), n, k), 2);
}

/**
 * Number of parts and rows of each, int64 [2]: as many as the largest power of two, `most` at most, that divides all rows. Of no rows,
 * as an expert without tokens has, no part: a product of parts without rows ends the process on WebGPU, and is left unwritten on a CPU.
 */
function partsOfRows(x: Expr, leading: number, most: number): Expr {
  const rows = x.op('Shape', [], { start: 0, end: leading }).op('ReduceProd', [], { keepdims: 1 });
  const power = commonPowerOfTwo(rows, most);
  return rows.op('Min', [power]).concat([rows.op('Div', [power])], 0);
}

/** The largest power of two, `most` at most, that divides a number: int64 [1]. */
function commonPowerOfTwo(rows: Expr, most: number): Expr {
  let power = rows.ints(1);
  for (let p = 2; p <= most; p *= 2) {
    // Not by comparison, whose result a device would cast.
    const rest = rows.op('Mod', [rows.ints(p)]).op('Min', [rows.ints(1)]);
    power = power.add(
      rows
        .ints(1)
        .sub(rest)
        .mul(rows.ints(p / 2)),
    );
  }
  return power;
}

/** A product that transposes its operands' last two axes as it reads them. */
export const fusedMatMul = (
  a: Expr,
  b: Expr,
  { transA = 0, transB = 0, alpha = 1 }: { transA?: number; transB?: number; alpha?: number },
): Expr =>
  new Expr(
    a.graph,
    a.graph.add(
      'FusedMatMul',
      [a.value, b.value],
      { transA, transB, alpha: float(alpha) },
      { domain: 'com.microsoft' },
    ),
  );

/** Y = alpha A' B' with equal batch dimensions, or with a matrix on the right. */
export function fusedProduct(c: Context): Gradients {
  const { dy, x: [a, b], node } = c; // biome-ignore format: one line reads better
  const [ta, tb, alpha] = [node.int('transA', 0), node.int('transB', 0), node.float('alpha', 1)];
  const [left, right] = [c.dims(a), c.dims(b)];
  if (right.length === 2 && left.length > 2 && !ta) {
    b.value.dims ??= right;
    const [rows, flat] = [a.reshape(-1, last(left)), dy.reshape(-1, last(c.dims(c.y[0])))];
    const [one, other] = tb ? [flat, rows] : [rows, flat];
    const db = c.needsGradient(1) ? one.op('Gemm', [other], { transA: 1, alpha: float(alpha) }) : null;
    return [fusedMatMul(dy, b, { transB: 1 - tb, alpha }), db];
  }
  const da = ta ? fusedMatMul(b, dy, { transA: tb, transB: 1, alpha }) : fusedMatMul(dy, b, { transB: 1 - tb, alpha });
  const db = tb ? fusedMatMul(dy, a, { transA: 1, transB: ta, alpha }) : fusedMatMul(a, dy, { transA: 1 - ta, alpha });
  return [da, db];
}

/**
 * A vector on either side, whose dimension the product drops: written as elementwise products and sums, with batch dimensions.
 */
function vectorMatmul({ dy, x: [a, b], dims }: Context): Gradients {
  const [ra, rb] = [dims(a).length, dims(b).length];
  const others = (rank: number, kept: number): number[] => Array.from({ length: rank }, (_, i) => i).filter((i) => i !== kept); // biome-ignore format: one line reads better
  if (ra === 1 && rb === 1) return [dy.mul(b), dy.mul(a)];
  if (rb === 1) return [dy.unsqueeze(-1).mul(b), a.mul(dy.unsqueeze(-1)).sum(others(ra, ra - 1))];
  return [b.mul(dy.unsqueeze(-2)).sum(others(rb, rb - 2)), a.unsqueeze(1).mul(dy.unsqueeze(-2))];
}

/** The shape of MatMul's gradient for input `k`, before broadcast batch dimensions are summed. */
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
 * Each operand's gradient is an einsum of dy with the others; a letter that occurs in one operand only was summed out, so that
 * the gradient is constant along that axis.
 */
export function einsum(c: Context): Gradients {
  const { terms, output } = parseEquation(c);
  return terms.map((term, i) => {
    const others = terms.flatMap((t, j) => (j === i ? [] : [{ term: t, x: c.x[j] }]));
    const reachable = output + others.map((o) => o.term).join('');
    const kept = [...term].filter((l) => reachable.includes(l)).join('');
    const equation = `${[output, ...others.map((o) => o.term)].join(',')}->${kept}`;
    const gradient = c.dy.op('Einsum', others.map((o) => o.x), { equation }); // biome-ignore format: one line reads better
    if (kept === term) return gradient;
    const lost = [...term].flatMap((l, axis) => (kept.includes(l) ? [] : [axis]));
    return gradient.unsqueeze(...lost).expandTo(c.x[i].shape());
  });
}

/**
 * F is linear: its adjoint is the opposite transform, times n for forward and 1 / n for inverse, since ONNX scales only the
 * inverse. Real inputs get the real part.
 */
export function fourier(c: Context): Gradients {
  const { dy, x: [x, length, axis], node } = c; // biome-ignore format: one line reads better
  const dims = c.dims(x);
  const at = c.constant(2)?.[0];
  if (node.int('onesided', 0)) throw unsupported(c, 'one-sided transforms have no rule');
  if (length || at === undefined)
    throw unsupported(c, 'an explicit length, or an axis that is not constant, has no rule');
  const inverse = node.int('inverse', 0);
  const back = dy.op('DFT', [null, axis], { inverse: 1 - inverse });
  const n = sizeAt(x, dims, positiveAxis(at, dims.length)).float();
  const scaled = inverse ? back.div(n) : back.mul(n);
  return [last(dims) === 1 ? scaled.slice(0, 1, -1) : scaled, null, null];
}

/** The letters of the operands and of the output; an ellipsis is expanded to unused capital letters. */
function parseEquation(c: Context): { terms: string[]; output: string } {
  const equation = c.node.string('equation', '').replaceAll(' ', '');
  const [left, right] = equation.split('->');
  const ranks = c.x.map((x) => c.dims(x).length);
  const spare = [...'ZYXWVUTSRQPONMLKJIHGFEDCBA'].filter((l) => !equation.includes(l));
  const written = left.split(',');
  const widths = written.map((t, i) => (t.includes('...') ? ranks[i] - (t.length - 3) : 0));
  const most = Math.max(...widths);
  const ellipsis = (width: number): string => spare.slice(0, most).reverse().slice(most - width).join(''); // biome-ignore format: one line reads better
  const terms = written.map((t, i) => t.replace('...', ellipsis(widths[i])));
  const letters = terms.join('');
  const implicit = [...new Set(letters)].filter((l) => letters.split(l).length === 2 && !ellipsis(most).includes(l));
  const output = right === undefined ? ellipsis(most) + implicit.sort().join('') : right.replace('...', ellipsis(most));
  if (terms.some((t) => new Set(t).size < t.length))
    throw unsupported(c, `equation '${equation}' repeats an index within one operand`);
  if (widths.some((w, i) => written[i].includes('...') && w !== most))
    throw unsupported(c, `equation '${equation}' broadcasts its ellipsis`);
  return { terms, output };
}
