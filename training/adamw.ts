/** @file AdamW over plain arrays: decoupled decay, global norm clipping, rows of tables gathered before the step. */
import { adamWKernel, CHUNK } from './adamw-kernel.ts';
import type { Parameter } from './plan.ts';
import { sumRows } from './rows.ts';

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
  /** Updates made so far. */
  steps = 0;

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

  /** Applies the gradients that the parameters hold. @returns their global norm before clipping */
  step(learningRate: number): number {
    const sources = this.parameters.map((p) => this.source(p));
    const norm = Math.sqrt(sources.reduce((n, { values }) => n + squaredNorm(values), 0));
    for (const p of this.parameters) p.rows = undefined;
    // A norm that is not finite must not reach the weights: the caller decides what to do.
    if (!Number.isFinite(norm)) return norm;
    const { betas, eps, weightDecay, decayNormsAndBiases, clipNorm } = this.options;
    const scale = clipNorm !== undefined && norm > clipNorm ? clipNorm / (norm + 1e-6) : 1;
    this.steps++;
    const rate = learningRate / (1 - betas[0] ** this.steps);
    const correction = Math.sqrt(1 - betas[1] ** this.steps);
    for (const [i, p] of this.parameters.entries()) {
      const decay = p.dims.length > 1 || decayNormsAndBiases ? 1 - learningRate * weightDecay : 1;
      const [b1, b2] = betas;
      this.update(p, sources[i], [scale, b1, 1 - b1, b2, 1 - b2, rate, correction, eps, decay]);
    }
    return norm;
  }

  private update(p: Parameter, source: Source, factors: readonly number[]): void {
    const { first, second } = this.moments.get(p.name) as Moments;
    const { kernel } = this;
    const decay = Math.fround(factors[factors.length - 1]);
    for (let from = 0; from < p.data.length; from += CHUNK) {
      const to = Math.min(p.data.length, from + CHUNK);
      // Rows that no text has read have no gradient and no moments: the update is the decay alone.
      if (
        source.slots &&
        untouched(source.slots, p.dims[1], from, to) &&
        isZero(first, from, to) &&
        isZero(second, from, to)
      ) {
        for (let i = from; i < to; i++) p.data[i] *= decay;
        continue;
      }
      kernel.parameter.set(p.data.subarray(from, to));
      kernel.first.set(first.subarray(from, to));
      kernel.second.set(second.subarray(from, to));
      if (source.slots) copyRows(source.values, source.slots, p.dims[1], from, to, kernel.gradient);
      else kernel.gradient.set(source.values.subarray(from, to));
      kernel.run(to - from, factors);
      p.data.set(kernel.parameter.subarray(0, to - from), from);
      first.set(kernel.first.subarray(0, to - from), from);
      second.set(kernel.second.subarray(0, to - from), from);
    }
  }

  /** Rows of the same table row are added up. */
  private source(p: Parameter): Source {
    if (p.gradient && !p.rows) return { values: p.gradient };
    const slots = this.slots.get(p) ?? new Int32Array(p.dims[0]);
    this.slots.set(p, slots);
    return sumRows(p.rows ?? [], p.dims, slots);
  }
}

function squaredNorm(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  return sum;
}

/** Whether no row with numbers in from..to has a gradient. */
function untouched(slots: Int32Array, width: number, from: number, to: number): boolean {
  for (let row = Math.floor(from / width); row * width < to; row++) if (slots[row] >= 0) return false;
  return true;
}

function isZero(values: Float32Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (values[i] !== 0) return false;
  return true;
}

/** The numbers from..to of a table whose rows are in `values` where they are not 0. */
function copyRows(
  values: Float32Array,
  slots: Int32Array,
  width: number,
  from: number,
  to: number,
  into: Float32Array,
): void {
  into.fill(0, 0, to - from);
  for (let row = Math.floor(from / width); row * width < to; row++) {
    if (slots[row] < 0) continue;
    const [begin, end] = [Math.max(from, row * width), Math.min(to, (row + 1) * width)];
    const shift = (slots[row] - row) * width;
    into.set(values.subarray(begin + shift, end + shift), begin - from);
  }
}
