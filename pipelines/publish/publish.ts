/** @file The end of a run: the student is saved, measured from its folder, reported and exported. */
import { measureAlso } from '../../evaluation/runs/measure-also.ts';
import type { Exported } from '../../evaluation/runs/measure-export.ts';
import { measureRun } from '../../evaluation/runs/measure-run.ts';
import type { System } from '../../evaluation/runs/run-figures.ts';
import {
  addAlso,
  addKept,
  addNoLead,
  addParts,
  addVerdict,
  figuresOf,
  leads,
  type RunReport,
  runReport,
  type WrittenReport,
  withExport,
} from '../../evaluation/runs/run-report.ts';
import { WHOLE_ENCODER } from '../../evaluation/runs/verdict.ts';
import type { AlsoSet } from '../../run/also.ts';
import type { RunContext } from '../../run/context.ts';
import { stagesMade } from '../../run/stages/run-log.ts';
import { defineStage, derive, given, type Result } from '../../run/stages/stage.ts';
import type { Student } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import type { Trained } from '../fit/parts/fit.ts';
import type { TrainingSet } from '../prepare/training-set.ts';
import { exportStage } from './export-stage.ts';
import { lexicalStage } from './lexical-stage.ts';
import { type Evaluating, type Published, REPORT, reportStage } from './report-stage.ts';
import { checkpoint, describeCheckpoint } from './save-student.ts';

/**
 * Saves the student, measures it and its teacher, writes the report, then exports compact files.
 * @param more.serves whether later runs search the student's documents
 */
export async function publish(
  run: RunContext,
  { student, targets: { documents } }: TrainingSet,
  trained: Result<Trained>,
  asked?: Result<number>,
  { serves = false }: { serves?: boolean } = {},
): Promise<Published> {
  const { teacher, embedder } = run;
  const config = given(run.config);
  const data = run.data.test;
  const saved = await run.stage(checkpoint, { student, trained, data: run.data.training, teacher, embedder, config });
  const measuring = {
    student,
    trained,
    saved,
    data,
    documents,
    teacher,
    embedder,
    config,
    log: given(run.log),
    also: run.also,
    withTeacher: given(run.withTeacher),
    serves: given(serves),
    asked,
  };
  const report = await run.stage(evaluation, measuring);
  if (!run.dry)
    await describeCheckpoint(
      run.config,
      await data.value(),
      figuresOf(withExport(await report.value(), undefined)),
      run,
    );
  if (run.config.hybrid) {
    const measured = derive({ report }, (v) => ({ fit: v.report.hybrid }));
    const lexical = await run.stage(lexicalStage, { saved, data, measured });
    if (!run.dry) await lexical.value();
  }
  // The report is written by now: what the export refuses or breaks does not cost the figures.
  const exported = run.config.export && (await run.stage(exportStage, { saved, data, documents, report }));
  const whole = derive({ report, exported }, (v) => finished(run, report, v.report, v.exported));
  if (!run.dry) await whole.value();
  return { checkpoint: saved, report: whole };
}

/** The report with the compact files among its rows. */
async function finished(
  run: RunContext,
  result: Result<WrittenReport>,
  report: WrittenReport,
  exported: Exported | undefined,
): Promise<RunReport> {
  const written = exported || report.export ? withExport(report, exported) : report;
  if (written !== report) await run.amend(evaluation, result, written);
  const made = run.log.stages.find((s) => s.stage === evaluation.name)?.status === 'made';
  const { pipeline, systems, matryoshka, verdict, before, hybrid, retention, training, warnings, asked, seconds } =
    written;
  return {
    pipeline,
    checkpoint: run.path('checkpoint'),
    report: run.path(REPORT),
    systems,
    matryoshka,
    verdict,
    before,
    also: written.also,
    ...(written.continued && { continued: written.continued }),
    hybrid,
    retention,
    student: written.student,
    training,
    warnings,
    export: written.export,
    asked,
    stages: stagesMade(run.log),
    seconds: made ? run.log.seconds : seconds,
    config: run.config,
  };
}

interface EvaluatingDense extends Evaluating {
  student: Student;
  trained: Trained;
  documents?: Embeddings;
  embedder?: OpenedTeacher;
  also: readonly AlsoSet[];
  withTeacher: RunContext['withTeacher'];
  serves: boolean;
  asked?: number;
}

/** The figures of the saved folder. */
const evaluation = defineStage({
  ...reportStage(),
  options: ['evaluate', 'hybrid'],
  unrecorded: [
    'continue',
    'data.splits',
    'embedder',
    'losses',
    'matryoshka',
    'pipeline',
    'seed',
    'student',
    'teacher',
    'train.exits',
    'train.provider',
    'train.threads',
  ],
  async make(options, inputs: EvaluatingDense, tools): Promise<WrittenReport> {
    const { student, trained, saved, data: dataset, config, asked } = inputs;
    const measuring = { ...tools, ...inputs, config: options, dataset };
    const { matryoshka, hybrid, parts, ...measured } = await measureRun(measuring, student, trained.initial, saved);
    const also = await measureAlso(measuring, inputs.also, saved, hybrid?.fit);
    const row = (name: string): System | undefined => measured.systems.find((s) => s.name === name);
    const other = row('teacher') ?? row('embedder');
    const begun = row(WHOLE_ENCODER) ?? row('student before training');
    const [metric] = options.evaluate.metrics;
    // A retained fraction is reported only for a teacher that is better than the student's start.
    const compared = other && leads(other, begun, metric) ? other : undefined;
    const written: WrittenReport = {
      ...runReport({ ...inputs, options, dataset, report: tools.path(REPORT) }, measured, compared),
      matryoshka,
      hybrid: hybrid?.fit,
      ...(asked !== undefined && { asked }),
    };
    if (other && begun && !compared) addNoLead(written, other, begun, metric);
    if (options.student.keep) addKept(written);
    addVerdict(written, options.student.towers === 'query');
    if (options.continue && parts) addParts(written, parts);
    addAlso(written, also);
    await describeCheckpoint(config, dataset, figuresOf(written), tools);
    return written;
  },
});
