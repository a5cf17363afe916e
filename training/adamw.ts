/** @file AdamW over plain arrays: decoupled decay, global norm clipping, rows of tables gathered before the step. */
import type { Parameter } from './step-graph.ts';

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

/**
 * Adam with decoupled weight decay: p <- p - lr (decay p + m^ / (sqrt v^ + eps)).
 * @source Loshchilov and Hutter 2019 (arXiv 1711.05101); figures equal torch.optim.AdamW's
 */
export class AdamW {
  readonly moments: ReadonlyMap<string, Moments>;
  private readonly parameters: readonly Parameter[];
  private readonly options: Required<Omit<AdamWOptions, 'clipNorm'>> & Pick<AdamWOptions, 'clipNorm'>;
  /** Whole gradients of the tables that come as rows; only touched rows are ever not zero. */
  private readonly tables = new Map<Parameter, { gradient: Float32Array; touched: Int32Array; count: number }>();
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
    const gradients = this.parameters.map((p) => this.gather(p));
    let sum = 0;
    for (const [i, p] of this.parameters.entries()) sum += squaredNorm(gradients[i], this.tables.get(p), p.dims);
    const norm = Math.sqrt(sum);
    // A norm that is not finite must not reach the weights: the caller decides what to do.
    if (!Number.isFinite(norm)) {
      this.clear();
      return norm;
    }
    const { betas, eps, weightDecay, decayNormsAndBiases, clipNorm } = this.options;
    const scale = clipNorm !== undefined && norm > clipNorm ? clipNorm / (norm + 1e-6) : 1;
    this.steps++;
    const correction1 = 1 - betas[0] ** this.steps;
    const correction2 = Math.sqrt(1 - betas[1] ** this.steps);
    for (const [i, p] of this.parameters.entries()) {
      const { first, second } = this.moments.get(p.name) as Moments;
      const decay = p.dims.length > 1 || decayNormsAndBiases ? 1 - learningRate * weightDecay : 1;
      update(
        p.data,
        gradients[i],
        first,
        second,
        scale,
        betas[0],
        betas[1],
        learningRate / correction1,
        correction2,
        eps,
        decay,
      );
    }
    this.clear();
    return norm;
  }

  /** The whole gradient; rows are added into a table that is zero elsewhere. */
  private gather(p: Parameter): Float32Array {
    if (p.gradient && !p.rows) return p.gradient;
    let table = this.tables.get(p);
    if (!table) {
      table = { gradient: new Float32Array(p.data.length), touched: new Int32Array(p.dims[0]), count: 0 };
      this.tables.set(p, table);
    }
    const width = p.dims[1];
    const seen = new Uint8Array(p.dims[0]);
    for (const { indices, rows } of p.rows ?? [])
      for (let i = 0; i < indices.length; i++) {
        let index = Number(indices[i]);
        if (index < 0) index += p.dims[0];
        if (!seen[index]) {
          seen[index] = 1;
          table.touched[table.count++] = index;
        }
        const from = i * width;
        const to = index * width;
        for (let k = 0; k < width; k++) table.gradient[to + k] += rows[from + k];
      }
    return table.gradient;
  }

  private clear(): void {
    for (const [p, table] of this.tables) {
      const width = p.dims[1];
      for (let i = 0; i < table.count; i++)
        table.gradient.fill(0, table.touched[i] * width, (table.touched[i] + 1) * width);
      table.count = 0;
      p.rows = undefined;
    }
  }
}

function squaredNorm(
  gradient: Float32Array,
  table: { touched: Int32Array; count: number } | undefined,
  dims: readonly number[],
): number {
  let sum = 0;
  if (!table) {
    for (let i = 0; i < gradient.length; i++) sum += gradient[i] * gradient[i];
    return sum;
  }
  const width = dims[1];
  for (let r = 0; r < table.count; r++) {
    const from = table.touched[r] * width;
    for (let i = from; i < from + width; i++) sum += gradient[i] * gradient[i];
  }
  return sum;
}

function update(
  p: Float32Array,
  g: Float32Array,
  m: Float32Array,
  v: Float32Array,
  scale: number,
  beta1: number,
  beta2: number,
  rate: number,
  correction2: number,
  eps: number,
  decay: number,
): void {
  for (let i = 0; i < p.length; i++) {
    const gradient = g[i] * scale;
    const first = m[i] * beta1 + gradient * (1 - beta1);
    const second = v[i] * beta2 + gradient * gradient * (1 - beta2);
    m[i] = first;
    v[i] = second;
    p[i] = p[i] * decay - (rate * first) / (Math.sqrt(second) / correction2 + eps);
  }
}
