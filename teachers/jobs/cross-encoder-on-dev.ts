/** @file A cross-encoder on dev candidates: the score that chooses its weights, and the orders that the user had before. */

import type { FirstEncoder } from '../../candidates/first-encoder.ts';
import type { RunControl } from '../../common/progress.ts';
import type { TeacherConfig } from '../../config/teacher.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { Run } from '../../evaluation/metrics/evaluate.ts';
import { type OrdersOnDev, ordersBefore } from '../../evaluation/runs/verdict.ts';
import { listsAsRun } from '../../evaluation/systems/reference-systems.ts';
import { choiceScore, rerank } from '../../evaluation/systems/retrieve.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { type CrossEncoderOptions, crossEncoder } from '../cross-encoder.ts';

/** nDCG@10 of the dev candidates in the saved model's order. */
export async function rankingScore(
  folder: string,
  dev: Examples,
  config: TeacherConfig,
  dataset: Dataset,
  options: CrossEncoderOptions,
  watch: RunControl,
): Promise<number> {
  const teacher = await crossEncoder(folder, options);
  try {
    const run = await rerank(dataset, devRun(dev, config, dataset), teacher, { ...watch, onProgress: undefined });
    return choiceScore(run, dataset, config.dev ?? '');
  } finally {
    await teacher.dispose();
  }
}

/** The dev candidates that decide. */
const devRun = (dev: Examples, { train }: TeacherConfig, dataset: Dataset): Run =>
  listsAsRun({ ...dev, queries: dev.queries.subarray(0, train.devQueries) }, dataset);

/** nDCG@10 of the same candidates in the orders that the user had: of the encoder that training starts from, and of BM25. */
export async function comparedOnDev(
  dev: Examples,
  config: TeacherConfig,
  dataset: Dataset,
  encoder: FirstEncoder | undefined,
  watch: RunControl,
): Promise<Omit<OrdersOnDev, 'teacher'>> {
  const run = devRun(dev, config, dataset);
  const quiet = { ...watch, onProgress: undefined };
  return { queries: run.size, ...(await ordersBefore(run, dataset, config.dev as string, encoder?.teacher, quiet)) };
}
