/** @file In-batch distillation: the teacher's distribution over all documents of the step. */
import { defineLoss, divergence, type Loss, scoresInBatch } from './loss.ts';
import { choice, positive, withDefaults } from './options.ts';

/** Options of the loss `in-batch-kl`. */
export interface InBatchKLOptions {
  /** Divides the teacher's scores: 1 for logits, 0.05 for cosines. */
  temperature?: number;
  /** Divides the student's scores; 0.05 by default. */
  studentTemperature?: number;
  /** Where the teacher's scores come from: `given` as an array, or the dot products of its `embeddings`. */
  teacherScores?: 'given' | 'embeddings';
}

/**
 * Kullback-Leibler divergence over every document of the step. The teacher must have scored all pairs (a dual-encoder gives them
 * at no extra cost):
 *
 *     value_b = T^2 sum_m p_bm (log p_bm - log q_bm),  p = softmax(t / T),  q = softmax(Q P^T / T')
 *
 * With a teacher that gives the positive all the probability (T towards 0) this is InfoNCE. Documents without a teacher score
 * (NaN) are left out on both sides.
 *
 * @example
 * import { inBatchKL } from 'onnx-distill/losses';
 * const { loss } = await inBatchKL({ temperature: 1, studentTemperature: 1, teacherScores: 'given' }).evaluate({
 *   queries: [[1, 0]],
 *   documents: [[3, 0], [2, 0], [0, 1]],
 *   teacherInBatch: [[4, 2, 1]],
 * });
 * loss; // 0.064971
 * @source Hinton et al. 2015 (arXiv 1503.02531), over in-batch lists
 */
export function inBatchKL(given: InBatchKLOptions = {}): Loss {
  const { temperature, studentTemperature, teacherScores } = withDefaults(inBatchKL.options, given);
  return defineLoss({
    name: 'in-batch-kl',
    needs:
      teacherScores === 'given'
        ? ['queries', 'documents', 'teacherInBatch']
        : ['queries', 'documents', 'teacherQueries', 'teacherDocuments'],
    perQuery(inputs) {
      const student = inputs.queries.matmul(inputs.documents.transpose(1, 0)); // [B, M]
      const { scores, known } = scoresInBatch(inputs, teacherScores);
      const mask = known ?? scores.mul(0).add(1);
      return divergence(student, scores, mask, temperature, studentTemperature);
    },
  });
}
inBatchKL.options = {
  temperature: positive(0.05, "divides the teacher's scores: 0.05 for cosines, 1 for logits"),
  studentTemperature: positive(0.05, "divides the student's scores"),
  teacherScores: choice(
    ['given', 'embeddings'],
    'embeddings',
    "where the teacher's scores come from: an array of all of them, or the dot products of its embeddings",
  ),
};
