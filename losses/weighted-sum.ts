/** @file Several losses as one. */
import { defineLoss, type Loss } from './loss.ts';

/** A loss with its factor in a sum. */
export interface WeightedLoss {
  loss: Loss;
  weight: number;
}

/** value_b = sum_i weight_i value_b(loss_i). */
export function weightedSum(parts: readonly WeightedLoss[]): Loss {
  return defineLoss({
    name: parts.map(({ loss, weight }) => `${weight} ${loss.name}`).join(' + '),
    needs: [...new Set(parts.flatMap(({ loss }) => loss.needs))],
    uses: [...new Set(parts.flatMap(({ loss }) => loss.uses))],
    perQuery: (inputs) => parts.map(({ loss, weight }) => loss.perQuery(inputs).mul(weight)).reduce((a, b) => a.add(b)),
  });
}
