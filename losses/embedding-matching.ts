/** @file EmbedDistill's embedding matching: draws the student's embeddings to the teacher's. */
import type { Expr } from '../engine/expressions/expr.ts';
import { byOwner, defineLoss, type Loss } from './loss.ts';
import { choice, withDefaults } from './options.ts';

export const distances = ['l2', 'squared', 'cosine'] as const;
export type Distance = (typeof distances)[number];

/** Distance along the last axis; the teacher's side is constant. */
export function distanceBetween(student: Expr, teacher: Expr, distance: Distance): Expr {
  if (distance === 'cosine') return student.l2Normalize().mul(teacher.stopGradient().l2Normalize()).sum([-1]).rsub(1);
  const squared = student.sub(teacher.stopGradient()).square().sum([-1]);
  // The gradient of the square root is unbounded at 0, where student and teacher agree.
  return distance === 'l2' ? squared.add(1e-12).sqrt() : squared;
}

/** Options of the loss `embedding-matching`. */
export interface EmbeddingMatchingOptions {
  /** Which embeddings are matched. */
  of?: 'both' | 'queries' | 'documents';
  /** `l2` as in the paper, `squared` its square, `cosine` 1 - cos. */
  distance?: Distance;
}

/**
 * Distance between the student's embedding (through the projection, where there is one) and the teacher's.
 *
 *     value_b = |e_b^t - Proj(e_b^s)| + (B / M) sum_{m owned by b} |e_m^t - Proj(e_m^s)|
 *
 * so that the mean over queries is the mean over queries plus the mean over documents, each document counted once.
 *
 * @example
 * import { embeddingMatching } from 'onnx-distill/losses';
 * const matching = embeddingMatching({ of: 'queries', distance: 'l2' });
 * const { loss } = await matching.evaluate({ queries: [[0.6, 0.8]], teacherQueries: [[1, 0]] });
 * loss; // 0.894427
 * @source Kim, Rawat, Zaheer et al. 2023 (arXiv 2301.12005), equations 7 and 8
 */
export function embeddingMatching(given: EmbeddingMatchingOptions = {}): Loss {
  const { of = 'both', distance } = withDefaults(embeddingMatching.options, given);
  const queries = of !== 'documents';
  const documents = of !== 'queries';
  return defineLoss({
    name: 'embedding-matching',
    needs: [
      ...(queries ? (['queries', 'teacherQueries'] as const) : []),
      ...(documents ? (['documents', 'teacherDocuments', 'owner'] as const) : []),
    ],
    uses: ['projection'],
    perQuery(inputs) {
      const away = (student: Expr, teacher: Expr): Expr =>
        distanceBetween(inputs.projection ? student.matmul(inputs.projection) : student, teacher, distance);
      const parts: Expr[] = [];
      if (queries) parts.push(away(inputs.queries, inputs.teacherQueries));
      if (documents) parts.push(byOwner(away(inputs.documents, inputs.teacherDocuments), inputs.owner));
      return parts.reduce((a, b) => a.add(b));
    },
  });
}
embeddingMatching.options = {
  of: choice(
    ['both', 'queries', 'documents'],
    undefined,
    'which embeddings are matched: both by default, or in a run over frozen documents the queries',
  ),
  distance: choice(distances, 'squared', 'squared or l2 (Euclidean distance), or cosine: 1 - cos'),
};
