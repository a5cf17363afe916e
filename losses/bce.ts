/** @file Pointwise distillation: each candidate's probability of being relevant. */
import { defineLoss, type Loss, meanOver } from './loss.ts';

export interface BCEOptions {
  /** Divides the teacher's logits. */
  temperature?: number;
  /** Multiplies the student's scores: 1 for dot products, about 20 for cosines. */
  scale?: number;
}

/**
 * Binary cross-entropy with the teacher's probability as target, mean over a query's candidates.
 *
 *     value_b = mean_n( softplus(s_n) - sigmoid(t_n / T) s_n )
 *
 * @example
 * import { bce } from 'onnx-distill/losses';
 * const { loss } = await bce().evaluate({ student: [[0, 0]], teacher: [[3, -2]] });
 * loss; // 0.693147
 * @source the pointwise option of score matching, Kim et al. 2023 (arXiv 2301.12005)
 */
export function bce({ temperature = 1, scale = 1 }: BCEOptions = {}): Loss {
  return defineLoss({
    name: 'bce',
    needs: ['student', 'teacher', 'mask'],
    perQuery({ student, teacher, mask }) {
      const z = student.mul(scale);
      const target = teacher
        .mul(1 / temperature)
        .sigmoid()
        .stopGradient();
      return meanOver(softplus(z).sub(target.mul(z)), mask);
    },
  });
}

/** log(1 + e^x) without overflow: max(x, 0) + log(1 + e^-|x|). */
export const softplus = (x: Parameters<Loss['perQuery']>[0]['student']) =>
  x.relu().add(x.abs().neg().exp().add(1).log());
