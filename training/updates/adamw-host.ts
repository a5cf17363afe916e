/**
 * @file AdamW's CPU back end: the rule of adamw.ts over plain arrays, in WebAssembly; table rows without gradient and moments
 * only decay.
 */

import { BETAS, EPS, WEIGHT_DECAY } from '../optimizers/adamw.ts';
import { decays, type OptimizerSettings } from '../optimizers/optimizer.ts';
import type { Parameter } from '../step/training-step.ts';
import { adamWKernel, CHUNK } from './adamw-wasm.ts';
import { clipScale, Gradients, type Source } from './gradients.ts';
import type { HostOptimizer } from './rule-host.ts';

/** Moments of one parameter, as saved and restored. */
export type Moments = Record<'first' | 'second', Float32Array>;

/**
 * Adam with decoupled weight decay: p <- p - lr (decay p + m^ / (sqrt v^ + eps)), in float32.
 * @source Loshchilov and Hutter 2019 (arXiv 1711.05101); figures equal torch.optim.AdamW's
 */
export class AdamWHost implements HostOptimizer {
  /** Moments by parameter: `first` and `second`. */
  readonly state: ReadonlyMap<string, Moments>;
  readonly numbers = {};
  private readonly parameters: readonly Parameter[];
  private readonly options: OptimizerSettings & Required<Pick<OptimizerSettings, 'betas' | 'eps' | 'weightDecay'>>;
  private readonly kernel = adamWKernel();
  private readonly gradients = new Gradients(this.kernel);
  /** Rows of a table that have moments. */
  private readonly moved = new Map<Parameter, Uint8Array>();
  private made = 0;

  constructor(parameters: readonly Parameter[], options: OptimizerSettings = {}) {
    this.parameters = parameters;
    this.options = {
      ...options,
      betas: options.betas ?? BETAS,
      eps: options.eps ?? EPS,
      weightDecay: options.weightDecay ?? WEIGHT_DECAY,
    };
    this.state = new Map(
      parameters.map((p) => [
        p.name,
        { first: new Float32Array(p.data.length), second: new Float32Array(p.data.length) },
      ]),
    );
  }

  /** Updates made so far. */
  get steps(): number {
    return this.made;
  }

  /** Must be called after the moments were replaced. */
  set steps(made: number) {
    this.made = made;
    this.moved.clear();
  }

  /** Applies the gradients that the parameters hold. @returns their global norm before clipping */
  step(learningRate: number): number {
    const { sources, norm } = this.gradients.take(this.parameters);
    // A non-finite norm must not reach the weights: the caller decides what to do.
    if (!Number.isFinite(norm)) return norm;
    const { betas, eps, weightDecay } = this.options;
    const scale = clipScale(norm, this.options.clipNorm);
    this.made++;
    const rate = learningRate / (1 - betas[0] ** this.made);
    const correction = Math.sqrt(1 - betas[1] ** this.made);
    for (const [i, p] of this.parameters.entries()) {
      const decay = decays(p, this.options) ? 1 - learningRate * weightDecay : 1;
      const [b1, b2] = betas;
      this.update(p, sources[i], [scale, b1, 1 - b1, b2, 1 - b2, rate, correction, eps, decay]);
    }
    return norm;
  }

  async release(): Promise<void> {}

  private update(p: Parameter, source: Source, factors: readonly number[]): void {
    const { slots } = source;
    if (!slots) {
      this.updateSlice(p, source.values, 0, 0, p.data.length, factors);
      return;
    }
    const width = p.dims[1];
    const moved = this.movedRows(p);
    const decay = Math.fround(factors[factors.length - 1]);
    for (let row = 0; row < slots.length; ) {
      const slot = slots[row];
      // Rows that no text has used have no gradient and no moments: only the decay applies.
      if (slot < 0 && !moved[row]) {
        const from = row;
        while (row < slots.length && slots[row] < 0 && !moved[row]) row++;
        if (decay !== 1) this.scale(p.data, decay, from * width, row * width);
        continue;
      }
      const own = slot < 0 ? undefined : source.values;
      this.updateSlice(p, own, slot * width, row * width, (row + 1) * width, factors);
      moved[row++] = 1;
    }
  }

  /** Updates from..to with the gradient that begins at `start` of `values`, or with none. */
  private updateSlice(
    p: Parameter,
    values: Float32Array | undefined,
    start: number,
    from: number,
    to: number,
    factors: readonly number[],
  ): void {
    const { first, second } = this.state.get(p.name) as Moments;
    const { kernel } = this;
    for (let at = from; at < to; at += CHUNK) {
      const n = Math.min(CHUNK, to - at);
      kernel.parameter.set(p.data.subarray(at, at + n));
      kernel.first.set(first.subarray(at, at + n));
      kernel.second.set(second.subarray(at, at + n));
      if (values) kernel.gradient.set(values.subarray(start + at - from, start + at - from + n));
      else kernel.gradient.fill(0, 0, n);
      kernel.run(n, factors);
      p.data.set(kernel.parameter.subarray(0, n), at);
      first.set(kernel.first.subarray(0, n), at);
      second.set(kernel.second.subarray(0, n), at);
    }
  }

  private scale(values: Float32Array, factor: number, from: number, to: number): void {
    const { kernel } = this;
    for (let at = from; at < to; at += CHUNK) {
      const n = Math.min(CHUNK, to - at);
      kernel.parameter.set(values.subarray(at, at + n));
      kernel.scale(n, factor);
      values.set(kernel.parameter.subarray(0, n), at);
    }
  }

  /** A flag per table row: whether its moments are not all 0. Computed once from them, then maintained. */
  private movedRows(p: Parameter): Uint8Array {
    let moved = this.moved.get(p);
    if (!moved) {
      const { first, second } = this.state.get(p.name) as Moments;
      const width = p.dims[1];
      moved = Uint8Array.from({ length: p.dims[0] }, (_, row) =>
        Number(!isZero(first, row * width, (row + 1) * width) || !isZero(second, row * width, (row + 1) * width)),
      );
      this.moved.set(p, moved);
    }
    return moved;
  }
}

function isZero(values: Float32Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (values[i] !== 0) return false;
  return true;
}
