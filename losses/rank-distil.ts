/** @file RankDistil: the order of the teacher's top k; all other candidates form one tail. */
import type { Expr } from '../engine/expressions/expr.ts';
import { defineLoss, type Loss } from './loss.ts';
import { count, positive, withDefaults } from './options.ts';

/** Options of the loss `rank-distil`. */
export interface RankDistilOptions {
  /** Number of top positions of the teacher's order that count; all by default. */
  topK?: number;
  /** Divides the student's scores: 0.05 for cosines. */
  temperature?: number;
  /** Orders drawn per step from the teacher's Plackett-Luce model, in a run; a program gives the noise as `gumbel`. */
  draws?: number;
}

/**
 * Negative log-likelihood of the teacher's order under the student's Plackett-Luce model, first k places:
 *
 *     value_b = -sum_{i <= k} ( s_pi(i) / T - log sum_{j >= i} exp(s_pi(j) / T) )
 *
 * pi is the teacher's order (ListMLE), or, where `gumbel` noise is given, orders drawn from the teacher's own
 * Plackett-Luce model, over which the mean is taken. Ties keep the order of the input.
 *
 * @example
 * import { rankDistil } from 'onnx-distill/losses';
 * const { loss } = await rankDistil({ topK: 1, temperature: 1 }).evaluate({ student: [[0, 0, 0, 0]], teacher: [[1, 9, 2, 3]] });
 * loss; // 1.386294
 * @source Reddi et al., AISTATS 2021, RankDistil
 */
export function rankDistil(given: RankDistilOptions = {}): Loss {
  const { topK = Number.POSITIVE_INFINITY, temperature } = withDefaults(rankDistil.options, given);
  return defineLoss({
    name: 'rank-distil',
    needs: ['student', 'teacher', 'mask'],
    uses: ['gumbel'],
    perQuery({ student, teacher, mask, gumbel }) {
      const m = mask.unsqueeze(1); // [B, 1, N]
      const s = m.greater(0).where(student.mul(1 / temperature).unsqueeze(1), -1e9);
      const noisy = gumbel ? teacher.unsqueeze(1).add(gumbel) : teacher.unsqueeze(1);
      const t = m.greater(0).where(noisy, -1e9).stopGradient(); // [B, S, N]
      // after[i, j]: j is not ranked before i. Ranks are compared, so that nothing needs sorting.
      const [ti, tj] = [t.unsqueeze(3), t.unsqueeze(2)]; // [B, S, N, 1], [B, S, 1, N]
      const index = mask
        .mul(0)
        .add(1)
        .op('CumSum', [mask.ints(1).squeeze(0)])
        .unsqueeze(1); // [B, 1, N]
      const tie = ti.equal(tj).op('And', [index.unsqueeze(2).op('GreaterOrEqual', [index.unsqueeze(3)])]);
      const after = tj.less(ti).op('Or', [tie]); // [B, S, N, N]
      const place = after.float().mul(mask.unsqueeze(1).unsqueeze(2)).sum([3]); // how many are left, itself included
      const counted = Number.isFinite(topK) ? mask.sum([1], true).unsqueeze(1).sub(place).less(topK).float().mul(m) : m;
      const rest = logSumExp(after.where(s.unsqueeze(2), -1e9)); // [B, S, N]
      return rest.sub(s).mul(counted.stopGradient()).mul(m).sum([2]).mean([1]);
    },
  });
}
rankDistil.options = {
  topK: count(undefined, "positions of the teacher's order that count; all by default"),
  temperature: positive(0.05, "divides the student's scores: 0.05 for cosines, 1 for dot products"),
  draws: count(0, "orders drawn a step from the teacher's own model (Gumbel noise); 0 for its order alone", 0),
};

/** log sum exp along the last axis, without overflow. */
function logSumExp(x: Expr): Expr {
  const most = x.reduceMax([-1], true).stopGradient();
  return x.sub(most).exp().sum([-1]).log().add(most.squeeze(-1));
}
