/** @file All selections, by the names that configs use. */
import { all, positiveAware, topK } from './candidates.ts';
import { diverse, farthestFirst } from './diversity.ts';
import { gradientGuided } from './gradient-guided.ts';
import { iwes } from './iwes.ts';
import { rad } from './rad.ts';
import { random } from './random.ts';
import { tgt } from './tgt.ts';
import { marginBalanced } from './topics.ts';
import { entropySampling, leastConfidence, margin } from './uncertainty.ts';

/** Selections of the candidates to train on. */
export const candidateSelections = {
  all,
  'margin-balanced': marginBalanced,
  'positive-aware': positiveAware,
  'top-k': topK,
} as const;

/** Selections of the queries that the teacher scores, under a budget. */
export const querySelections = {
  diverse,
  entropy: entropySampling,
  'farthest-first': farthestFirst,
  'gradient-guided': gradientGuided,
  iwes,
  'least-confidence': leastConfidence,
  margin,
  rad,
  random,
  tgt,
} as const;

export { kMeans } from '../math/k-means.ts';
export { overlapAt, refreshesAt, refreshNegatives } from './refresh.ts';
export type {
  CandidateSelection,
  QueryInputs,
  QuerySelection,
} from './selection.ts';
export { topicBatches } from './topics.ts';
