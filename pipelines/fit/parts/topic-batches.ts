/** @file Batches of like queries: the order in which examples are taken. */

import { textsAt } from '../../../data/dataset.ts';
import { kMeans, topicBatches } from '../../../selection/index.ts';
import { embed } from '../../../teachers/teacher.ts';
import { stepExamples } from '../../../training/batches/dual-encoder-batch.ts';
import type { Fit } from './fit.ts';

/**
 * The examples of each batch: queries of few topics, where the options ask for them.
 * @source Hofstätter et al., SIGIR 2021 (arXiv 2104.06967)
 */
export async function topicOrder({
  options: { train },
  inputs: { data, examples, embedder },
  seed,
  time,
  watch,
}: Fit): Promise<((number: number) => number[]) | undefined> {
  if (!train.topics) return undefined;
  const { clusters, perBatch } = train.topics;
  const n = examples.queries.length;
  const batch = Math.min(train.batchSize, n);
  const rows = await time('embed', () =>
    embed(embedder?.teacher)(textsAt(data, Array.from(examples.queries)), 'query', watch),
  );
  const { assignment } = await time('cluster', () => kMeans(rows, { clusters: Math.min(clusters, n), seed }));
  const order = (epoch: number): Int32Array =>
    topicBatches(assignment, { batch, topicsPerBatch: perBatch, seed: seed + EPOCH_STRIDE * epoch }).indices;
  return (number) => stepExamples(n, batch, number, seed, order);
}

/** Seeds of neighbouring runs are neighbours: epochs keep away from them. */
const EPOCH_STRIDE = 1_000_003;
