/** @file Gradient accumulation: combines the gradients of several batches into one update. */
import type { Parameter } from './step/training-step.ts';

/** Weighted sums of the batches' gradients; `finish` hands them to the optimizer. */
export class GradientSum {
  private readonly parameters: readonly Parameter[];
  private readonly sums: readonly (Float32Array | undefined)[];
  private rows: NonNullable<Parameter['rows']>[];

  constructor(parameters: readonly Parameter[]) {
    this.parameters = parameters;
    this.sums = parameters.map((p) => p.gradient && new Float32Array(p.gradient.length));
    this.rows = parameters.map(() => []);
  }

  /** Adds share x the gradients that the parameters hold. @param share 1 / batches for the mean of their losses */
  add(share: number): void {
    for (const [i, p] of this.parameters.entries()) {
      const sum = this.sums[i];
      if (sum && p.gradient) for (let k = 0; k < sum.length; k++) sum[k] += share * p.gradient[k];
      for (const { indices, rows } of p.rows ?? [])
        this.rows[i].push({ indices, rows: Float32Array.from(rows, (r) => share * r) });
    }
  }

  /** Returns the sums and resets them to zero. */
  finish(): void {
    for (const [i, p] of this.parameters.entries()) {
      const sum = this.sums[i];
      if (sum && p.gradient) {
        p.gradient.set(sum);
        sum.fill(0);
      }
      if (this.rows[i].length) p.rows = this.rows[i];
    }
    this.rows = this.parameters.map(() => []);
  }
}
