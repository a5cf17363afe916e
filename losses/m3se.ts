/** @file M3SE: matches the margin to the teacher's hardest negative; the other negatives must score below that one. */
import { defineLoss, type Loss } from './loss.ts';
import { positive, withDefaults } from './options.ts';

/** Options of the loss `m3se`. */
export interface M3SEOptions {
  /** Multiplies the student's scores: 1 for dot products, about 20 for cosines. */
  scale?: number;
}

/**
 * With j* the negative that the teacher scores highest (the first of equals):
 *
 *     value_b = ( (t_0 - t_j*) - (s_0 - s_j*) )^2 + sum_j max(0, s_j - s_j*)^2
 *
 * With a single negative this is MarginMSE. A query without a positive or without a negative has the value 0.
 *
 * @example
 * import { m3se } from 'onnx-distill/losses';
 * const { loss } = await m3se({ scale: 1 }).evaluate({ student: [[3, 1, 2.5]], teacher: [[4, 2, 1]] });
 * loss; // 2.25
 * @source Menon et al., ICML 2022, "In defense of dual-encoders for neural ranking", as other implementations have it
 */
export function m3se(given: M3SEOptions = {}): Loss {
  const { scale } = withDefaults(m3se.options, given);
  return defineLoss({
    name: 'm3se',
    needs: ['student', 'teacher', 'mask'],
    perQuery({ student, teacher, mask }) {
      const s = student.mul(scale).mul(mask);
      const t = teacher.mul(mask).stopGradient();
      const first = firstColumn(mask.mul(0).add(1)); // [B, N]
      const negative = mask.mul(first.rsub(1)); // [B, N]
      const hardest = oneHotOfMaximum(negative.greater(0).where(t, -1e30)).mul(negative); // [B, N]
      const at = (x: typeof s): typeof s => x.mul(hardest).sum([1], true); // [B, 1]
      const gap = (x: typeof s): typeof s => x.mul(first).sum([1], true).sub(at(x));
      const valid = mask
        .mul(first)
        .sum([1], true)
        .mul(hardest.sum([1], true)); // [B, 1]
      const above = s.sub(at(s)).mul(negative).relu();
      return gap(t)
        .sub(gap(s))
        .square()
        .add(above.square().sum([1], true))
        .mul(valid)
        .squeeze(1);
    },
  });
}
m3se.options = {
  scale: positive(20, "multiplies the student's scores: 20 for cosines, 1 for dot products"),
};

/** 1 in column 0 of a [B, N] block of ones. */
const firstColumn = (ones: Parameters<Loss['perQuery']>[0]['mask']) =>
  ones
    .op('CumSum', [ones.ints(1).squeeze(0)])
    .equal(1)
    .float();

/** 1 at each row's maximum, the first of equals. */
const oneHotOfMaximum = (x: Parameters<Loss['perQuery']>[0]['mask']) => {
  const hit = x.equal(x.reduceMax([1], true)).float();
  return hit
    .mul(
      hit
        .op('CumSum', [hit.ints(1).squeeze(0)])
        .equal(1)
        .float(),
    )
    .stopGradient();
};
