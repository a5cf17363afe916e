/** @file Means of the weights before training and after it; the dev split chooses how much the trained ones count. */

import type { Reporting } from '../../../common/progress.ts';
import type { Tensor } from '../../../engine/graph/tensor.ts';
import type { Weights } from '../../../students/student.ts';
import type { Trained } from './fit.ts';

/**
 * The trained weights, or their mean with the initial ones in the share that scores best. A fine-tuned encoder and its start are in
 * one basin, and points between them often rank better than both, in the domain and out of it.
 * @param shares of the trained weights, each between 0 and 1
 * @param score of weights on dev; higher is better
 * @source Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (arXiv 2109.01903)
 */
export async function averaged(
  trained: Trained,
  shares: readonly number[],
  score: (weights: Weights) => Promise<number>,
  { note }: Pick<Reporting, 'note'>,
): Promise<Trained> {
  // There is nothing between the start and itself.
  if (trained.bestStep === 0) return trained;
  let best = trained;
  const told: string[] = [];
  for (const share of shares) {
    const weights = meanOf(trained.weights, trained.initial, share);
    const value = await score(weights);
    told.push(`${share}: ${value.toFixed(4)}`);
    if (value > (best.bestScore ?? Number.NEGATIVE_INFINITY))
      best = { ...trained, weights, average: share, bestScore: value };
  }
  const alone = trained.bestScore?.toFixed(4);
  note(
    `dev score by the share of the trained weights in a mean with those before training: 1: ${alone}, ${told.join(', ')}; ${best.average ?? 1} is kept`,
  );
  return best;
}

/** The mean of a given share, whatever dev says of it; measured on dev where there is one. */
export async function averagedAt(
  trained: Trained,
  share: number,
  score: ((weights: Weights) => Promise<number>) | undefined,
  { note }: Pick<Reporting, 'note'>,
): Promise<Trained> {
  if (trained.bestStep === 0) return trained;
  const weights = meanOf(trained.weights, trained.initial, share);
  const bestScore = await score?.(weights);
  const told =
    bestScore === undefined ? '' : `: dev score ${bestScore.toFixed(4)}, ${trained.bestScore?.toFixed(4)} alone`;
  note(`a mean of the trained weights (${share}) and those before training is kept${told}`);
  return { ...trained, weights, average: share, bestScore: bestScore ?? trained.bestScore };
}

/** share x after + (1 - share) x before, weight by weight; what is not a float, or has no counterpart, stays as it is after. */
export function meanOf(after: Weights, before: Weights, share: number): Weights {
  return new Map(
    [...after].map(([name, own]): [string, Tensor] => {
      const start = before.get(name);
      if (own.dtype !== 'float32' || start?.dtype !== 'float32' || start.data.length !== own.data.length)
        return [name, own];
      const [a, b] = [own.data as Float32Array, start.data as Float32Array];
      return [name, { ...own, data: Float32Array.from(a, (v, i) => share * v + (1 - share) * b[i]) }];
    }),
  );
}
