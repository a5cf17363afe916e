/** @file The figures of a re-ranker: what it finds compared with the first stage, BM25 and the teacher. */
import { FIRST_STAGE, measureLate } from '../../evaluation/runs/measure-late.ts';
import { addVerdict, leads, runReport, type WrittenReport } from '../../evaluation/runs/run-report.ts';
import type { RunStates } from '../../evaluation/systems/late/rank.ts';
import { defineStage } from '../../run/stages/stage.ts';
import { type Evaluating, REPORT, reportStage } from '../publish/report-stage.ts';

/** The saved re-ranker over what the first stage finds. */
export const lateEvaluation = defineStage({
  ...reportStage(),
  options: ['evaluate'],
  unrecorded: ['data.splits', 'losses', 'pipeline', 'seed', 'student', 'teacher', 'hybrid'],
  async make(options, inputs: Evaluating & { states: RunStates }, tools): Promise<WrittenReport> {
    const dataset = inputs.data;
    const { table, residual } = await measureLate({ ...tools, ...inputs, config: options, dataset });
    const teacher = table.row('teacher');
    const compared = teacher && leads(teacher, table.row(FIRST_STAGE), options.evaluate.metrics[0]);
    const written = runReport(
      { ...inputs, options, dataset, report: tools.path(REPORT) },
      table,
      compared ? teacher : undefined,
    );
    addVerdict(written, false);
    if (residual !== undefined)
      written.notes.push(`the cosine of the whole vectors has the weight ${residual.toFixed(3)} in a score`);
    return written;
  },
});
