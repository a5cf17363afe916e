/** @file The queries of the training split. */

import { type Dataset, judgedQueries, unjudgedQueries } from '../../data/dataset.ts';
import type { Config } from '../config/config.ts';

/** Positions of the training split's queries, and of those that no split judges where the config wants them. */
export function trainingQueries(config: Config, dataset: Dataset): number[] {
  const judged = judgedQueries(dataset, config.data.splits.train);
  const limit = config.data.maxQueries ?? Number.POSITIVE_INFINITY;
  if (!config.data.unlabelled || judged.length >= limit) return judged.slice(0, limit);
  return [...judged, ...unjudgedQueries(dataset)].slice(0, limit);
}
