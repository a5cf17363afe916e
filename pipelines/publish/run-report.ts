/** @file The end of a run: the student is saved, measured from its folder, reported and exported. */
import { readFile } from 'node:fs/promises';
import { writeWhole } from '../../common/files.ts';
import type { Config } from '../../config/config.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { HybridFit } from '../../evaluation/fit-hybrid.ts';
import type { Figures, SystemFigures } from '../../evaluation/report/figures.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { measureRun, type PartFigures } from '../../evaluation/systems/measure-run.ts';
import { roleOf, runFigures, type System } from '../../evaluation/systems/run-figures.ts';
import type { Saved } from '../../evaluation/systems/saved.ts';
import { type BeforeFigures, verdict, WHOLE_ENCODER } from '../../evaluation/systems/verdict.ts';
import type { Student } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import type { Trained } from '../fit/fit.ts';
import type { TrainingSet } from '../prepare/training-set.ts';
import type { AlsoSet } from '../run/also.ts';
import type { RunContext } from '../run/context.ts';
import type { RunLog } from '../run/run-log.ts';
import { defineStage, derive, given, type Result } from '../run/stage.ts';
import type { ExportReport } from './export-checkpoint.ts';
import { type Exported, exportStage } from './export-stage.ts';
import { lexicalStage } from './lexical-stage.ts';
import {
  type AlsoFigures,
  alsoColumn,
  alsoMean,
  alsoMeanColumn,
  describeAlso,
  describeLoss,
  measureAlso,
} from './measure-also.ts';
import { checkpoint, describeCheckpoint } from './save-student.ts';

export type { System } from '../../evaluation/systems/run-figures.ts';

/** What a run ends with. */
export interface RunReport {
  pipeline: Config['pipeline'];
  checkpoint: string;
  report: string;
  /** Means of the metrics on the test split, a row a system. */
  systems: System[];
  /** The first metric by the student's prefixes, where it was trained for them: `matryoshka.dimensions`, widest first. */
  matryoshka?: Figures['matryoshka'];
  /** Said first: something that the user had before ranks better than the student. */
  verdict?: string;
  /** The student and what the user had, by nDCG@10 on the split that chooses. */
  before: BeforeFigures;
  /** nDCG@10 on the data sets of `evaluate.also`. */
  also?: AlsoFigures[];
  /** nDCG@10 on the old and the new data, before and after, where a student went on learning. */
  continued?: PartFigures;
  /** The weight of BM25 in the hybrid score and its gain on dev, where a hybrid was asked for. */
  hybrid?: HybridFit;
  /** Student over teacher (over the embedder where there is no teacher), a metric; absent where the teacher is no better than the encoder as it was. */
  retention?: Record<string, number>;
  student: { parameters: number; bytes: number; queryMilliseconds: number };
  training: {
    steps: number;
    secondsAStep: number;
    loss: number;
    bestStep: number;
    /** Share of the trained weights in a mean with those before training, where dev chose one. */
    average?: number;
    /** Mean squared distance of general spans to the encoder as it was, over the first steps and the last ones (`student.keep`). */
    keep?: { first: number; last: number };
    /** Steps left out because their loss or gradient was not finite. */
    skipped: number;
  };
  /** What is probably wrong, with figures. */
  warnings: string[];
  /** The compact files, where the config asks for some, and the names of their rows among the systems. */
  export?: ExportReport & { rows: string[] };
  /** Queries that the teacher scored, where there was a budget. */
  asked?: number;
  /** Whether each stage's work was done in this run, or an earlier one's was used. */
  stages: Record<string, 'made' | 'reused'>;
  /** Seconds by stage. */
  seconds: Record<string, number>;
  config: Config;
  /** The folders of the students that a chain made, by their runs. */
  members?: Record<string, string>;
}

/** What report.json holds. */
type Written = Omit<RunReport, 'systems'> &
  Omit<Figures, 'training'> &
  Pick<Trained, 'log' | 'evaluations'> & { systems: SystemFigures[] };

/** What a run ends with: the folder of the student, and the figures. */
export interface Published {
  checkpoint: Result<Saved>;
  report: Result<RunReport>;
}

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
  result: Result<Written>,
  report: Written,
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

interface Evaluating {
  student: Student;
  trained: Trained;
  saved: Saved;
  data: Dataset;
  documents?: Embeddings;
  teacher?: OpenedTeacher;
  embedder?: OpenedTeacher;
  /** All options, and the log of the run so far: both are written into the report. */
  config: Config;
  log: RunLog;
  also: readonly AlsoSet[];
  withTeacher: RunContext['withTeacher'];
  serves: boolean;
  asked?: number;
}

const REPORT = 'report.json';
const PAGE = 'report.html';

