/** @file Lion: the sign of an interpolated momentum. */
import type { Optimizer, OptimizerSettings } from './optimizer.ts';

/**
 *     p <- (1 - lr decay) p - lr sign(b1 m + (1 - b1) g),  m <- b2 m + (1 - b2) g
 *
 * Every weight moves by the learning rate: use a third to a tenth of AdamW's, with a weight decay larger by the same factor.
 *
 * @source Chen et al. 2023 (arXiv 2302.06675)
 */
export function lion({ betas: [b1, b2] = [0.9, 0.99] }: OptimizerSettings = {}): Optimizer {
  return {
    name: 'lion',
    rateAdvice: "a third to a tenth of AdamW's (e.g. 4e-5)",
    state: () => ({ momentum: 'zeros' }),
    elementwise: () => true,
    factors: (_, learningRate) => ({ rate: learningRate }),
    update(_, { weights, gradient: g, state: { momentum: m }, factors: { rate }, keep }) {
      const direction = m
        .mul(b1)
        .add(g.mul(1 - b1))
        .sign();
      return {
        weights: weights.mul(keep).sub(direction.mul(rate)),
        state: { momentum: m.mul(b2).add(g.mul(1 - b2)) },
      };
    },
  };
}
