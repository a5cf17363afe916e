/**
 * @file The interface of optimizers: the update rule of a parameter in the engine's expressions, for the host and for devices.
 */
import { InputError } from '../../common/errors.ts';
import type { Expr } from '../../engine/expressions/expr.ts';
import type { ProductForm } from '../step/products.ts';

/** Properties of a parameter that a rule can depend on. */
export interface ParameterShape {
  readonly name: string;
  readonly dims: readonly number[];
  /** Whether it is a lookup table and not a matrix of a product. */
  readonly table: boolean;
  /** Of a matrix that products with tokens read, where the step gives their inputs. */
  readonly product?: ProductForm;
}

/** Settings of all optimizers; each ignores those that it does not use. */
export interface OptimizerSettings {
  /** Decay rates of the two moments (AdamW, schedule-free AdamW, Lion, Muon's vectors and tables). */
  betas?: readonly [number, number];
  /** Added to the root of the second moment. */
  eps?: number;
  /** Momentum of SGD and of Muon's matrices. */
  momentum?: number;
  /** Fraction of a weight that decays at a learning rate of 1; 0.01 by default. */
  weightDecay?: number;
  /** Whether biases and normalisation scales (parameters of one dimension) decay too. */
  decayNormsAndBiases?: boolean;
  /** Maximum global norm of gradients; no clipping where absent. */
  clipNorm?: number;
}

/** Scalars that an optimizer carries from step to step in addition to its arrays; saved with the state. */
export type Numbers = Record<string, number>;

/** Inputs of a rule for one parameter, or for a part of one if the rule is elementwise. */
export interface RuleInputs {
  weights: Expr;
  /** The gradient after clipping. */
  gradient: Expr;
  /** By the names of `state`. */
  state: Readonly<Record<string, Expr>>;
  /** The step's numbers, by the names of `factors`. */
  factors: Readonly<Record<string, Expr>>;
  /** 1 - learning rate x weight decay where the parameter decays, else 1: a number, or one for each weight. */
  keep: Expr;
  /** The weight decay where the parameter decays, else 0. */
  decay: Expr;
  /** Where the rule reads them: norms of all parameters, and of the whole gradient after clipping. */
  norms?: { weights: Expr; gradient: Expr };
  /** Where the rule reads them, of a parameter with `product`: its inputs [tokens, inputs], and the products with their biases. */
  product?: { x: Expr; before?: Expr };
}

export interface Optimizer {
  readonly name: string;
  /** A remedy for configs without a learning rate, where AdamW's default does not suit the rule: then one has to be given. */
  readonly rateAdvice?: string;
  /** Whether the rule does nothing sensible without weight decay. */
  readonly needsDecay?: boolean;
  /** Whether the rule reads global norms: see `RuleInputs.norms`. */
  readonly readsNorms?: boolean;
  /** Whether the rule reads the inputs of products: see `RuleInputs.product`. A step then is one batch. */
  readonly readsProducts?: boolean;
  /** Share of the learning rate that a schedule ends at where a config names none; 0.02 by default. */
  readonly finalShare?: number;
  /** State arrays of a parameter, of its size, with their initial values. */
  state(p: ParameterShape): Readonly<Record<string, 'zeros' | 'weights'>>;
  /** Whether each weight's update depends only on its own gradient and state, so that a parameter can be split anywhere. */
  elementwise(p: ParameterShape): boolean;
  /**
   * Numbers of a step, computed in float64.
   * @param step from 1
   * @param numbers may be read and changed
   */
  factors(step: number, learningRate: number, numbers: Numbers): Record<string, number>;
  /** The weights and state after the step. */
  update(p: ParameterShape, inputs: RuleInputs): { weights: Expr; state: Record<string, Expr> };
  /**
   * The weights to evaluate and save, where they differ from those of the gradient: weights + by (state - weights).
   */
  readonly served?: { state: string; by: number };
}

/** Whether weight decay applies: always to matrices and tables, optionally to the others. */
export const decays = (p: Pick<ParameterShape, 'dims'>, { decayNormsAndBiases = false }: OptimizerSettings): boolean =>
  p.dims.length > 1 || decayNormsAndBiases;

/** Computes the weights to evaluate and save from the trained weights and the state. */
export function servedWeights(
  { served }: Optimizer,
  weights: Float32Array,
  state: Float32Array | undefined,
): Float32Array {
  return served && state ? weights.map((w, i) => w + served.by * (state[i] - w)) : weights.slice();
}

/** @throws InputError where a rule reads the inputs of products, and the step does not give them or is made of several batches */
export function checkProducts(
  { name, readsProducts }: Optimizer,
  parameters: readonly Pick<ParameterShape, 'product'>[],
  accumulates = false,
): void {
  if (!readsProducts || (parameters.some((p) => p.product) && !accumulates)) return;
  throw new InputError({
    code: 'train.products',
    subject: `'train.optimizer: ${name}' reads the inputs of an encoder's products, which this training does not give`,
    expected: 'a dual-encoder with a transformer, one batch a step (train.accumulate 1), without train.gradCacheChunk',
    remedy: 'choose another optimizer, e.g. adamw or muon',
  });
}
