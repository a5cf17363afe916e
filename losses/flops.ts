/** @file FLOPS: the square of each dimension's mean activation over the documents of a step, for vectors that are to be sparse. */
import { byOwner, defineLoss, type Loss } from './loss.ts';
import { notNegative, withDefaults } from './options.ts';

/** Options of the loss `flops`. */
export interface FlopsOptions {
  ramp?: number;
}

/**
 * With a_mj document m's activation in dimension j, c_j how many dimensions column j stands for (`columns`; 1 where it is not
 * given) and M documents:
 *
 *     FLOPS = sum_j c_j ( (1 / M) sum_m |a_mj| )^2
 *
 * which is what a search by an inverted index multiplies, up to a factor: documents pay most for the dimensions that many of them
 * use. A query's value is the share of the documents that it owns, so the mean over queries is FLOPS.
 *
 * A training step makes its weight grow as min(1, t / T)^2, T the share `ramp` of the steps: vectors would be emptied before they
 * have learned anything.
 *
 * @example
 * import { flops } from 'onnx-distill/losses';
 * const { loss } = await flops().evaluate({ documents: [[1, 0, 2], [3, 0, 0]], owner: [[1, 1]] });
 * loss; // 5
 * @source Paria, Yeh, Yen, Xu, Ravikumar and Póczos, ICLR 2020 (arXiv 2004.05665); the ramp: Formal, Piwowarski and Clinchant,
 * SIGIR 2021 (arXiv 2107.05720)
 */
export function flops(given: FlopsOptions = {}): Loss {
  const { ramp } = withDefaults(flops.options, given);
  return defineLoss({
    name: 'flops',
    needs: ['documents', 'owner'],
    uses: ['columns'],
    ramp,
    perQuery({ documents, owner, columns }) {
      const size = documents.abs(); // [M, D]
      const mean = size.mean([0], true); // [1, D]
      const counted = columns ? mean.mul(columns.unsqueeze(0)) : mean;
      return byOwner(size.mul(counted).sum([1]), owner);
    },
  });
}
flops.options = {
  ramp: notNegative(1 / 3, 'share of the training over which the weight grows quadratically from 0'),
};
