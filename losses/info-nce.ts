/** @file InfoNCE over all documents of the step. */
import type { Expr } from '../engine/expressions/expr.ts';
import { defineLoss, type Loss, type LossInput, type LossInputs, masked, scoresInBatch } from './loss.ts';
import { choice, group, number, positive, withDefaults } from './options.ts';

/** Options of the loss `info-nce`. */
export interface InfoNCEOptions {
  /** Divides the scores: 0.05 for cosines, 1 for dot products. */
  temperature?: number;
  /** `query-to-document`, or `both` for the mean with the direction from each positive to the queries. */
  direction?: 'query-to-document' | 'both';
  /**
   * Documents that the teacher scores above the query's positive minus `margin` are probably relevant and do not count as
   * negatives. `by` says which scores: the teacher's `embeddings`' dot products with all documents, its scores of the query's own
   * `candidates` (column 0 the positive), or `given` for all documents.
   */
  falseNegatives?: { by: 'candidates' | 'embeddings' | 'given'; margin: number };
}

const wanted: Record<string, readonly LossInput[]> = {
  candidates: ['teacher', 'mask', 'candidates'],
  embeddings: ['teacherQueries', 'teacherDocuments'],
  given: ['teacherInBatch'],
};

/**
 * Contrasts each query's positive with all other documents of the step, hard negatives and other queries' documents alike.
 *
 *     value_b = -log( exp(s_b+ / t) / sum_m exp(s_bm / t) ),  s = Q P^T
 *
 * A query without a positive has the value 0. Known other positives and duplicates are left out by `inBatch`, probable ones
 * by `falseNegatives`.
 *
 * @example
 * import { infoNCE } from 'onnx-distill/losses';
 * // Document b is the positive of query b where `positives` is not given; the third is a hard negative.
 * const { loss } = await infoNCE({ temperature: 1 }).evaluate({
 *   queries: [[1, 0], [1, 0]],
 *   documents: [[1, 0], [1, 0], [1, 0]],
 * });
 * loss; // 1.098612
 * @source van den Oord et al. 2018 (arXiv 1807.03748); Karpukhin et al. 2020 (arXiv 2004.04906)
 */
export function infoNCE(given: InfoNCEOptions = {}): Loss {
  const { temperature, direction, falseNegatives } = withDefaults(infoNCE.options, given);
  return defineLoss({
    name: 'info-nce',
    needs: ['queries', 'documents', 'positives', 'inBatch', ...(falseNegatives ? wanted[falseNegatives.by] : [])],
    perQuery(inputs) {
      const { queries, documents, positives, inBatch } = inputs;
      const scores = queries.matmul(documents.transpose(1, 0)).mul(1 / temperature); // [B, M]
      const allowed = falseNegatives ? inBatch.mul(trueNegatives(inputs, falseNegatives)) : inBatch;
      const logits = masked(scores, allowed.max(positives));
      const count = positives.sum([1]).max(1);
      const along = (axis: number): Expr => logits.logSoftmax(axis).mul(positives).sum([1]).div(count).neg();
      return direction === 'both' ? along(1).add(along(0)).mul(0.5) : along(1);
    },
  });
}
infoNCE.options = {
  temperature: positive(0.05, 'divides the scores: 0.05 for cosines, 1 for dot products'),
  direction: choice(
    ['query-to-document', 'both'],
    'query-to-document',
    'both: the mean with the direction from each positive to the queries',
  ),
  falseNegatives: group(
    {
      by: choice(
        ['candidates', 'embeddings', 'given'],
        undefined,
        "whose scores: the teacher's of the query's candidates, its embeddings' dot products, or an array of all",
      ),
      margin: number(undefined, "how far below the positive's score a document must be to count as a negative"),
    },
    'documents that the teacher scores above the positive minus the margin are not negatives of the query',
  ),
};

/** [B, M] 0 where the teacher scores a document about as high as the positive, else 1. */
function trueNegatives(inputs: LossInputs, { by, margin }: NonNullable<InfoNCEOptions['falseNegatives']>): Expr {
  const { positives, teacher, mask, candidates } = inputs;
  if (by === 'candidates') {
    const limit = teacher.slice(0, 1, 1).sub(margin); // [B, 1]
    const doubtful = teacher.greater(limit).float().mul(mask); // [B, N]
    const place = positives
      .mul(0)
      .add(1)
      .op('CumSum', [positives.ints(1).squeeze(0)])
      .sub(1); // [B, M] 0, 1, ...
    const here = candidates.float().unsqueeze(2).equal(place.unsqueeze(1)).float(); // [B, N, M]
    return here.mul(doubtful.unsqueeze(2)).reduceMax([1]).rsub(1).stopGradient();
  }
  const { scores, known } = scoresInBatch(inputs, by);
  // The lowest of several positives; a query without one gives no threshold.
  const scored = known ? positives.mul(known) : positives;
  const lowest = scored.greater(0).where(scores, 1e30).neg().reduceMax([1], true).neg(); // [B, 1]
  const doubtful = scores.greater(lowest.sub(margin)).float();
  return (known ? doubtful.mul(known) : doubtful).rsub(1).stopGradient();
}
