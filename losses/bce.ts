/** @file Pointwise distillation: each candidate's probability of being relevant. */
import { defineLoss, type Loss, meanOver } from './loss.ts';
import { number, positive, SHIFT, withDefaults } from './options.ts';

/** Options of the loss `bce`. */
export interface BCEOptions {
  /** Divides the teacher's logits. */
  temperature?: number;
  /** Multiplies the student's scores: 1 for dot products, about 20 for cosines. */
  scale?: number;
  /** Added to the scaled scores: 0 for dot products, about -10 for cosines, where 0 does not mean a probability of 1/2. */
  shift?: number;
}

/**
 * Binary cross-entropy with the teacher's probability as target, mean over a query's candidates.
 *
 *     value_b = mean_n( softplus(z_n) - sigmoid(t_n / T) z_n ),  z = scale s + shift
 *
 * @example
 * import { bce } from 'onnx-distill/losses';
 * const { loss } = await bce({ scale: 1, shift: 0 }).evaluate({ student: [[0, 0]], teacher: [[3, -2]] });
 * loss; // 0.693147
 * @source the pointwise option of score matching, Kim et al. 2023 (arXiv 2301.12005); the shift is Zhai et al., ICCV 2023 (arXiv
 * 2303.15343)
 */
export function bce(given: BCEOptions = {}): Loss {
  const { temperature, scale, shift } = withDefaults(bce.options, given);
  return defineLoss({
    name: 'bce',
    needs: ['student', 'teacher', 'mask'],
    perQuery({ student, teacher, mask }) {
      const z = student.mul(scale).add(shift);
      const target = teacher
        .mul(1 / temperature)
        .sigmoid()
        .stopGradient();
      return meanOver(softplus(z).sub(target.mul(z)), mask);
    },
  });
}
bce.options = {
  temperature: positive(1, "divides the teacher's logits"),
  scale: positive(20, "multiplies the student's scores: 20 for cosines, 1 for dot products"),
  shift: number(-10, SHIFT),
};

/** log(1 + e^x) without overflow: max(x, 0) + log(1 + e^-|x|). */
export const softplus = (x: Parameters<Loss['perQuery']>[0]['student']) =>
  x.relu().add(x.abs().neg().exp().add(1).log());
