/**
 * @file The learner interface of the training loop (gradients and optimizer, on the host or on a device), and the host learner.
 */

import type { Tensor } from '../engine/graph/tensor.ts';
import type { SessionOptions } from '../engine/runtime/session.ts';
import { allFinite } from '../math/finite.ts';
import type { StepBatch } from './batches/batches.ts';
import { GradientSum } from './gradient-accumulation.ts';
import { type OptimizerOptions, optimizers } from './optimizers/index.ts';
import { checkProducts, type Numbers, type Optimizer, servedWeights } from './optimizers/optimizer.ts';
import type { HostStep, Parameter, StepResult } from './step/training-step.ts';
import { type HostOptimizer, hostOptimizer } from './updates/host-optimizer.ts';

export interface LearnerStep extends StepResult {
  /** Global norm before clipping; if it is non-finite, no weight has changed. */
  gradientNorm: number;
  /** What the user should know about it. */
  note?: string;
}

/** Weights and the optimizer's arrays by name: `weight:NAME`, of AdamW `first:NAME`, `second:NAME`; and its numbers. */
export type LearnerState = ReadonlyMap<string, Tensor>;

/** Gives the batches of a step of a call, counted from 0: the same ones whenever it is asked. */
export type Draw<B> = (k: number) => Promise<readonly B[]>;

export interface Learner<B = StepBatch> {
  readonly parameters: readonly Pick<Parameter, 'name' | 'dims'>[];
  /** Updates made so far. */
  updates: number;
  /**
   * One update by the mean gradient of some batches.
   * @param first number of the first batch: decides dropout's masks
   */
  step(batches: readonly B[], first: number, learningRate: number): Promise<LearnerStep>;
  /** Steps that it would like to make in one call; 1 where absent. */
  readonly ahead?: number;
  /**
   * Several updates in one call, one for each learning rate. They end with the first whose gradient norm is not finite,
   * and before one whose batches cannot be drawn; that error is the next call's.
   * @param draw the batches of the call's step k; may be asked again
   * @returns one entry for each step that was made
   */
  steps?(draw: Draw<B>, first: number, learningRates: readonly number[]): Promise<LearnerStep[]>;
  weights(): Promise<Map<string, Tensor>>;
  /** Replaces weights by name. */
  setWeights(weights: ReadonlyMap<string, Tensor>): Promise<void>;
  state(): Promise<LearnerState>;
  restore(state: LearnerState, updates: number): Promise<void>;
  /**
   * The first non-finite value of a step with the current weights, if it can be found: a value of the graph, or the gradient of a
   * weight.
   */
  notFinite(batches: readonly B[], first: number): Promise<string | undefined>;
  release(): Promise<void>;
}

/** Gradients from a step on the host, the optimizer over plain arrays. */
export class HostLearner<B = StepBatch> implements Learner<B> {
  readonly parameters: readonly Parameter[];
  private readonly host: HostStep<B>;
  private readonly optimizer: HostOptimizer;
  private readonly rule: Optimizer;
  private sums: GradientSum | undefined;

  /** @param session options of rules that multiply matrices (Muon): their threads */
  constructor(host: HostStep<B>, options: OptimizerOptions = {}, session?: SessionOptions) {
    this.host = host;
    this.parameters = host.parameters;
    this.rule = optimizers[options.optimizer ?? 'adamw'](options);
    checkProducts(this.rule, host.parameters);
    this.optimizer = hostOptimizer(host.parameters, options, session);
  }

  get updates(): number {
    return this.optimizer.steps;
  }

  async step(batches: readonly B[], first: number, learningRate: number): Promise<LearnerStep> {
    if (batches.length > 1) checkProducts(this.rule, this.parameters, true);
    if (batches.length > 1) this.sums ??= new GradientSum(this.parameters);
    const sums = batches.length > 1 ? this.sums : undefined;
    const share = 1 / batches.length;
    const whole: StepResult = { loss: 0, terms: [] };
    for (const [i, batch] of batches.entries()) {
      const { loss, terms } = await this.host.run(batch, first + i);
      sums?.add(share);
      whole.loss += share * loss;
      whole.terms = terms.map((t, k) => (whole.terms[k] ?? 0) + share * t);
    }
    sums?.finish();
    return {
      ...whole,
      gradientNorm: Number.isFinite(whole.loss) ? await this.optimizer.step(learningRate) : Number.NaN,
    };
  }

  async weights(): Promise<Map<string, Tensor>> {
    const { served } = this.rule;
    return new Map(
      this.parameters.map((p) => {
        const state = served && this.optimizer.state.get(p.name)?.[served.state];
        return [p.name, { dtype: 'float32', dims: p.dims, data: servedWeights(this.rule, p.data, state) }];
      }),
    );
  }

  async setWeights(weights: ReadonlyMap<string, Tensor>): Promise<void> {
    for (const p of this.parameters) {
      const given = weights.get(p.name);
      if (!given) continue;
      p.data.set(given.data as Float32Array);
      for (const [name, start] of Object.entries(this.rule.state(p)))
        if (start === 'weights') this.optimizer.state.get(p.name)?.[name].set(p.data);
    }
  }

  async state(): Promise<LearnerState> {
    const tensors = new Map<string, Tensor>(numbersToState(this.optimizer.numbers));
    for (const p of this.parameters)
      for (const [kind, data] of Object.entries(this.arrays(p)))
        tensors.set(`${kind}:${p.name}`, { dtype: 'float32', dims: p.dims, data });
    return tensors;
  }

  async restore(state: LearnerState, updates: number): Promise<void> {
    for (const p of this.parameters)
      for (const [kind, data] of Object.entries(this.arrays(p)))
        data.set(state.get(`${kind}:${p.name}`)?.data as Float32Array);
    Object.assign(this.optimizer.numbers, numbersOfState(state));
    this.optimizer.steps = updates;
  }

  private arrays(p: Parameter): Readonly<Record<string, Float32Array>> {
    return { weight: p.data, ...this.optimizer.state.get(p.name) };
  }

  async notFinite(batches: readonly B[], first: number): Promise<string | undefined> {
    for (const [i, batch] of batches.entries()) {
      const found = await this.host.inspect?.(batch, first + i);
      if (found) return found;
    }
    const name = this.parameters.find((p) => p.gradient && !allFinite(p.gradient))?.name;
    return name && `the gradient of '${name}'`;
  }

  async release(): Promise<void> {
    await this.optimizer.release();
    await this.host.release();
  }
}

const NUMBER = 'number:';

/** An optimizer's scalars as tensors of the state. */
export const numbersToState = (numbers: Numbers): [string, Tensor][] =>
  Object.entries(numbers).map(([name, value]) => [
    NUMBER + name,
    { dtype: 'float64', dims: [], data: Float64Array.of(value) },
  ]);

export const numbersOfState = (state: LearnerState): Numbers =>
  Object.fromEntries(
    [...state].flatMap(([name, { data }]) =>
      name.startsWith(NUMBER) ? [[name.slice(NUMBER.length), Number(data[0])]] : [],
    ),
  );
