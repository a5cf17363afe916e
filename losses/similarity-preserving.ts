/** @file Similarity preserving: matches the similarities among the texts of a step. */
import type { Expr } from '../engine/expressions/expr.ts';
import { byOwner, defineLoss, type Loss } from './loss.ts';
import { choice, withDefaults } from './options.ts';

/** Options of the loss `similarity-preserving`. */
export interface SimilarityPreservingOptions {
  of?: 'queries' | 'documents';
}

/**
 * With G the rows of E E^T scaled to unit length:
 *
 *     value_i = ||G^t_i - G^s_i||^2 / n
 *
 * so that the mean is ||G^t - G^s||^2 / n^2. Invariant to rotations of either space.
 *
 * @example
 * import { similarityPreserving } from 'onnx-distill/losses';
 * const { loss } = await similarityPreserving().evaluate({
 *   queries: [[1, 0], [0, 1]],
 *   teacherQueries: [[2, 0, 0], [2, 0, 0]],
 * });
 * loss; // 0.292893
 * @source Tung and Mori, ICCV 2019 (arXiv 1907.09682)
 */
export function similarityPreserving(given: SimilarityPreservingOptions = {}): Loss {
  const { of } = withDefaults(similarityPreserving.options, given);
  return defineLoss({
    name: 'similarity-preserving',
    needs: of === 'queries' ? ['queries', 'teacherQueries'] : ['documents', 'teacherDocuments', 'owner'],
    perQuery(inputs) {
      const gram = (e: Expr): Expr => e.matmul(e.transpose(1, 0)).l2Normalize();
      const student = of === 'queries' ? inputs.queries : inputs.documents;
      const teacher = of === 'queries' ? inputs.teacherQueries : inputs.teacherDocuments;
      const each = gram(student).sub(gram(teacher).stopGradient()).square().mean([1]);
      return of === 'queries' ? each : byOwner(each, inputs.owner);
    },
  });
}
similarityPreserving.options = {
  of: choice(['queries', 'documents'], 'queries', 'which embeddings are compared among themselves'),
};
