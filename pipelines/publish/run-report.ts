/** @file What a run ends with: systems side by side, measured on the folder that was saved. */
import { readFile } from 'node:fs/promises';
import { writeWhole } from '../../common/files.ts';
import type { Figures, SystemFigures } from '../../evaluation/report/figures.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import type { Student } from '../../students/student.ts';
import type { Config } from '../config/config.ts';
import { measureRun } from '../measure/measure-run.ts';
import { roleOf, runFigures, type System } from '../measure/run-figures.ts';
import type { Saved } from '../measure/saved.ts';
import type { Targets } from '../prepare/embeddings.ts';
import type { Trained } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';
import type { StageName } from '../run/stage-keys.ts';
import type { ExportReport } from './export-checkpoint.ts';
import { type Exported, exportStudent } from './export-stage.ts';
import { savedBefore, saveStudent } from './save-student.ts';

export type { System } from '../measure/run-figures.ts';

/** What a run ends with. */
export interface RunReport {
  pipeline: Config['pipeline'];
  checkpoint: string;
  report: string;
  /** Means of the metrics on the test split, a row a system. */
  systems: System[];
  /** The first metric by the student's prefixes, where it was trained for them: `matryoshka.dimensions`, widest first. */
  matryoshka?: Figures['matryoshka'];
  /** Student over teacher (over the embedder where there is no teacher), a metric. */
  retention?: Record<string, number>;
  student: { parameters: number; bytes: number; queryMilliseconds: number };
  training: {
    steps: number;
    secondsAStep: number;
    loss: number;
    bestStep: number;
    /** Steps left out because their loss or gradient was not finite. */
    skipped: number;
  };
  /** What is probably wrong, with figures. */
  warnings: string[];
  /** The compact files, where the config asks for some, and the names of their rows among the systems. */
  export?: ExportReport & { rows: string[] };
  /** Queries that the teacher was asked about, where there was a budget. */
  asked?: number;
  /** Whether each stage's work was done in this run, or an earlier one's was used. */
  stages: Partial<Record<StageName, 'made' | 'reused'>>;
  /** Seconds by stage. */
  seconds: Record<string, number>;
  config: Config;
}

/** What report.json holds. */
type Written = Omit<RunReport, 'systems'> &
  Omit<Figures, 'training'> &
  Pick<Trained, 'log' | 'evaluations'> & { systems: SystemFigures[] };

/** Saves the student, measures it from its folder beside its teacher, and writes both down; then its compact files. */
export async function finish(
  job: Job,
  student: Student,
  trained: Trained,
  targets: Targets,
  more: Pick<RunReport, 'asked'> & Record<string, unknown> = {},
): Promise<RunReport> {
  const before = await savedBefore(job, student, trained);
  job.did('checkpoint', !before);
  const earlier = await reportBefore(job);
  if (earlier && !before) await saveStudent(job, student, trained, figuresOf(withExport(earlier, undefined)));
  job.did('evaluation', !earlier);
  const saved = before ?? (earlier ? undefined : await saveStudent(job, student, trained));
  let written = earlier ?? (await evaluated(job, student, trained, saved as Saved, targets, more));
  // The report stands by now: what the export refuses or breaks does not cost the figures.
  const exported = await exportStudent(job, targets);
  if (exported || written.export) {
    written = withExport(written, exported);
    await write(job, written);
  }
  const { pipeline, systems, matryoshka, retention, training, warnings, asked, seconds } = written;
  return {
    pipeline,
    checkpoint: job.path('checkpoint'),
    report: job.path(REPORT),
    systems,
    matryoshka,
    retention,
    student: written.student,
    training,
    warnings,
    export: written.export,
    asked,
    stages: stagesMade(job),
    seconds: earlier ? seconds : job.seconds,
    config: job.config,
  };
}

/** Measures the saved folder, and writes its figures beside it and into its card. */
async function evaluated(
  job: Job,
  student: Student,
  trained: Trained,
  saved: Saved,
  targets: Targets,
  more: Record<string, unknown>,
): Promise<Written> {
  const { config } = job;
  const { systems, runs, matryoshka } = await measureRun(job, student, trained, saved, targets);
  const { log, evaluations } = trained;
  const training = { log: log.filter((e) => Number.isFinite(e.loss)), evaluations };
  const figures = { ...runFigures(job, systems, runs, training), matryoshka };
  await saveStudent(job, student, trained, figures);
  const own = systems.find((s) => s.name === 'student') as System;
  const beside = systems.find((s) => s.name === 'teacher') ?? systems.find((s) => s.name === 'embedder');
  const written = {
    ...figures,
    pipeline: config.pipeline,
    checkpoint: saved.folder,
    report: job.path(REPORT),
    retention:
      beside && Object.fromEntries(Object.entries(own.metrics).map(([m, value]) => [m, value / beside.metrics[m]])),
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
      skipped: trained.skipped,
    },
    warnings: [...job.warnings.values()],
    ...more,
    stages: stagesMade(job),
    seconds: job.seconds,
    config,
    log,
    evaluations,
  };
  await write(job, written);
  return written;
}

const REPORT = 'report.json';
const PAGE = 'report.html';

/** What the page and the card are drawn from. */
const figuresOf = ({ log, evaluations, ...rest }: Written): Figures => ({
  ...rest,
  training: { log: log.filter((e) => Number.isFinite(e.loss)), evaluations },
});

async function write(job: Job, written: Written): Promise<void> {
  await writeWhole(job.path(REPORT), `${JSON.stringify(written, null, 1)}\n`);
  await writeWhole(job.path(PAGE), renderHtml(figuresOf(written)));
  await job.ledger.record('evaluation', job.keys.evaluation, [REPORT, PAGE]);
}

const stagesMade = ({ made }: Job): RunReport['stages'] =>
  Object.fromEntries([...made].map(([stage, now]) => [stage, now ? 'made' : 'reused']));

/** The report of an earlier run, if nothing that it depends on has changed. */
async function reportBefore(job: Job): Promise<Written | undefined> {
  const why = await job.ledger.why('evaluation', job.keys.evaluation);
  if (why !== undefined) return undefined;
  job.note('nothing that the evaluation depends on has changed: its figures are those of the earlier run');
  return JSON.parse(await readFile(job.path(REPORT), 'utf8'));
}

/** A report with the rows of these compact files in place of those that it has. */
function withExport(written: Written, exported: Exported | undefined): Written {
  const { export: old, ...rest } = written;
  const warning = (text: string): string => `Warning: ${text}`;
  const without = new Set(old?.rows);
  const unsaid = new Set(old?.warnings.map(warning));
  const { queryIds = [], systems = {} } = rest.perQuery ?? {};
  return {
    ...rest,
    systems: [
      ...rest.systems.filter((s) => !without.has(s.name)),
      ...(exported?.systems ?? []).map((s) => ({ ...s, role: roleOf(s.name) })),
    ],
    notes: [...rest.notes.filter((n) => !unsaid.has(n)), ...(exported?.report.warnings ?? []).map(warning)],
    perQuery: {
      queryIds,
      systems: {
        ...Object.fromEntries(Object.entries(systems).filter(([name]) => !without.has(name))),
        ...exported?.perQuery,
      },
    },
    ...(exported && { export: { ...exported.report, rows: exported.systems.map((s) => s.name) } }),
  };
}
