/** @file What an optimizer is: the rule by which a parameter moves, in the engine's expressions, for the host and for devices. */
import type { Expr } from '../../engine/expressions/expr.ts';

/** What a rule may decide by. */
export interface ParameterShape {
  readonly name: string;
  readonly dims: readonly number[];
  /** Whether its rows are looked up by index, so that it is not a matrix of a product. */
  readonly table: boolean;
}

/** Settings of every optimizer; what one has no use for is ignored. */
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
  /** The gradients' global norm is scaled down to this; no clipping where absent. */
  clipNorm?: number;
}

/** Numbers that an optimizer carries from step to step besides its arrays; saved with the state. */
export type Numbers = Record<string, number>;

/** What a rule is given of one parameter, or of a part of one where the rule is elementwise. */
export interface RuleInputs {
  weights: Expr;
  /** Already clipped. */
  gradient: Expr;
  /** By the names of `state`. */
  state: Readonly<Record<string, Expr>>;
  /** Numbers of the step, by the names that `factors` gives. */
  factors: Readonly<Record<string, Expr>>;
  /** 1 - learning rate x weight decay where the parameter decays, else 1: a number, or one for each weight. */
  keep: Expr;
  /** The weight decay where the parameter decays, else 0. */
  decay: Expr;
}

export interface Optimizer {
  readonly name: string;
  /** State arrays of a parameter, each as large as it is, and what they begin with. */
  state(p: ParameterShape): Readonly<Record<string, 'zeros' | 'weights'>>;
  /** Whether each weight moves by its own gradient and state alone, so that a parameter can be cut anywhere. */
  elementwise(p: ParameterShape): boolean;
  /**
   * Numbers of a step, worked out in float64.
   * @param step from 1
   * @param numbers may be read and changed
   */
  factors(step: number, learningRate: number, numbers: Numbers): Record<string, number>;
  /** The weights and state after the step. */
  update(p: ParameterShape, inputs: RuleInputs): { weights: Expr; state: Record<string, Expr> };
  /**
   * The weights to evaluate and save, where they are not those that the gradient is taken at: weights + by (state - weights).
   */
  readonly served?: { state: string; by: number };
}

/** Whether weight decay applies: matrices and tables, and the others by choice. */
export const decays = (p: Pick<ParameterShape, 'dims'>, { decayNormsAndBiases = false }: OptimizerSettings): boolean =>
  p.dims.length > 1 || decayNormsAndBiases;

/** Weights that are evaluated and saved, from those that are trained and the state. */
export function servedWeights(
  { served }: Optimizer,
  weights: Float32Array,
  state: Float32Array | undefined,
): Float32Array {
  return served && state ? weights.map((w, i) => w + served.by * (state[i] - w)) : weights.slice();
}
