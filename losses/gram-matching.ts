/** @file Gram matching: distributions of similarities among the queries and documents of a step. */
import type { Expr } from '../engine/expressions/expr.ts';
import { byOwner, defineLoss, divergence, type Loss, notSelf } from './loss.ts';
import { choices, positive, withDefaults } from './options.ts';

export const blocks = ['query-document', 'query-query', 'document-document'] as const;

/** Options of the loss `gram-matching`. */
export interface GramMatchingOptions {
  /** Which similarities are matched; their divergences are added. */
  of?: readonly (typeof blocks)[number][];
  /** Divides the teacher's dot products: 0.05 for cosines. */
  temperature?: number;
  /** Divides the student's dot products; 0.05 by default. */
  studentTemperature?: number;
}

/**
 * Divergence of the softmax of each row of the student's similarities from the teacher's:
 *
 *     value_b = T^2 KL( softmax(Q_t P_t^T / T)_b || softmax(Q_s P_s^T / T')_b )  (query-document)
 *
 * and likewise for rows of Q Q^T and P P^T, the diagonal left out; a document's value is added to that of the query that owns it.
 * Invariant to rotations of either space; widths may differ.
 *
 * @example
 * import { gramMatching } from 'onnx-distill/losses';
 * const { loss } = await gramMatching({ of: ['query-document'], temperature: 1, studentTemperature: 1 }).evaluate({
 *   queries: [[1, 0]],
 *   documents: [[3, 0], [2, 0], [0, 1]],
 *   teacherQueries: [[1, 0, 0]],
 *   teacherDocuments: [[4, 0, 0], [2, 1, 0], [1, 0, 1]],
 * });
 * loss; // 0.064971
 * @source KL between rows of in-batch similarities; of the family of Tung and Mori, ICCV 2019 (arXiv 1907.09682)
 */
export function gramMatching(given: GramMatchingOptions = {}): Loss {
  const { of, temperature, studentTemperature } = withDefaults(gramMatching.options, given);
  const documents = of.includes('document-document');
  return defineLoss({
    name: 'gram-matching',
    needs: ['queries', 'documents', 'teacherQueries', 'teacherDocuments', ...(documents ? (['owner'] as const) : [])],
    perQuery(inputs) {
      const gram = (a: Expr, b: Expr): Expr => a.matmul(b.transpose(1, 0));
      const rows = (student: Expr, teacher: Expr, mask: Expr): Expr =>
        divergence(student, teacher.stopGradient(), mask, temperature, studentTemperature);
      const { queries: q, documents: d, teacherQueries: tq, teacherDocuments: td } = inputs;
      const parts: Expr[] = [];
      if (of.includes('query-document')) {
        const t = gram(tq, td);
        parts.push(rows(gram(q, d), t, t.mul(0).add(1)));
      }
      if (of.includes('query-query')) parts.push(rows(gram(q, q), gram(tq, tq), notSelf(q)));
      if (documents) parts.push(byOwner(rows(gram(d, d), gram(td, td), notSelf(d)), inputs.owner));
      return parts.reduce((a, b) => a.add(b));
    },
  });
}
gramMatching.options = {
  of: choices(blocks, ['query-document'], 'which similarities are matched; their divergences are added'),
  temperature: positive(0.05, "divides the embedder's dot products"),
  studentTemperature: positive(0.05, "divides the student's dot products"),
};
