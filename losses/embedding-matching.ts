/** @file EmbedDistill's embedding matching: the student's vectors where the teacher's are. */
import type { Expr } from '../engine/expressions/expr.ts';
import { defineLoss, type Loss } from './loss.ts';

export interface EmbeddingMatchingOptions {
  /** Which embeddings are matched. */
  of?: 'both' | 'queries' | 'documents';
  /** `l2` as in the paper, `squared` its square, `cosine` 1 - cos. */
  distance?: 'l2' | 'squared' | 'cosine';
}

/**
 * Distance between the student's embedding (through the projection, where there is one) and the teacher's.
 *
 *     value_b = |e_b^t - Proj(e_b^s)| + (B / M) sum_{m owned by b} |e_m^t - Proj(e_m^s)|
 *
 * so that the mean over queries is the mean over queries plus the mean over documents, each document counted once.
 *
 * @source Kim, Rawat, Zaheer et al. 2023 (arXiv 2301.12005), equations 7 and 8
 */
export function embeddingMatching({ of = 'both', distance = 'squared' }: EmbeddingMatchingOptions = {}): Loss {
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
      const away = (student: Expr, teacher: Expr): Expr => {
        const mapped = inputs.projection ? student.matmul(inputs.projection) : student;
        if (distance === 'cosine')
          return mapped.l2Normalize().mul(teacher.stopGradient().l2Normalize()).sum([-1]).from(1);
        const squared = mapped.sub(teacher.stopGradient()).square().sum([-1]);
        return distance === 'l2' ? squared.add(1e-12).sqrt() : squared;
      };
      const parts: Expr[] = [];
      if (queries) parts.push(away(inputs.queries, inputs.teacherQueries));
      if (documents) {
        const { owner } = inputs; // [B, M]
        const each = away(inputs.documents, inputs.teacherDocuments); // [M]
        // Each column holds a single 1, so the mean of the rows' sums is M / B.
        parts.push(
          owner
            .mul(each.unsqueeze(0))
            .sum([1])
            .div(owner.sum([1]).mean([0], true)),
        );
      }
      return parts.reduce((a, b) => a.add(b));
    },
  });
}
