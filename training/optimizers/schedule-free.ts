/** @file Schedule-free AdamW: an average of the iterates in place of a falling learning rate. */
import { BETAS, EPS } from './adamw.ts';
import type { Optimizer, OptimizerSettings } from './optimizer.ts';

/**
 * The gradient is taken at y, between the iterates z and their weighted average x, which is what is evaluated and saved:
 *
 *     v <- b2 v + (1 - b2) g^2,  d = g / (sqrt(v / (1 - b2^t)) + eps) + decay y
 *     c = w_t / (w_1 + ... + w_t),  w_t = (largest lr so far)^2
 *     y <- y + c (z - y) + lr (b1 (1 - c) - 1) d,  z <- z - lr d,  x = y + (1 - 1 / b1) (z - y)
 *
 * Use a constant learning rate after the warm-up (`train.finalLearningRate: 1`), 1 to 10 times AdamW's.
 *
 * @source Defazio et al. 2024 (arXiv 2405.15682); facebookresearch/schedule_free, adamw_schedulefree.py
 */
export function scheduleFree({ betas: [b1, b2] = BETAS, eps = EPS }: OptimizerSettings = {}): Optimizer {
  return {
    name: 'schedule-free',
    finalShare: 1,
    state: () => ({ iterate: 'weights', second: 'zeros' }),
    elementwise: () => true,
    factors(step, learningRate, numbers) {
      numbers.largestRate = Math.max(numbers.largestRate ?? 0, learningRate);
      const weight = numbers.largestRate ** 2;
      numbers.weightSum = (numbers.weightSum ?? 0) + weight;
      const average = numbers.weightSum ? weight / numbers.weightSum : 0;
      return {
        average,
        rate: learningRate,
        back: learningRate * (b1 * (1 - average) - 1),
        correction: 1 - b2 ** step,
      };
    },
    update(_, { weights: y, gradient: g, state, factors: { average, rate, back, correction }, decay }) {
      const second = state.second.mul(b2).add(g.mul(g).mul(1 - b2));
      const direction = g.div(second.div(correction).sqrt().add(eps)).add(y.mul(decay));
      return {
        weights: y.add(state.iterate.sub(y).mul(average)).add(direction.mul(back)),
        state: { iterate: state.iterate.sub(direction.mul(rate)), second },
      };
    },
    served: { state: 'iterate', by: 1 - 1 / b1 },
  };
}
