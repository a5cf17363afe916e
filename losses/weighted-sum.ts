/** @file Weighted sum of losses. */
import { defineLoss, type Loss } from './loss.ts';

/** A loss with its factor in a sum. */
export interface WeightedLoss {
  loss: Loss;
  weight: number;
}

/**
 * value_b = sum_i weight_i value_b(loss_i).
 *
 * @example
 * import { kl, mse, weightedSum } from 'onnx-distill/losses';
 * const both = weightedSum([{ loss: kl({ studentTemperature: 1 }), weight: 1 }, { loss: mse({ scale: 1, shift: 0 }), weight: 0.5
 * }]); const { loss } = await both.evaluate({ student: [[1, 1]], teacher: [[1, 1]] });
 * loss; // 0
 */
export function weightedSum(parts: readonly WeightedLoss[]): Loss {
  return defineLoss({
    name: parts.map(({ loss, weight }) => `${weight} ${loss.name}`).join(' + '),
    needs: [...new Set(parts.flatMap(({ loss }) => loss.needs))],
    uses: [...new Set(parts.flatMap(({ loss }) => loss.uses))],
    perQuery: (inputs) => parts.map(({ loss, weight }) => loss.perQuery(inputs).mul(weight)).reduce((a, b) => a.add(b)),
  });
}
