/** @file Stochastic gradient descent with relative clipping. */
import { WEIGHT_DECAY } from './adamw.ts';
import type { Optimizer, OptimizerSettings } from './optimizer.ts';

/** sqrt(C): how far above its value at equilibrium the ratio of the norms may be. */
const ROOT_C = 2;

/**
 *     p <- (1 - lr decay) p - lr g min(1, sqrt(2 C decay / lr) |theta| / |g|)
 *
 * |theta| and |g| are the norms of all parameters and of the whole gradient. Where the loss does not change when all weights
 * are multiplied by a number, |g| / |theta| comes to sqrt(2 decay / lr) by itself; a step with a larger ratio, by the factor
 * sqrt(C) = 2, is cut. Made for encoders of that property (`student.architecture: { kind: scale-invariant }`); in others the weights of a layer in front of a normalization have it.
 *
 * Learning rates are hundreds of times AdamW's; no state is kept. `clipNorm` cuts before this does.
 *
 * @source Li, Bhojanapalli, Zaheer, Reddi and Kumar, ICML 2022 (arXiv 2202.00980)
 */
export function clippedSGD({ weightDecay = WEIGHT_DECAY }: OptimizerSettings = {}): Optimizer {
  return {
    name: 'clipped-sgd',
    rateAdvice: "some thousands of times AdamW's (e.g. 1)",
    needsDecay: true,
    readsNorms: true,
    state: () => ({}),
    elementwise: () => true,
    factors: (_, learningRate) => ({
      rate: learningRate,
      // The last step of a schedule may have a rate of 0.
      most: Math.min(1e9, ROOT_C * Math.sqrt((2 * weightDecay) / Math.max(learningRate, 1e-30))),
    }),
    update(_, { weights, gradient, factors: { rate, most }, keep, norms }) {
      if (!norms) throw new Error('the norms are not given');
      const share = norms.weights.mul(most).div(norms.gradient.max(1e-30)).min(1);
      return { weights: weights.mul(keep).sub(gradient.mul(share.mul(rate))), state: {} };
    },
  };
}
