/** @file Gradient rules of softmax, normalisation and GELU, the ones that a step spends its time in; the derivative stands above each. */
import type { Expr } from '../expressions/expr.ts';
import type { Context, Gradients } from './rule.ts';
import { positiveAxis } from './shapes.ts';

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
