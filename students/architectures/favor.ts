/** @file FAVOR++: attention in linear time by positive bounded random features of the softmax kernel. */
import { z } from 'zod';
import type { Expr } from '../../engine/expressions/expr.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { Random } from '../../math/random.ts';
import { defineArchitecture, fixed } from './architecture.ts';
import { findAttention } from './attention.ts';
import { instead } from './feed-forward.ts';

/**
 * exp(x . y) = E_w f(w, x) f(w, y) with w ~ N(0, I) and
 *
 *     f(w, x) = (1 - 4A)^(d/4) exp(A |w|^2 + sqrt(1 - 4A) w . x - |x|^2 / 2)
 *
 * so that softmax(q k^T) v is about F(q) (F(k)^T v) / F(q) (F(k)^T 1), linear in the number of tokens. A is the best for a head's
 * queries and keys of a text, of phi = E|x + y|^2 over its pairs, and below 0, where the features are bounded. Factors that do not
 * depend on the key cancel.
 *
 * @source Likhosherstov et al., NeurIPS 2022 (arXiv 2205.15317)
 */
export const favor = defineArchitecture({
  options: { features: z.int().positive().default(64).describe('random features of a head') },
  part: 'attention',
  describe: (o) => `FAVOR++ attention with ${o.features} features`,
  rewrite(place, { features }, random) {
    const { graph, number, mask } = place;
    const { queries, keys, values, output, width: d } = findAttention(place);
    const drawn = orthogonalFeatures(d, features, random);
    const w = fixed(graph, drawn, `random_features.${number}`); // [d, M]
    const shown = mask.float().unsqueeze(1, -1); // [B, 1, L, 1]
    const A = bestA(queries, keys, shown, d); // [B, H, 1, 1]
    const root = A.mul(-4).add(1).sqrt();
    const bounded = w.square().sum([0], true).mul(A); // A |w|^2: [B, H, 1, M]
    const exponent = (x: Expr): Expr => x.matmul(w).mul(root).add(bounded);
    // The largest exponent is taken from all: of a query, of all keys of a head. It cancels.
    const ofQueries = exponent(queries);
    const left = ofQueries.sub(ofQueries.reduceMax([-1], true).stopGradient()).exp();
    const ofKeys = exponent(keys).sub(keys.square().sum([-1], true).mul(0.5));
    const real = shown.greater(0).where(ofKeys, LOWEST);
    const right = real
      .sub(real.reduceMax([-2, -1], true).stopGradient())
      .exp()
      .mul(shown); // [B, H, L, M]
    const turned = right.transpose(0, 1, 3, 2);
    const total = left.matmul(right.sum([2], true).transpose(0, 1, 3, 2)); // [B, H, L, 1]
    const made = left.matmul(turned.matmul(values)).div(total.add(TINY));
    instead(graph, output, made);
    return {};
  },
});

/** An exponent that no feature has, whose exponential is 0. */
const LOWEST = -1e9;
/** Keeps a query whose features all miss those of the keys from dividing by 0. */
const TINY = 1e-20;

/**
 * A* = (1 - 1 / rho) / 8, rho = (sqrt((2 phi + d)^2 + 8 d phi) - 2 phi - d) / (4 phi), for the mean phi of |x + y|^2 over the pairs of
 * a text's queries and keys.
 */
export function bestA(queries: Expr, keys: Expr, shown: Expr, d: number): Expr {
  const count = shown.sum([2], true).max(1);
  const mean = (x: Expr): Expr => x.mul(shown).sum([2], true).div(count); // [B, H, 1, ..]
  const norm = (x: Expr): Expr => mean(x.square().sum([-1], true));
  const phi = norm(queries)
    .add(norm(keys))
    .add(mean(queries).mul(mean(keys)).sum([-1], true).mul(2))
    .max(1e-6);
  const base = phi.mul(2).add(d);
  // sqrt(base^2 + 8 d phi) - base, without the difference of two near numbers.
  const root = base
    .square()
    .add(phi.mul(8 * d))
    .sqrt();
  const rho = phi
    .mul(8 * d)
    .div(root.add(base))
    .div(phi.mul(4));
  return rho
    .reciprocal()
    .rsub(1)
    .mul(1 / 8);
}

/** [d, M] columns of N(0, I), orthogonal in blocks of d, which lowers the variance of the estimate and leaves its mean. */
export function orthogonalFeatures(d: number, M: number, random: Random): Tensor<'float32'> {
  const data = new Float32Array(d * M);
  const draw = (): Float64Array => Float64Array.from({ length: d }, () => random.normal());
  let block: Float64Array[] = [];
  for (let m = 0; m < M; m++) {
    if (block.length === d) block = [];
    const length = Math.hypot(...draw());
    const own = draw();
    for (const other of block) {
      const dot = own.reduce((s, v, i) => s + v * other[i], 0);
      for (let i = 0; i < d; i++) own[i] -= dot * other[i];
    }
    const norm = Math.hypot(...own);
    block.push(own.map((v) => v / norm));
    for (let i = 0; i < d; i++) data[i * M + m] = (length * own[i]) / norm;
  }
  return { dtype: 'float32', dims: [d, M], data };
}
