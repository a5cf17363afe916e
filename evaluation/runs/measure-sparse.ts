/** @file Measures a sparse student from its folder with an inverted index, BM25 and the teacher. */
import type { Reporting } from '../../common/progress.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import { openSparseFolder } from '../../models/sparse/sparse-folder.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { cutRun } from '../metrics/evaluate.ts';
import { describeCosts, indexSparse, type SparseCosts, searchSparse } from '../systems/sparse/sparse-run.ts';
import { RunTable } from './run-table.ts';
import type { Saved } from './saved.ts';

/** What measuring a sparse student reads of a run. */
export interface MeasuringSparse extends Reporting {
  config: Options<'data.splits' | 'evaluate' | 'student' | 'teacher' | 'train.provider' | 'train.threads'>;
  dataset: Dataset;
  saved: Saved;
  teacher?: OpenedTeacher;
}

export async function measureSparse(job: MeasuringSparse): Promise<{ table: RunTable; costs: SparseCosts }> {
  const { config, dataset, saved, teacher, watch } = job;
  const table = new RunTable(job);
  const { searched } = table;
  await table.addBm25({ timed: true });
  const { encoder } = await openSparseFolder(saved.folder, { session: await computeOn(config.train) });
  const { costs, run } = await job.time('evaluate', async () => {
    try {
      const index = await indexSparse(encoder, dataset, config.student, watch);
      const found = searchSparse(encoder, index, searched, config.student);
      const chosen = searchSparse(encoder, index, { ...searched, split: table.before.split }, config.student);
      table.decide('student', chosen.run);
      return found;
    } finally {
      await encoder.dispose();
    }
  });
  table.add('student', run, { bytes: saved.bytes, queryMilliseconds: costs.milliseconds.p50 });
  job.note(describeCosts(costs));
  await table.addTeacher(teacher?.teacher, cutRun(run, config.evaluate.depth));
  return { table, costs };
}
