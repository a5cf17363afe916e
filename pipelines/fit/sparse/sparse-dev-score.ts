/** @file The figure that chooses weights while a sparse student trains: nDCG@10 of the dev split. */
import type { RunControl } from '../../../common/progress.ts';
import type { Options } from '../../../config/options.ts';
import type { Dataset } from '../../../data/dataset.ts';
import { CHOICE_METRIC, means, type Sample } from '../../../evaluation/systems/retrieve.ts';
import { indexSparse, searchSparse } from '../../../evaluation/systems/sparse/sparse-run.ts';
import { sparseEncoderOf } from '../../../students/sparse/open-sparse.ts';
import type { Student, Weights } from '../../../students/student.ts';
import { encodingOf } from '../../../students/student-scores.ts';

/** What is read of a training. */
interface Measured {
  options: Options<'student.documentTokens' | 'student.queryTokens' | 'train'>;
  inputs: { student: Student; dev: Dataset };
  watch: RunControl;
}

/** nDCG@10 of the dev split. @param sample documents that are searched; all by default */
export async function sparseDevScore(
  { options, inputs: { student, dev: dataset }, watch }: Measured,
  weights: Weights,
  split: string,
  sample: Sample | undefined,
): Promise<number> {
  const quiet = { ...watch, onProgress: undefined };
  const encoder = await sparseEncoderOf(student, weights, await encodingOf(options));
  try {
    const index = await indexSparse(encoder, dataset, options.student, quiet, 'float32', sample?.documents);
    const { run } = searchSparse(encoder, index, { dataset, split, depth: 10, sample }, options.student);
    return means(run, dataset, split, [CHOICE_METRIC])[CHOICE_METRIC];
  } finally {
    await encoder.dispose();
  }
}
