/** @file AdamW as a rule; its CPU back end is adamw-host.ts. */
import type { Optimizer, OptimizerSettings } from './optimizer.ts';

export const BETAS = [0.9, 0.999] as const;
export const EPS = 1e-8;
export const WEIGHT_DECAY = 0.01;

/**
 * Adam with decoupled weight decay, in float32:
 *
 *     m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2
 *     p <- (1 - lr decay) p - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * @source Loshchilov and Hutter 2019 (arXiv 1711.05101); figures equal torch.optim.AdamW's
 */
export function adamW({ betas: [b1, b2] = BETAS, eps = EPS }: OptimizerSettings = {}): Optimizer {
  return {
    name: 'adamw',
    state: () => ({ first: 'zeros', second: 'zeros' }),
    elementwise: () => true,
    factors: (step, learningRate) => ({
      rate: learningRate / (1 - b1 ** step),
      correction: Math.sqrt(1 - b2 ** step),
    }),
    update(_, { weights, gradient: g, state, factors: { rate, correction }, keep }) {
      const first = state.first.mul(b1).add(g.mul(1 - b1));
      const second = state.second.mul(b2).add(g.mul(g).mul(1 - b2));
      const moved = weights.mul(keep).sub(rate.mul(first).div(second.sqrt().div(correction).add(eps)));
      return { weights: moved, state: { first, second } };
    },
  };
}
