/** @file Measures a re-ranker over token vectors: what it finds compared with the first stage, BM25 and the teacher. */
import type { Reporting } from '../../common/progress.ts';
import type { Options } from '../../config/options.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { openTokenEncoder } from '../../models/multi-vector/token-encoder.ts';
import { readLateFolder } from '../../students/late/late-folder.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { cutRun } from '../metrics/evaluate.ts';
import { nearest, type RunStates, rerankLate } from '../systems/late/rank.ts';
import { medianMilliseconds, TIMED_QUERIES } from '../systems/model-cost.ts';
import { CHOICE_DEPTH, RunTable } from './run-table.ts';
import type { Saved } from './saved.ts';

/** What measuring a re-ranker reads of a run. */
export interface MeasuringLate extends Reporting {
  config: Options<'data.splits' | 'evaluate' | 'student' | 'teacher'>;
  dataset: Dataset;
  states: RunStates;
  saved: Saved;
  teacher?: OpenedTeacher;
}

/** The dense vectors of the embedder, which find the documents that are re-ranked. */
export const FIRST_STAGE = 'embedder';

/** The saved re-ranker over what the first stage finds. @returns the table, and the weight of the cosine in a score where it has one */
export async function measureLate(job: MeasuringLate): Promise<{ table: RunTable; residual?: number }> {
  const { config, dataset: data, states, saved, teacher, watch } = job;
  const { model } = await readLateFolder(saved.folder);
  const table = new RunTable(job);
  const { split: test, depth } = table.searched;
  const found = await job.time('evaluate embedder', () => nearest(states, data, test, depth, watch));
  table.add(FIRST_STAGE, found);
  const chosen = table.chooses ? await nearest(states, data, table.chooses, CHOICE_DEPTH, watch) : found;
  table.decide(FIRST_STAGE, chosen);
  await table.addBm25({ timed: false });
  const top = cutRun(found, config.evaluate.depth);
  const own = await job.time('evaluate', () => rerankLate(model, states, data, top, watch));
  table.decide('student', await rerankLate(model, states, data, cutRun(chosen, CHOICE_DEPTH), watch));
  const queryMilliseconds = await timeOneQuery(saved.folder, data, test, config.student.queryTokens);
  table.add('student', own, { bytes: saved.bytes, queryMilliseconds });
  await table.addTeacher(teacher?.teacher, top);
  return { table, residual: model.weights.get('residual')?.data[0] };
}

/** Median time from a query's text to its token vectors. */
async function timeOneQuery(folder: string, data: Dataset, split: string, maxLength: number): Promise<number> {
  const encoder = await openTokenEncoder(folder);
  try {
    const some = judgedQueries(data, split).slice(0, TIMED_QUERIES);
    return await medianMilliseconds(some, (q) =>
      encoder.encode({ length: 1, text: () => data.queries.text(q) }, { role: 'query', maxLength }, () => {}),
    );
  } finally {
    await encoder.dispose();
  }
}
