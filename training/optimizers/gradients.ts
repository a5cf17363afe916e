/** @file The gradients that parameters hold after a step: rows of tables added up, the global norm, clipping. */
import { type SummedRows, sumRows } from '../step/sparse-rows.ts';
import type { Parameter } from '../step/training-step.ts';
import { type AdamWKernel, CHUNK } from './adamw-wasm.ts';

/** Where a parameter's gradient is read from: as a whole, or from rows added up by table row. */
export interface Source {
  /** Numbers of the gradient that may differ from 0. */
  values: Float32Array;
  /** For tables: which row of `values` a table row is, or -1. */
  slots?: Int32Array;
}

export class Gradients {
  private readonly kernel: AdamWKernel;
  private readonly slots = new Map<Parameter, Int32Array>();

  constructor(kernel: AdamWKernel) {
    this.kernel = kernel;
  }

  /** Takes the gradients from the parameters. @returns one source a parameter, and their global norm */
  take(parameters: readonly Parameter[]): { sources: Source[]; norm: number } {
    const sources = parameters.map((p) => this.source(p));
    const norm = Math.sqrt(sources.reduce((n, { values }) => n + this.squaredNorm(values), 0));
    for (const p of parameters) p.rows = undefined;
    return { sources, norm };
  }

  /** Rows of the same table row are added up. */
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

/** What gradients are multiplied by so that their global norm is at most `clipNorm`. */
export const clipScale = (norm: number, clipNorm: number | undefined): number =>
  clipNorm !== undefined && norm > clipNorm ? clipNorm / (norm + 1e-6) : 1;
