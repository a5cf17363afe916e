/** @file MarginMSE: the teacher's margins between the positive and each negative. */
import { defineLoss, type Loss } from './loss.ts';
import { positive, withDefaults } from './options.ts';

/** Options of the loss `margin-mse`. */
export interface MarginMSEOptions {
  /**
   * Multiplies the student's scores: 1 for dot products, about 20 for cosines, whose margins are far smaller than those of
   * logits.
   */
  scale?: number;
}

/**
 * Squared error between the student's and the teacher's margin, mean over the query's negatives.
 *
 *     value_b = mean_k ( (s_0 - s_k) - (t_0 - t_k) )^2
 *
 * Negative margins of the teacher are kept: they correct wrong labels.
 *
 * @example
 * import { marginMSE } from 'onnx-distill/losses';
 * const { values, gradients } = await marginMSE({ scale: 1 }).evaluate({ student: [[3, 2, 0]], teacher: [[4, 2, 1]] });
 * values[0]; // 0.5
 * gradients.student[1]; // 1
 * @source Hofstätter et al. 2020 (arXiv 2010.02666)
 */
export function marginMSE(given: MarginMSEOptions = {}): Loss {
  const { scale } = withDefaults(marginMSE.options, given);
  return defineLoss({
    name: 'margin-mse',
    needs: ['student', 'teacher', 'mask'],
    perQuery({ student, teacher, mask }) {
      const gap = student.mul(scale).sub(teacher.stopGradient()).mul(mask); // [B, N]
      const first = gap.slice(0, 1, 1);
      const valid = mask.mul(mask.slice(0, 1, 1)); // no positive, no margins
      const error = first.sub(gap).mul(valid).square(); // 0 at the positive itself
      return error.sum([1]).div(valid.sum([1]).sub(1).max(1));
    },
  });
}
marginMSE.options = {
  scale: positive(20, "multiplies the student's scores: 20 for cosines, 1 for dot products"),
};
