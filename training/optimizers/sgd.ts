/** @file Stochastic gradient descent with momentum. */
import type { Optimizer, OptimizerSettings } from './optimizer.ts';

/**
 *     m <- mu m + (g + decay p),  p <- p - lr m
 *
 * The decay is added to the gradient, as in torch.optim.SGD, whose figures it equals. Learning rates are hundreds of times
 * AdamW's.
 *
 * @source Sutskever et al., ICML 2013
 */
export function sgd({ momentum = 0.9 }: OptimizerSettings = {}): Optimizer {
  return {
    name: 'sgd',
    rateAdvice: "some hundreds of times AdamW's (e.g. 0.1)",
    state: () => ({ momentum: 'zeros' }),
    elementwise: () => true,
    factors: (_, learningRate) => ({ rate: learningRate }),
    update(_, { weights, gradient, state, factors: { rate }, decay }) {
      const moved = state.momentum.mul(momentum).add(gradient.add(weights.mul(decay)));
      return { weights: weights.sub(moved.mul(rate)), state: { momentum: moved } };
    },
  };
}
