/** @file Squared error of the scores themselves. */
import { defineLoss, type Loss, meanOver } from './loss.ts';
import { number, positive, SHIFT, withDefaults } from './options.ts';

/** Options of the loss `mse`. */
export interface MSEOptions {
  /** Multiplies the student's scores: 1 for dot products, about 20 for cosines. */
  scale?: number;
  /** Added to the scaled scores: 0 for dot products, about -10 for cosines that follow logits. */
  shift?: number;
}

/**
 * Squared difference of the student's and the teacher's scores, mean over a query's candidates.
 *
 *     value_b = mean_n (scale s_n + shift - t_n)^2
 *
 * Not shift-invariant: the student must learn the teacher's scale too. See margin-mse.
 *
 * @example
 * import { mse } from 'onnx-distill/losses';
 * const { loss } = await mse({ scale: 1, shift: 0 }).evaluate({ student: [[3, 2]], teacher: [[4, 2]] });
 * loss; // 0.5
 * @source score matching, Kim et al. 2023 (arXiv 2301.12005)
 */
export function mse(given: MSEOptions = {}): Loss {
  const { scale, shift } = withDefaults(mse.options, given);
  return defineLoss({
    name: 'mse',
    needs: ['student', 'teacher', 'mask'],
    // Padding is set to 0 before squaring, so that its values cannot overflow.
    perQuery: ({ student, teacher, mask }) =>
      meanOver(student.mul(scale).add(shift).sub(teacher.stopGradient()).mul(mask).square(), mask),
  });
}
mse.options = {
  scale: positive(20, "multiplies the student's scores: 20 for cosines, 1 for dot products"),
  shift: number(-10, SHIFT),
};
