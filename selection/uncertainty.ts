/** @file Selects queries of the highest student uncertainty. */
import { eachList, entropy, type ScoreLists, softmax, topTwo } from '../math/numbers.ts';
import { defineQuerySelection, largest, type QuerySelection } from './selection.ts';

export const uncertainties = ['margin', 'entropy', 'least-confidence'] as const;
export type Uncertainty = (typeof uncertainties)[number];

export interface UncertaintyOptions {
  /** Divides the student's scores: 0.05 for cosines, 1 for logits. */
  temperature?: number;
}

/**
 * Uncertainty of a distribution over candidates, from 0 (one candidate has probability 1) to 1:
 *
 *     margin 1 - (p_(1) - p_(2)),  entropy H(p) / log N,  least-confidence 1 - p_(1)
 *
 * 0 for a list of one candidate or none.
 */
export function uncertaintyOf(p: ArrayLike<number>, kind: Uncertainty): number {
  if (p.length < 2) return 0;
  if (kind === 'entropy') return Math.min(1, entropy(p) / Math.log(p.length));
  const { first, second } = topTwo(p);
  return kind === 'margin' ? 1 - (first - second) : 1 - first;
}

/** Uncertainty of each list's softmax. */
export function listUncertainty(lists: ScoreLists, kind: Uncertainty, temperature: number): Float64Array {
  return eachList(lists, (scores) => uncertaintyOf(softmax(scores, temperature), kind));
}

const most = (kind: Uncertainty, temperature = 1): QuerySelection =>
  defineQuerySelection(kind, ['student'], ({ student }, pool, budget) => ({
    indices: largest(pool, listUncertainty(student as ScoreLists, kind, temperature), budget),
  }));

/** Queries of the smallest margin between the two best candidates, p_(1) - p_(2). */
export const margin = ({ temperature }: UncertaintyOptions = {}): QuerySelection => most('margin', temperature);

/** Queries of the largest entropy, divided by log N so that lists of different lengths are comparable. */
export const entropySampling = ({ temperature }: UncertaintyOptions = {}): QuerySelection =>
  most('entropy', temperature);

/** Queries of the smallest p_(1). */
export const leastConfidence = ({ temperature }: UncertaintyOptions = {}): QuerySelection =>
  most('least-confidence', temperature);
