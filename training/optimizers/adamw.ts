/** @file AdamW over plain arrays: decoupled decay, global norm clipping, rows of tables gathered before the step. */

import { sumRows } from '../step/sparse-rows.ts';
import type { Parameter } from '../step/training-step.ts';
import { adamWKernel, CHUNK } from './adamw-wasm.ts';

export interface AdamWOptions {
  betas?: readonly [number, number];
  eps?: number;
  weightDecay?: number;
  /** Whether biases and normalisation scales (parameters of one dimension) decay too. */
  decayNormsAndBiases?: boolean;
  /** The gradients' global norm is scaled down to this; no clipping where absent. */
  clipNorm?: number;
}

/** Moments of one parameter, as saved and restored. */
export interface Moments {
  first: Float32Array;
  second: Float32Array;
}

/** Where a parameter's gradient is read from: as a whole, or from rows added up by table row. */
interface Source {
  /** Numbers of the gradient that may differ from 0. */
  values: Float32Array;
  /** For tables: which row of `values` a table row is, or -1. */
  slots?: Int32Array;
}

/**
 * Adam with decoupled weight decay: p <- p - lr (decay p + m^ / (sqrt v^ + eps)), in float32.
 * @source Loshchilov and Hutter 2019 (arXiv 1711.05101); figures equal torch.optim.AdamW's
 */
export class AdamW {
  readonly moments: ReadonlyMap<string, Moments>;
  private readonly parameters: readonly Parameter[];
  private readonly options: Required<Omit<AdamWOptions, 'clipNorm'>> & Pick<AdamWOptions, 'clipNorm'>;
  private readonly kernel = adamWKernel();
  private readonly slots = new Map<Parameter, Int32Array>();
  /** Rows of a table that have moments. */
  private readonly moved = new Map<Parameter, Uint8Array>();
  private made = 0;

  constructor(parameters: readonly Parameter[], options: AdamWOptions = {}) {
    this.parameters = parameters;
    this.options = {
      betas: options.betas ?? [0.9, 0.999],
      eps: options.eps ?? 1e-8,
      weightDecay: options.weightDecay ?? 0.01,
      decayNormsAndBiases: options.decayNormsAndBiases ?? false,
      clipNorm: options.clipNorm,
    };
    this.moments = new Map(
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

  /** Said after other moments were put in place. */
  set steps(made: number) {
    this.made = made;
    this.moved.clear();
  }

  /** Applies the gradients that the parameters hold. @returns their global norm before clipping */
  step(learningRate: number): number {
    const sources = this.parameters.map((p) => this.source(p));
    const norm = Math.sqrt(sources.reduce((n, { values }) => n + this.squaredNorm(values), 0));
    for (const p of this.parameters) p.rows = undefined;
    // A norm that is not finite must not reach the weights: the caller decides what to do.
    if (!Number.isFinite(norm)) return norm;
    const { betas, eps, weightDecay, decayNormsAndBiases, clipNorm } = this.options;
    const scale = clipNorm !== undefined && norm > clipNorm ? clipNorm / (norm + 1e-6) : 1;
    this.made++;
    const rate = learningRate / (1 - betas[0] ** this.made);
    const correction = Math.sqrt(1 - betas[1] ** this.made);
    for (const [i, p] of this.parameters.entries()) {
      const decay = p.dims.length > 1 || decayNormsAndBiases ? 1 - learningRate * weightDecay : 1;
      const [b1, b2] = betas;
      this.update(p, sources[i], [scale, b1, 1 - b1, b2, 1 - b2, rate, correction, eps, decay]);
    }
    return norm;
  }

  private update(p: Parameter, source: Source, factors: readonly number[]): void {
    const { slots } = source;
    if (!slots) {
      this.updateStretch(p, source.values, 0, 0, p.data.length, factors);
      return;
    }
    const width = p.dims[1];
    const moved = this.movedRows(p);
    const decay = Math.fround(factors[factors.length - 1]);
    for (let row = 0; row < slots.length; ) {
      const slot = slots[row];
      // Rows that no text has ever read have no gradient and no moments: the update is the decay alone.
      if (slot < 0 && !moved[row]) {
        const from = row;
        while (row < slots.length && slots[row] < 0 && !moved[row]) row++;
        if (decay !== 1) this.scale(p.data, decay, from * width, row * width);
        continue;
      }
      const own = slot < 0 ? undefined : source.values;
      this.updateStretch(p, own, slot * width, row * width, (row + 1) * width, factors);
      moved[row++] = 1;
    }
  }

  /** The update of from..to by the gradient that begins at `start` of `values`, or by none. */
  private updateStretch(
    p: Parameter,
    values: Float32Array | undefined,
    start: number,
    from: number,
    to: number,
    factors: readonly number[],
  ): void {
    const { first, second } = this.moments.get(p.name) as Moments;
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

  private squaredNorm(values: Float32Array): number {
    const { kernel } = this;
    let sum = 0;
    for (let at = 0; at < values.length; at += CHUNK) {
      const n = Math.min(CHUNK, values.length - at);
      if (n < CHUNK) kernel.gradient.fill(0);
      kernel.gradient.set(values.subarray(at, at + n));
      sum += kernel.squares(n);
    }
    return sum;
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

  /** A flag for each row of a table: whether its moments are not all 0. Read off them once, then kept. */
  private movedRows(p: Parameter): Uint8Array {
    let moved = this.moved.get(p);
    if (!moved) {
      const { first, second } = this.moments.get(p.name) as Moments;
      const width = p.dims[1];
      moved = Uint8Array.from({ length: p.dims[0] }, (_, row) =>
        Number(!isZero(first, row * width, (row + 1) * width) || !isZero(second, row * width, (row + 1) * width)),
      );
      this.moved.set(p, moved);
    }
    return moved;
  }

  /** Rows of the same table row are added up. */
  private source(p: Parameter): Source {
    if (p.gradient && !p.rows) return { values: p.gradient };
    const slots = this.slots.get(p) ?? new Int32Array(p.dims[0]);
    this.slots.set(p, slots);
    return sumRows(p.rows ?? [], p.dims, slots);
  }
}

function isZero(values: Float32Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (values[i] !== 0) return false;
  return true;
}
