/** @file Muon: orthogonalized momentum for hidden matrices, AdamW for the rest. */
import type { Expr } from '../../engine/expressions/expr.ts';
import { adamW } from './adamw.ts';
import type { Optimizer, OptimizerSettings, ParameterShape } from './optimizer.ts';

/** Coefficients of the quintic iteration, and the number of iterations. */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const STEPS = 5;

/**
 * Hidden matrices (two dimensions of at least 2, no table, not the learned projection) move along the orthogonal factor of
 * their momentum:
 *
 *     m <- mu m + (1 - mu) g,  u = (1 - mu) g + mu m
 *     p <- (1 - lr decay) p - 0.2 sqrt(max(rows, columns)) lr orthogonal(u)
 *
 * The factor gives steps the size of AdamW's, so that one learning rate serves both. Tables, vectors and the projection use
 * AdamW. The cost compared with AdamW: 15 products per matrix and step (see `orthogonal`), independent of the batch, and one
 * state array less.
 *
 * @source Jordan et al. 2024 (github.com/KellerJordan/Muon); the factor is Liu et al. 2025 (arXiv 2502.16982), `match_rms_adamw`
 *   of torch.optim.Muon, which uses bfloat16 where this uses float32
 */
export function muon(settings: OptimizerSettings = {}): Optimizer {
  const { momentum: mu = 0.95 } = settings;
  const rest = adamW(settings);
  return {
    name: 'muon',
    state: (p) => (isHidden(p) ? { momentum: 'zeros' } : rest.state(p)),
    elementwise: (p) => !isHidden(p),
    factors: (step, learningRate, numbers) => ({ ...rest.factors(step, learningRate, numbers), plain: learningRate }),
    update(p, inputs) {
      if (!isHidden(p)) return rest.update(p, inputs);
      const { weights, gradient, state, factors, keep } = inputs;
      const momentum = state.momentum.mul(mu).add(gradient.mul(1 - mu));
      const looking = gradient.mul(1 - mu).add(momentum.mul(mu));
      const rate = factors.plain.mul(0.2 * Math.sqrt(Math.max(...p.dims)));
      return { weights: weights.mul(keep).sub(orthogonal(looking, p.dims).mul(rate)), state: { momentum } };
    },
  };
}

/** Whether Muon updates a parameter. */
export const isHidden = ({ name, dims, table }: ParameterShape): boolean =>
  dims.length === 2 && Math.min(...dims) > 1 && !table && name !== 'projection';

/**
 * Approximates U V^T of a matrix U S V^T: singular values end between about 0.7 and 1.2.
 * Newton-Schulz: X <- a X + (b G + c G G) X with G = X X^T, X first scaled to norm 1; three products per iteration.
 */
function orthogonal(matrix: Expr, [rows, columns]: readonly number[]): Expr {
  const wide = rows > columns ? matrix.transpose(1, 0) : matrix;
  const norm = wide.square().sum([0, 1], true).sqrt();
  let x = wide.div(norm.max(1e-7));
  for (let k = 0; k < STEPS; k++) {
    const gram = x.matmul(x.transpose(1, 0));
    x = x.mul(A).add(gram.mul(B).add(gram.matmul(gram).mul(C)).matmul(x));
  }
  return rows > columns ? x.transpose(1, 0) : x;
}
