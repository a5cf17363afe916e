/** @file InfoNCE over all documents of the step. */
import type { Expr } from '../engine/expressions/expr.ts';
import { defineLoss, type Loss, masked } from './loss.ts';

export interface InfoNCEOptions {
  /** Divides the scores: 0.05 for cosines, 1 for dot products. */
  temperature?: number;
  /** `query-to-document`, or `both` for the mean with the direction from each positive to the queries. */
  direction?: 'query-to-document' | 'both';
}

/**
 * Contrasts each query's positive with all other documents of the step, hard negatives and other queries' documents alike.
 *
 *     value_b = -log( exp(s_b+ / t) / sum_m exp(s_bm / t) ),  s = Q P^T
 *
 * A query without a positive has the value 0. Known other positives and duplicates are left out by `inBatch`.
 *
 * @source van den Oord et al. 2018 (arXiv 1807.03748); Karpukhin et al. 2020 (arXiv 2004.04906)
 */
export function infoNCE({ temperature = 0.05, direction = 'query-to-document' }: InfoNCEOptions = {}): Loss {
  return defineLoss({
    name: 'info-nce',
    needs: ['queries', 'documents', 'positives', 'inBatch'],
    perQuery({ queries, documents, positives, inBatch }) {
      const scores = queries.matmul(documents.transpose(1, 0)).mul(1 / temperature); // [B, M]
      const logits = masked(scores, inBatch.max(positives));
      const count = positives.sum([1]).max(1);
      const along = (axis: number): Expr => logits.logSoftmax(axis).mul(positives).sum([1]).div(count).neg();
      return direction === 'both' ? along(1).add(along(0)).mul(0.5) : along(1);
    },
  });
}
