/** @file Small-loss trimming and co-teaching: noisy labels are learned late, so queries of large loss are left out. */
import { InputError } from '../common/errors.ts';
import { descending } from '../math/numbers.ts';
import { defineWeighting, type Weighting } from './weighting.ts';

export interface KeepSchedule {
  /** Estimated fraction of wrong labels, tau. */
  noise: number;
  /** Epochs (may be fractional) over which the fraction kept falls from 1, E_k. */
  epochs?: number;
}

/** R(e) = 1 - tau min(e / E_k, 1). */
export function keepShare(epoch: number, { noise, epochs = 10 }: KeepSchedule): number {
  if (!(noise >= 0 && noise < 1))
    throw new InputError({
      code: 'weighting.noise',
      subject: 'the share of wrong labels (weighting.noise)',
      expected: 'a number from 0 to less than 1',
      received: String(noise),
    });
  return 1 - noise * Math.min(epoch / epochs, 1);
}

/** Positions of the given fraction of smallest losses; ties by the lower position; at least one. */
export function smallestLosses(losses: ArrayLike<number>, share: number): Int32Array {
  const keep = losses.length ? Math.max(1, Math.round(share * losses.length)) : 0;
  return descending(Float64Array.from(losses, (l) => -l)).subarray(0, keep);
}

/**
 * Weight 1 for the fraction R(e) of smallest losses, 0 for the others. A small loss can mean an easy query as well as a right
 * label. NaN losses are dropped first.
 *
 * @source the single-model form of Han et al., NeurIPS 2018 (arXiv 1804.06872)
 */
export const smallLoss = (schedule: KeepSchedule = { noise: 0.2 }): Weighting =>
  defineWeighting('small-loss', ['losses'], ({ losses = [], epoch = 0 }) => kept(losses, epoch, schedule));

/**
 * Co-teaching: like `smallLoss`, with the losses of another student, so that a student's mistakes do not reinforce themselves.
 * The two are trained together; each uses the other's losses of the last update.
 *
 * @source Han et al., NeurIPS 2018 (arXiv 1804.06872), which selects within a batch: see `coTeach`
 */
export const coTeaching = (schedule: KeepSchedule = { noise: 0.2 }): Weighting =>
  defineWeighting('co-teaching', ['peer'], ({ peer = [], epoch = 0 }) => kept(peer, epoch, schedule));

function kept(losses: ArrayLike<number>, epoch: number, schedule: KeepSchedule): { weights: Float32Array } {
  const weights = new Float32Array(losses.length);
  for (const i of smallestLosses(losses, keepShare(epoch, schedule))) weights[i] = 1;
  return { weights };
}

/**
 * Co-teaching: two students with different initializations each select the batch's smallest losses for the other.
 * @returns the positions that update the first and the second student
 * @source Han et al., NeurIPS 2018 (arXiv 1804.06872)
 */
export function coTeach(
  first: ArrayLike<number>,
  second: ArrayLike<number>,
  share: number,
): { first: Int32Array; second: Int32Array } {
  return { first: smallestLosses(second, share), second: smallestLosses(first, share) };
}
