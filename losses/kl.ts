/** @file Listwise distillation: the teacher's distribution over a query's candidates. */
import { defineLoss, divergence, type Loss } from './loss.ts';
import { positive, withDefaults } from './options.ts';

/** Options of the loss `kl`. */
export interface KLOptions {
  /** Divides the teacher's logits. */
  temperature?: number;
  /** Divides the student's scores: 0.05 for cosines, the default; 1 for logits. */
  studentTemperature?: number;
}

/**
 * Kullback-Leibler divergence of the student's distribution over the candidates from the teacher's.
 *
 *     value_b = T^2 sum_n p_n (log p_n - log q_n),  p = softmax(t / T),  q = softmax(s / T')
 *
 * The factor T^2 keeps the size of the gradient about the same at every temperature.
 *
 * @example
 * import { kl } from 'onnx-distill/losses';
 * const { loss } = await kl({ studentTemperature: 1 }).evaluate({ student: [[3, 2, 0]], teacher: [[4, 2, 1]] });
 * loss; // 0.064971
 * @source Hinton et al. 2015 (arXiv 1503.02531)
 */
export function kl(given: KLOptions = {}): Loss {
  const { temperature, studentTemperature } = withDefaults(kl.options, given);
  return defineLoss({
    name: 'kl',
    needs: ['student', 'teacher', 'mask'],
    perQuery: ({ student, teacher, mask }) => divergence(student, teacher, mask, temperature, studentTemperature),
  });
}
kl.options = {
  temperature: positive(1, "divides the teacher's scores: 1 for logits, 0.05 for cosines"),
  studentTemperature: positive(0.05, "divides the student's scores: 0.05 for cosines, 1 for logits"),
};
