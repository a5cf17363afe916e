/** @file Longer gradient rules of arithmetic operators, each with its derivative as comment. */
import type { Expr } from '../expressions/expr.ts';
import { type Context, type Gradients, unsupported } from './rule.ts';

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
  const byExponent = c.needsGradient(1) ? x.greater(0).where(dy.mul(y).mul(x.greater(0).where(x, 1).log()), 0) : null;
  return [dy.mul(p).mul(x.pow(p.sub(1))), byExponent];
}

/** The larger (or smaller) of two gets dy; at ties each gets half, as in PyTorch. */
export function extreme(c: Context, wins: 'Greater' | 'Less'): Gradients {
  const { dy, x: [a, b] } = c; // biome-ignore format: one line reads better
  if (c.x.length === 1) return [dy];
  if (c.x.length > 2) throw unsupported(c, 'more than two inputs have no rule');
  const half = dy.mul(a.equal(b).float().mul(0.5));
  const share = (x: Expr, other: Expr): Expr => x.op(wins, [other]).where(dy, 0).add(half);
  return [share(a, b), share(b, a)];
}

/** min(max(x, low), high): 1 inside, bounds included. */
export function clip(c: Context): Gradients {
  const { dy, x: [x, low, high] } = c; // biome-ignore format: one line reads better
  let inside = dy;
  if (low) inside = x.op('GreaterOrEqual', [low]).where(inside, 0);
  if (high) inside = x.op('LessOrEqual', [high]).where(inside, 0);
  return [inside, null, null];
}

/** The identity outside training; in training the second output is the mask, and the ratio gives the scale. */
export function dropout(c: Context): Gradients {
  const [, ratio, training] = c.x;
  if (!training || c.constant(2)?.[0] === 0) return [c.dy, null, null];
  const mask = c.outputs(2)[1];
  return [c.dy.mul(mask.float()).div((ratio ?? c.dy.number(0.5)).rsub(1)), null, null];
}
