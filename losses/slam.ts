/** @file SLaM: mixes the student's prediction with its complement by the probability that the teacher's label is wrong. */
import { defineLoss, type Loss, meanOver } from './loss.ts';
import { number, positive, SHIFT, withDefaults } from './options.ts';

/** Options of the loss `slam`. */
export interface SlamOptions {
  /** Multiplies the student's scores: 1 for dot products, about 20 for cosines. */
  scale?: number;
  /** Added to the scaled scores: 0 for dot products, about -10 for cosines, where 0 does not mean a probability of 1/2. */
  shift?: number;
}

/**
 * With the teacher's label y = [t > 0] and a the probability that it is right (`reliability`):
 *
 *     p' = a sigmoid(z) + (1 - a) (1 - sigmoid(z)),   z = scale s + shift,   value_b = mean_n BCE(y_n, p'_n)
 *
 * a = 1 is plain cross-entropy with hard labels; a = 1/2 gives no gradient. The binary form is derived from forward
 * correction of label noise.
 *
 * @example
 * import { slam } from 'onnx-distill/losses';
 * const given = { student: [[0.7, -0.2]], teacher: [[1, -1]], reliability: [[0.5, 0.5]] };
 * const { loss } = await slam({ scale: 1, shift: 0 }).evaluate(given);
 * loss; // 0.693147
 * @source Kontonis et al., NeurIPS 2023 (arXiv 2302.03806)
 */
export function slam(given: SlamOptions = {}): Loss {
  const { scale, shift } = withDefaults(slam.options, given);
  return defineLoss({
    name: 'slam',
    needs: ['student', 'teacher', 'mask', 'reliability'],
    perQuery({ student, teacher, mask, reliability }) {
      const p = student.mul(scale).add(shift).sigmoid();
      const a = reliability.stopGradient();
      const mixed = a.mul(p).add(a.rsub(1).mul(p.rsub(1)));
      const label = teacher.greater(0).float().stopGradient();
      const right = label.mul(mixed).add(label.rsub(1).mul(mixed.rsub(1)));
      return meanOver(right.max(1e-12).log().neg(), mask);
    },
  });
}
slam.options = {
  scale: positive(20, "multiplies the student's scores: 20 for cosines, 1 for dot products"),
  shift: number(-10, SHIFT),
};
