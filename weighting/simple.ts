/** @file Weights that need no labels: equal, by the teacher's confidence, by agreement. */
import { eachList, listOf, mean } from '../math/numbers.ts';
import { lengthOf } from '../math/ragged.ts';
import { agreementOf } from './agreement.ts';
import { confidenceOf, defineWeighting, toMeanOne, type Weighting } from './weighting.ts';

/** Equal weights. */
export const uniform = (): Weighting =>
  defineWeighting('uniform', [], ({ teacher }) => ({ weights: new Float32Array(teacher.offsets.length - 1).fill(1) }));

export interface ConfidenceOptions {
  /** Divides the teacher's scores: 0.05 for cosines, 1 for logits. */
  temperature?: number;
  /** 0 gives equal weights, larger numbers sharpen. */
  power?: number;
}

/**
 * w = (p_(1) - p_(2))^power of the teacher's softmax, scaled to mean 1. Of two candidates this is |2p - 1|.
 *
 * Lists of one candidate get the mean weight of the others.
 */
export const confidence = ({ temperature = 1, power = 1 }: ConfidenceOptions = {}): Weighting =>
  defineWeighting('confidence', [], ({ teacher }) => ({
    weights: toMeanOne(
      skippingShort(
        teacher.offsets,
        eachList(teacher, (list) => confidenceOf(list, temperature).margin ** power),
      ),
    ),
  }));

/** w = (1 - H(softmax(t / T)) / log N)^power, scaled to mean 1. Favours queries with one clear answer. */
export const entropyWeights = ({ temperature = 1, power = 1 }: ConfidenceOptions = {}): Weighting =>
  defineWeighting('entropy', [], ({ teacher }) => ({
    weights: toMeanOne(
      skippingShort(
        teacher.offsets,
        eachList(teacher, (list) => Math.max(0, 1 - confidenceOf(list, temperature).entropy) ** power),
      ),
    ),
  }));

/** w = max(0, Kendall's tau-b of teacher and student), scaled to mean 1; recomputed as the student learns. */
export const agreement = (): Weighting =>
  defineWeighting('agreement', ['student'], ({ teacher, student = [] }) => ({
    weights: toMeanOne(
      skippingShort(
        teacher.offsets,
        eachList(teacher, (list, i) => agreementOf(list, listOf({ offsets: teacher.offsets, scores: student }, i))),
      ),
    ),
  }));

export interface EnsembleOptions {
  /** How fast weights fall with disagreement. */
  lambda?: number;
}

/**
 * w = exp(-lambda v), v the variance between teachers of a candidate's standardised score, mean over the list's candidates;
 * scaled to mean 1. Each teacher's scores are standardised within the list.
 */
export const ensemble = ({ lambda = 1 }: EnsembleOptions = {}): Weighting =>
  defineWeighting('ensemble', ['ensemble'], ({ teacher, ensemble: others = [] }) => ({
    weights: toMeanOne(
      eachList(teacher, (list, i) => {
        const all = [list, ...others.map((scores) => listOf({ offsets: teacher.offsets, scores }, i))].map(standardise);
        const variances = Array.from(list, (_, k) => {
          const own = all.map((m) => m[k]);
          const m = mean(own);
          return mean(own.map((v) => (v - m) ** 2));
        });
        return list.length ? Math.exp(-lambda * mean(variances)) : 1;
      }),
    ),
  }));

/** To mean 0 and variance 1; a constant list to zeros. */
export function standardise(list: Float64Array): Float64Array {
  const m = mean(list);
  const sd = Math.sqrt(mean(list.map((v) => (v - m) ** 2)));
  return list.map((v) => (sd > 1e-12 ? (v - m) / sd : 0));
}

/** Lists that are too short get the mean of the others. */
function skippingShort(offsets: ArrayLike<number>, weights: Float64Array): Float64Array {
  const short = (i: number): boolean => lengthOf(offsets, i) < 2;
  const others = weights.filter((_, i) => !short(i));
  const m = others.length ? mean(others) : 1;
  return weights.map((w, i) => (short(i) ? m : w));
}
