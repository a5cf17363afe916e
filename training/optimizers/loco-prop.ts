/** @file LocoProp: each matrix of a product solves a small regression of its own by a few local steps. */
import type { Expr } from '../../engine/expressions/expr.ts';
import type { ProductForm } from '../step/products.ts';
import { adamW } from './adamw.ts';
import type { Optimizer, OptimizerSettings, ParameterShape, RuleInputs } from './optimizer.ts';

/** Local steps, and gamma, the step of the activations. */
const STEPS = 10;
const GAMMA = 10;
/** RMSprop of the local steps: its decay, and what is added to the root. */
const [DECAY, EPS] = [0.9, 1e-5];

/** Local rates fall to a quarter. */
const share = (k: number): number => Math.max(1 - k / STEPS, 0.25);

/**
 * The target of a product A = x W + b is A* = A - gamma dL/dA (-S), or f(A) - gamma dL/dA behind its activation f (-M). From the
 * gradient g = x^T dL/dA and the products' inputs alone, since x and the targets stay as they were in the one forward pass:
 *
 *     local gradient = gamma g + x^T (x (W_k - W_0))                        -S
 *                      gamma g + x^T (f(A + x (W_k - W_0)) - f(A))           -M
 *
 * and W_(k+1) = W_k - lr max(1 - k / 10, 1 / 4) RMSprop(local gradient), ten times; the mean squares are kept from step to step. The
 * first local gradient is that of the loss times gamma. Both are the same where no activation follows: of an encoder's products, -M
 * differs in the first of each feed-forward network. Tables, vectors and the projection use AdamW.
 *
 * The cost: twenty products of the size of the forward pass' for each matrix and step.
 *
 * @source Amid, Anil and Warmuth, AISTATS 2022 (arXiv 2106.06199); their RMSprop has a momentum of 0.999, this has none
 */
const locoProp =
  (kind: 's' | 'm') =>
  (settings: OptimizerSettings = {}): Optimizer => {
    const rest = adamW(settings);
    const solves = (p: ParameterShape): p is ParameterShape & { product: ProductForm } => !!p.product && !p.table;
    return {
      name: `locoprop-${kind}`,
      rateAdvice: "about a fifth of AdamW's (e.g. 5e-5), since a step has ten local ones",
      readsProducts: true,
      state: (p) => (solves(p) ? { squares: 'zeros' } : rest.state(p)),
      elementwise: (p) => !solves(p),
      factors: (step, learningRate, numbers) => ({ ...rest.factors(step, learningRate, numbers), plain: learningRate }),
      update(p, inputs) {
        const { weights, gradient, state, factors, keep, product } = inputs;
        if (!solves(p)) return rest.update(p, inputs);
        if (!product) throw new Error(`the inputs of the products of '${p.name}' are not given`);
        const start = gradient.mul(GAMMA);
        let moved = weights;
        let { squares } = state;
        for (let k = 0; k < STEPS; k++) {
          const local = k ? start.add(pull(kind, p.product, product, moved.sub(weights))) : start;
          squares = squares.mul(DECAY).add(local.square().mul(1 - DECAY));
          moved = moved.sub(local.div(squares.sqrt().add(EPS)).mul(factors.plain.mul(share(k))));
        }
        return { weights: moved.sub(weights).add(weights.mul(keep)), state: { squares } };
      },
    };
  };

/** The part of the local gradient that grows with the distance from the start. */
function pull(
  kind: 's' | 'm',
  form: ProductForm,
  { x, before }: NonNullable<RuleInputs['product']>,
  change: Expr,
): Expr {
  const shift = x.matmul(form.turned ? change.transpose(1, 0) : change);
  const { link } = form;
  const f = (a: Expr): Expr =>
    a.op(link?.op ?? 'Identity', [], link?.approximate ? { approximate: link.approximate } : {});
  const residual = kind === 'm' && link && before ? f(before.add(shift)).sub(f(before)) : shift;
  return form.turned ? residual.transpose(1, 0).matmul(x) : x.transpose(1, 0).matmul(residual);
}

/** LocoProp with squared local losses. */
export const locoPropS = locoProp('s');
/** LocoProp with the matching losses of the activations. */
export const locoPropM = locoProp('m');
