/** @file Sequential Attention: chooses features one after another by a softmax mask that is trained together with the model. */
import { InputError } from '../common/errors.ts';
import type { Random } from './random.ts';

/** How many of which features are chosen. */
export interface SequentialOptions {
  /** d, how many there are. */
  features: number;
  /** k, how many are chosen. */
  keep: number;
  /** How many are chosen at the end of a phase; divides k. */
  step?: number;
  /** Gradients that decide a phase. */
  rounds?: number;
  /** Gradients before the first phase, with a mask of ones: the model learns all features first. */
  warmup?: number;
  /** Change of the logit with the largest slope by one gradient. */
  learningRate?: number;
  /** Draws the logits' start. */
  random: Random;
}

/**
 * The state of a choice. Each step of the model's training asks for the `mask`, multiplies the features by it, and gives the gradient of
 * its loss by the mask to `update`:
 *
 *     mask = softmax(w over the features that are not chosen) + 1 for those that are
 *
 * At the end of a phase, when the logits w have been trained under the mask, the largest `step` of them are chosen and all logits are
 * drawn anew. (The authors' code compares the phase with |S| where |S| / step is meant, and makes its first choice before any gradient:
 * here neither.) For linear regression the order is that of Orthogonal Matching Pursuit.
 *
 * @source Yasuda, Bateni, Chen, Fahrbach, Fu, Mirrokni, ICLR 2023 (arXiv 2209.14881)
 */
export class SequentialAttention {
  /** The features chosen so far, in order. */
  readonly chosen: number[] = [];
  private readonly logits: Float64Array;
  private readonly options: Required<SequentialOptions>;
  private done = 0;
  /** Largest slope of a logit in this phase. */
  private largest = 0;

  /** @throws InputError where more are asked for than there are, or `step` does not divide `keep` */
  constructor(options: SequentialOptions) {
    const { features, keep, step = 1 } = options;
    const whole = [features, keep, step].every((n) => Number.isInteger(n) && n > 0);
    if (!whole || keep > features || keep % step)
      throw new InputError({
        code: 'select.sequential-attention',
        subject: `${keep} of ${features} features, ${step} at a time`,
        expected: 'at most as many as there are, a multiple of those chosen at a time',
        remedy: 'choose another number',
      });
    this.options = { step, rounds: 20, warmup: 20, learningRate: 0.3, ...options };
    this.logits = new Float64Array(features);
    this.draw();
  }

  /** Gradients that the whole choice takes. */
  get steps(): number {
    const { keep, step, rounds, warmup } = this.options;
    return warmup + (keep / step) * rounds;
  }

  get finished(): boolean {
    return this.chosen.length >= this.options.keep;
  }

  /** [d] what features are multiplied by. Its sum is 1 + |S| until the last choice. */
  mask(): Float64Array {
    const { features, warmup } = this.options;
    if (this.done < warmup) return new Float64Array(features).fill(1);
    const mask = this.shares();
    for (const i of this.chosen) mask[i] = 1;
    return mask;
  }

  /** @param gradient [d] of the loss with respect to the mask */
  update(gradient: ArrayLike<number>): void {
    const { rounds, warmup, learningRate, step, keep } = this.options;
    if (this.finished) return;
    this.done++;
    if (this.done <= warmup) return;
    const p = this.shares();
    let mean = 0;
    for (let i = 0; i < p.length; i++) mean += p[i] * gradient[i];
    const slope = p.map((share, i) => share * (gradient[i] - mean));
    // The largest of the phase: a mask under which the model has learned the best feature moves no further.
    this.largest = slope.reduce((m, s) => Math.max(m, Math.abs(s)), this.largest);
    const rate = this.largest > 0 ? learningRate / this.largest : 0;
    for (let i = 0; i < p.length; i++) this.logits[i] -= rate * slope[i];
    if ((this.done - warmup) % rounds) return;
    const open = Array.from(this.logits.keys()).filter((i) => !this.chosen.includes(i));
    open.sort((a, b) => this.logits[b] - this.logits[a]);
    for (const feature of open.slice(0, Math.min(step, keep - this.chosen.length))) this.chosen.push(feature);
    this.draw();
  }

  /** Softmax over the features that are not chosen; 0 for those that are. */
  private shares(): Float64Array {
    const open = this.logits.map((w, i) => (this.chosen.includes(i) ? Number.NEGATIVE_INFINITY : w));
    const most = open.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    if (most === Number.NEGATIVE_INFINITY) return new Float64Array(open.length);
    const e = open.map((w) => Math.exp(w - most));
    const sum = e.reduce((a, b) => a + b, 0);
    return e.map((v) => v / sum);
  }

  private draw(): void {
    this.largest = 0;
    for (let i = 0; i < this.logits.length; i++) this.logits[i] = START * this.options.random.normal();
  }
}

/** Deviation of logits at the start of a phase. */
const START = 1e-5;
