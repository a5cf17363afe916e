/** @file Reads gradients after a step: sums table rows, computes the global norm and the clipping factor. */
import { type SummedRows, sumRows } from '../step/sparse-rows.ts';
import type { Parameter } from '../step/training-step.ts';
import { type AdamWKernel, CHUNK } from './adamw-wasm.ts';

/** Source of a parameter's gradient: a dense array, or rows summed by table row. */
export interface Source {
  /** The possibly nonzero values of the gradient. */
  values: Float32Array;
  /** For tables: the row of `values` for each table row, or -1. */
  slots?: Int32Array;
}

export class Gradients {
  private readonly kernel: AdamWKernel;
  private readonly slots = new Map<Parameter, Int32Array>();

  constructor(kernel: AdamWKernel) {
    this.kernel = kernel;
  }

  /** Takes the gradients from the parameters. @returns one source per parameter, and the global norm */
  take(parameters: readonly Parameter[]): { sources: Source[]; norm: number } {
    const sources = parameters.map((p) => this.source(p));
    const norm = Math.sqrt(sources.reduce((n, { values }) => n + this.squaredNorm(values), 0));
    for (const p of parameters) p.rows = undefined;
    return { sources, norm };
  }

  /** Sums the rows of the same table row. */
  private source(p: Parameter): Source | SummedRows {
    if (p.gradient && !p.rows) return { values: p.gradient };
    const slots = this.slots.get(p) ?? new Int32Array(p.dims[0]);
    this.slots.set(p, slots);
    return sumRows(p.rows ?? [], p.dims, slots);
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
}

/** Factor on gradients that limits their global norm to `clipNorm`. */
export const clipScale = (norm: number, clipNorm: number | undefined): number =>
  clipNorm !== undefined && norm > clipNorm ? clipNorm / (norm + 1e-6) : 1;
