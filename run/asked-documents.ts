/** @file Which documents a language model is asked about, and which queries it is shown: for the stage and for its estimate. */
import type { Config } from '../config/config.ts';
import type { Dataset } from '../data/dataset.ts';
import { Random } from '../math/random.ts';
import { trainingQueries } from './data.ts';

/**
 * Documents in random order, so that a budget that covers a part of them covers all of the corpus evenly.
 * @returns positions of documents, and of the queries that are examples
 */
export function askedDocuments(
  { count, each, examples }: Pick<NonNullable<Config['generate']>, 'count' | 'each' | 'examples'>,
  { seed, data: options }: Pick<Config, 'seed' | 'data'>,
  data: Dataset,
): { documents: Int32Array; examples: number[] } {
  const random = Random.of(seed, 'written queries');
  const order = random.shuffle(Int32Array.from({ length: data.documents.length }, (_, i) => i));
  // Made queries are no examples of what people ask.
  const known = data.made ? [] : trainingQueries({ data: options }, data);
  return {
    documents: order.subarray(0, Math.ceil(count / each)),
    examples: [...random.shuffle(Int32Array.from(known))].slice(0, examples),
  };
}
