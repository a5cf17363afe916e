/** @file The end of a run of a sparse student: it is saved, measured from its folder with an inverted index, and reported. */
import { measureSparse } from '../../../evaluation/runs/measure-sparse.ts';
import { type RunReport, runReport, type WrittenReport } from '../../../evaluation/runs/run-report.ts';
import { describeCosts, type SparseCosts } from '../../../evaluation/systems/sparse/sparse-run.ts';
import type { RunContext } from '../../../run/context.ts';
import { stagesMade } from '../../../run/stages/run-log.ts';
import { defineStage, derive, given, type Result } from '../../../run/stages/stage.ts';
import type { Trained } from '../../fit/parts/fit.ts';
import type { TrainingSet } from '../../prepare/training-set.ts';
import { type Evaluating, type Published, REPORT, reportStage } from '../report-stage.ts';
import { sparseCheckpoint } from './save-sparse.ts';

/** What report.json holds in addition. */
type Written = WrittenReport & { sparse: SparseCosts };

/** Saves the student, measures it and its teacher, and writes the report. */
export async function publishSparse(
  run: RunContext,
  { student }: TrainingSet,
  trained: Result<Trained>,
): Promise<Published> {
  const { teacher } = run;
  const config = given(run.config);
  const saved = await run.stage(sparseCheckpoint, { student, trained, data: run.data.training, teacher, config });
  const measured = { trained, saved, data: run.data.test, teacher, config, log: given(run.log) };
  const report = await run.stage(evaluation, measured);
  const whole = derive({ report }, (v): RunReport => ({ ...v.report, stages: stagesMade(run.log) }));
  if (!run.dry) await whole.value();
  return { checkpoint: saved, report: whole };
}

/** The figures of the saved folder. */
const evaluation = defineStage({
  ...reportStage<Written>(),
  options: ['evaluate'],
  unrecorded: ['data.splits', 'losses', 'pipeline', 'seed', 'student', 'teacher', 'train.provider', 'train.threads'],
  async make(options, inputs: Evaluating, tools): Promise<Written> {
    const dataset = inputs.data;
    const { table, costs } = await measureSparse({ ...tools, ...inputs, config: options, dataset });
    const reported = { ...inputs, options, dataset, report: tools.path(REPORT) };
    const written = { ...runReport(reported, table, table.row('teacher')), sparse: costs };
    written.notes.push(describeCosts(costs));
    return written;
  },
});