/** The figures of the saved folder, as OUTPUT/report.json and a page. */
const evaluation = defineStage({
  name: 'evaluation',
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
  unchanged: 'the figures of the earlier run stand',
  reused: 'nothing that the evaluation depends on has changed: its figures are those of the earlier run',
  async make(options, inputs: Evaluating, tools): Promise<Written> {
    const { student, trained, saved, data: dataset, config, log: runLog, asked } = inputs;
    const measuring = { ...tools, ...inputs, config: options, dataset };
    const { systems, runs, matryoshka, hybrid, before, parts } = await measureRun(
      measuring,
      student,
      trained.initial,
      saved,
    );
    const also = await measureAlso(measuring, inputs.also, saved, hybrid?.fit);
    const { log, evaluations } = trained;
    const training = { log: log.filter((e) => Number.isFinite(e.loss)), evaluations };
    const { warnings } = runLog;
    const figures = { ...runFigures({ config: options, dataset, warnings }, systems, runs, training), matryoshka };
    const row = (name: string): System | undefined => systems.find((s) => s.name === name);
    const own = row('student') as System;
    const other = row('teacher') ?? row('embedder');
    const [metric] = options.evaluate.metrics;
    const begun = row(WHOLE_ENCODER) ?? row('student before training');
    // A retained fraction is reported only for a teacher that is better than the student's start.
    const leads = other !== undefined && !(begun && other.metrics[metric] <= begun.metrics[metric]);
    if (other && begun && !leads)
      figures.notes.unshift(
        `The teacher (${metric} ${other.metrics[metric].toFixed(4)}) is no better than ${begun.name} (${begun.metrics[metric].toFixed(4)}): the share of it that the student keeps means nothing`,
      );
    const kept = options.student.keep && keptDistances(trained);
    if (kept)
      figures.notes.push(
        `Mean squared distance of general spans to the encoder as it was (student.keep): ${kept.first.toFixed(4)} over the first steps, ${kept.last.toFixed(4)} over the last`,
      );
    const first = verdict(before, options.student.towers === 'query');
    if (first) figures.notes.unshift(first);
    const continued = options.continue && parts;
    if (continued) figures.notes.unshift(describeParts(continued));
    const written = {
      ...figures,
      pipeline: options.pipeline,
      checkpoint: saved.folder,
      report: tools.path(REPORT),
      verdict: first,
      before,
      ...(also.length > 0 && { also }),
      ...(continued && { continued }),
      hybrid: hybrid?.fit,
      retention: leads
        ? Object.fromEntries(Object.entries(own.metrics).map(([m, value]) => [m, value / other.metrics[m]]))
        : undefined,
      student: {
        parameters: saved.parameters,
        bytes: saved.bytes,
        queryMilliseconds: own.queryMilliseconds ?? Number.NaN,
      },
      training: {
        steps: trained.steps,
        secondsAStep: trained.stepSeconds,
        loss: trained.log.at(-1)?.loss ?? Number.NaN,
        bestStep: trained.bestStep,
        ...(trained.average !== undefined && { average: trained.average }),
        ...(kept && { keep: kept }),
        skipped: trained.skipped,
      },
      warnings: [...warnings.values()],
      ...(asked !== undefined && { asked }),
      stages: stagesMade(runLog),
      seconds: runLog.seconds,
      config,
      log,
      evaluations,
    };
    // Columns of the table; what is kept of the teacher above is of the run's own data.
    for (const set of also)
      for (const s of written.systems)
        if (set.systems[s.name]) s.metrics = { ...s.metrics, [alsoColumn(set)]: set.systems[s.name].value };
    for (const s of written.systems) {
      const mean = alsoMean(also, s.name);
      if (mean !== undefined) s.metrics = { ...s.metrics, [alsoMeanColumn(also)]: mean };
    }
    const loss = describeLoss(also);
    if (loss) written.notes.push(loss);
    for (const set of also) written.notes.push(describeAlso(set));
    await describeCheckpoint(config, dataset, figuresOf(written), tools);
    return written;
  },
  keep: {
    alone: true,
    async save(written, _, { path }) {
      await writeWhole(path(REPORT), `${JSON.stringify(written, null, 1)}\n`);
      await writeWhole(path(PAGE), renderHtml(figuresOf(written)));
      return [REPORT, PAGE];
    },
    load: async (_, { path }) => JSON.parse(await readFile(path(REPORT), 'utf8')),
  },
});

/** The term of `student.keep` comes last; means of up to so many steps. */
function keptDistances({ log }: Trained): { first: number; last: number } {
  const terms = log.map(({ terms }) => terms.at(-1) as number).filter(Number.isFinite);
  const mean = (values: readonly number[]): number => values.reduce((s, v) => s + v, 0) / values.length;
  return { first: mean(terms.slice(0, KEPT_STEPS)), last: mean(terms.slice(-KEPT_STEPS)) };
}
const KEPT_STEPS = 20;

/** The figures of a continued student in one sentence. */
export const describeParts = (parts: PartFigures): string =>
  `nDCG@10 before and after going on: ${Object.entries(parts)
    .map(
      ([split, { queries, values }]) =>
        `${split} ${values['student before training'].toFixed(4)} to ${values.student.toFixed(4)} (${queries} queries)`,
    )
    .join(', ')}`;

/** What the page and the card are drawn from. */
const figuresOf = ({ log, evaluations, ...rest }: Written): Figures => ({
  ...rest,
  training: { log: log.filter((e) => Number.isFinite(e.loss)), evaluations },
});

const stagesMade = ({ stages }: RunLog): RunReport['stages'] =>
  Object.fromEntries(stages.map(({ stage, status }) => [stage, status === 'made' ? 'made' : 'reused']));

/** A report with the rows of these compact files in place of those that it has. */
function withExport(written: Written, exported: Exported | undefined): Written {
  const { export: old, ...rest } = written;
  const warning = (text: string): string => `Warning: ${text}`;
  const without = new Set(old?.rows);
  const unsaid = new Set(old?.warnings.map(warning));
  const { queryIds = [], systems = {}, ...more } = rest.perQuery ?? {};
  return {
    ...rest,
    systems: [
      ...rest.systems.filter((s) => !without.has(s.name)),
      ...(exported?.systems ?? []).map((s) => ({ ...s, role: roleOf(s.name) })),
    ],
    notes: [...rest.notes.filter((n) => !unsaid.has(n)), ...(exported?.report.warnings ?? []).map(warning)],
    perQuery: {
      queryIds,
      ...more,
      systems: {
        ...Object.fromEntries(Object.entries(systems).filter(([name]) => !without.has(name))),
        ...exported?.perQuery,
      },
    },
    ...(exported && { export: { ...exported.report, rows: exported.systems.map((s) => s.name) } }),
  };
}
