/**
 * @file Weighted distillation: weights that make the noisy loss an unbiased estimate of the clean one; and plain error weights.
 */
import { eachList, type ScoreLists, softmax } from '../math/numbers.ts';
import {
  confidenceOf,
  defineWeighting,
  fittedTemperature,
  labelledLists,
  labelledRight,
  toMeanOne,
  type Weighting,
  type WeightingInputs,
} from './weighting.ts';

/**
 * w = 1 / (1 + p (distortion - 1)), so that E[w l(y_noisy)] = l(y): p the probability that the teacher is wrong, distortion =
 * l(wrong label) / l(true label) under the student. A function of the input alone, not of the label that was drawn.
 *
 * @source Iliopoulos et al., NeurIPS 2022 (arXiv 2210.06711)
 */
export const distillationWeight = (p: number, distortion: number): number => 1 / (1 + p * (distortion - 1));

/** Weights and distortions are clipped to these ranges. */
const DISTORTION = [1e-2, 1e2] as const;
const WEIGHT = [0.05, 5] as const;
const clip = (x: number, [low, high]: readonly [number, number]): number => Math.min(high, Math.max(low, x));

export interface NeighbourOptions {
  /** Number of neighbours; ceil(sqrt(labelled queries)) by default. */
  neighbours?: number;
}

interface Estimates {
  /** [n] the teacher's probability of error. */
  error: Float64Array;
  /** [n] l(wrong) / l(true) under the student. */
  distortion: Float64Array;
}

/**
 * For every query the mean over its nearest labelled queries in the plane of (teacher's margin, student's margin), each the
 * difference of the two largest probabilities at a temperature fitted on the labelled queries. The wrong label in a labelled
 * query's distortion is the teacher's best irrelevant candidate.
 */
function neighbourEstimates(inputs: WeightingInputs, neighbours?: number): Estimates {
  const { teacher, student = [], labelled } = inputs;
  const lists: ScoreLists = { offsets: teacher.offsets, scores: student };
  const [tt, ts] = [fittedTemperature(inputs, teacher.scores), fittedTemperature(inputs, student)];
  const x = eachList(teacher, (list) => confidenceOf(list, tt).margin);
  const y = eachList(lists, (list) => confidenceOf(list, ts).margin);
  const known = Array.from(labelled?.queries ?? []);
  const right = labelledRight(inputs);
  const distortionOf = new Map(
    labelledLists(inputs).map(({ from, to, right: truth }) => {
      const p = softmax(
        Float64Array.from({ length: to - from }, (_, k) => student[from + k]),
        ts,
      );
      let wrong = -1;
      for (let c = from; c < to; c++)
        if (!labelled?.relevant[c] && (wrong < 0 || teacher.scores[c] > teacher.scores[wrong])) wrong = c;
      const loss = (c: number): number => -Math.log(Math.max(1e-12, p[c - from]));
      return [from, wrong < 0 ? 1 : clip(loss(wrong) / Math.max(1e-12, loss(truth)), DISTORTION)];
    }),
  );
  const k = Math.min(known.length, neighbours ?? Math.ceil(Math.sqrt(known.length)));
  const nearest = (i: number): number[] => {
    const [found, far]: number[][] = [[], []];
    for (let at = 0; at < known.length; at++) {
      const d = (x[known[at]] - x[i]) ** 2 + (y[known[at]] - y[i]) ** 2;
      if (found.length === k && d >= far[k - 1]) continue;
      let place = found.length;
      while (place > 0 && far[place - 1] > d) place--;
      found.splice(place, 0, at);
      far.splice(place, 0, d);
      if (found.length > k) [found.length, far.length] = [k, k];
    }
    return found;
  };
  const n = teacher.offsets.length - 1;
  const [error, distortion] = [new Float64Array(n), new Float64Array(n)];
  for (let i = 0; i < n; i++)
    for (const at of nearest(i)) {
      error[i] += (1 - right[at]) / k;
      distortion[i] += (distortionOf.get(teacher.offsets[known[at]]) ?? 1) / k;
    }
  return { error, distortion };
}

/**
 * Weighted distillation with error and distortion estimated from labelled neighbours; labelled queries have weight 1. Weights are
 * not scaled, since scaling would bias the mean.
 *
 * The estimator (neighbours, features, clips) is ours; the formula of the weight is an identity.
 */
export const weightedDistillation = ({ neighbours }: NeighbourOptions = {}): Weighting =>
  defineWeighting('weighted-distillation', ['student', 'labelled'], (inputs) => {
    const { error, distortion } = neighbourEstimates(inputs, neighbours);
    const weights = Float32Array.from(error, (p, i) =>
      clip(distillationWeight(p, clip(distortion[i], DISTORTION)), WEIGHT),
    );
    for (const i of Array.from(inputs.labelled?.queries ?? [])) weights[i] = 1;
    return { weights, right: error.map((p) => 1 - p) };
  });

/** w = 1 - p, p from the same neighbours; labelled queries count as right; scaled to mean 1. */
export const errorProbability = ({ neighbours }: NeighbourOptions = {}): Weighting =>
  defineWeighting('error-probability', ['student', 'labelled'], (inputs) => {
    const right = neighbourEstimates(inputs, neighbours).error.map((p) => 1 - p);
    return { weights: knownRight(inputs, right), right };
  });

/** Probabilities as weights, 1 for labelled queries, scaled to mean 1. */
export function knownRight({ labelled }: WeightingInputs, right: Float64Array, power = 1): Float32Array {
  const weights = right.map((p) => p ** power);
  for (const i of Array.from(labelled?.queries ?? [])) weights[i] = 1;
  return toMeanOne(weights);
}
