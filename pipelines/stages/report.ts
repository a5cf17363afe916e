/** @file What a run ends with: systems side by side, measured on the folder that was saved. */
import { readFile, stat } from 'node:fs/promises';
import { writeWhole } from '../../common/files.ts';
import { judgedQueries } from '../../data/dataset.ts';
import { cutRun, type Run } from '../../evaluation/evaluate.ts';
import type { Figures, SystemFigures } from '../../evaluation/report/figures.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { search } from '../../evaluation/search.ts';
import { Encoder } from '../../students/encoder.ts';
import { readModelFolder } from '../../students/folder.ts';
import type { Student } from '../../students/student.ts';
import type { Config } from '../config.ts';
import type { ExportReport } from '../export.ts';
import { bm25Run, bm25Search } from './bm25.ts';
import { computeOn } from './compute.ts';
import { embed, type Targets } from './embed.ts';
import { means, rerank, searchSplit, textsAt, toRun } from './evaluate.ts';
import { type Exported, exportStudent } from './export.ts';
import type { Job } from './job.ts';
import type { StageName } from './keys.ts';
import { scoresAsRun } from './references.ts';
import { roleOf, runFigures, type System } from './run-figures.ts';
import { type Saved, savedBefore, saveStudent } from './save.ts';
import { encoderOf } from './student-scores.ts';
import type { Trained } from './taught.ts';
import { medianMilliseconds, TIMED_QUERIES } from './timing.ts';
import { warnOfCollapse } from './warnings.ts';

export type { System } from './run-figures.ts';

/** What a run ends with. */
export interface RunReport {
  pipeline: Config['pipeline'];
  checkpoint: string;
  report: string;
  /** Means of the metrics on the test split, a row a system. */
  systems: System[];
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
  const { pipeline, systems, retention, training, warnings, asked, seconds } = written;
  return {
    pipeline,
    checkpoint: job.path('checkpoint'),
    report: job.path(REPORT),
    systems,
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
  const { systems, runs } = await measure(job, student, trained, saved, targets);
  const { log, evaluations } = trained;
  const figures = runFigures(job, systems, runs, { log: log.filter((e) => Number.isFinite(e.loss)), evaluations });
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

async function measure(
  job: Job,
  student: Student,
  trained: Trained,
  saved: Saved,
  targets: Targets,
): Promise<{ systems: System[]; runs: Map<string, Run> }> {
  const { config, dataset, watch } = job;
  const { metrics, depth } = config.evaluate;
  const { test } = config.data.splits;
  const { queryTokens, documentTokens } = config.student;
  const frozen = job.frozenDocuments ? targets.documents?.data : undefined;
  const found = async (encoder: Encoder): Promise<Run> => {
    const setup = { encoder, frozen, queryTokens, documentTokens, depth: Math.max(100, depth) };
    const { queries, hits } = await searchSplit(dataset, test, setup, watch);
    return toRun(dataset, queries, hits);
  };
  const runs = new Map<string, Run>();
  const row = (name: string, run: Run, more: Partial<System> = {}): System => {
    runs.set(name, run);
    return { name, metrics: means(run, dataset, test, metrics), ...more };
  };
  const systems: System[] = [];
  if (config.evaluate.before)
    await job.stage('evaluate before', async () => {
      const before = await encoderOf(job, student, trained.initial);
      systems.push(row('student before training', await found(before)));
      await before.dispose();
    });
  if (config.evaluate.bm25)
    await job.stage('evaluate bm25', async () => {
      await bm25Search(dataset, judgedQueries(dataset, test).slice(0, 1), 1, watch); // builds the index
      const started = performance.now();
      const found = await bm25Run(dataset, test, Math.max(100, depth), watch);
      systems.push(row('BM25', found, { queryMilliseconds: (performance.now() - started) / found.size }));
    });
  const searcher = await Encoder.load(saved.folder, { session: await computeOn(config) });
  const run = await job.stage('evaluate', () => found(searcher));
  await searcher.dispose();
  // One query at a time is a processor's work, wherever the run computed.
  const encoder = await Encoder.load(saved.folder);
  const queryMilliseconds = await medianMilliseconds(judgedQueries(dataset, test).slice(0, TIMED_QUERIES), (q) =>
    encoder.encode([dataset.queries.text(q)], { maxLength: queryTokens }),
  );
  await warnOfCollapse(encoder, { config, dataset, frozen: job.frozenDocuments }, job.warn);
  await encoder.dispose();
  systems.push(row('student', run, { bytes: saved.bytes, queryMilliseconds }));
  if (!config.evaluate.teacher) return { systems, runs };

  const { documents } = targets;
  if (documents && job.embedder)
    await job.stage('evaluate embedder', async () => {
      const queries = judgedQueries(dataset, test);
      const q = await embed(job.embedder)(textsAt(dataset, queries), 'query', watch);
      const hits = await search(q.data, documents.data, q.dimensions, Math.max(100, depth), watch);
      const { uncached } = job;
      const milliseconds = await medianMilliseconds(queries.slice(0, TIMED_QUERIES), (q) =>
        embed(uncached.embedder ?? job.embedder)([dataset.queries.text(q)], 'query'),
      );
      const more = { bytes: await modelBytes(config.embedder?.model), queryMilliseconds: milliseconds };
      systems.push(row('embedder', toRun(dataset, queries, hits), more));
    });
  await job.stage('evaluate teacher', async () => {
    const { teacher } = job;
    if (config.teacher?.kind === 'scores') {
      const given = config.teacher.files.test;
      if (given) systems.push(row('teacher', await scoresAsRun(given, dataset)));
    } else if (teacher && !(teacher === job.embedder && documents)) {
      const top = cutRun(run, depth);
      const reranked = await rerank(dataset, top, teacher, watch);
      const { teacher: model } = job.uncached;
      const timed = [...top].slice(0, TIMED_RERANKINGS);
      const queryMilliseconds =
        model && (await medianMilliseconds(timed, (one) => rerank(dataset, new Map([one]), model, {})));
      const bytes = await modelBytes(config.teacher?.model);
      systems.push(row('teacher', reranked, { bytes, queryMilliseconds }));
    }
  });
  return { systems, runs };
}

/** Queries whose candidates a cross-encoder scores to be timed: seconds each. */
const TIMED_RERANKINGS = 3;

/** Size of a model folder's graph. */
const modelBytes = async (folder: string | undefined): Promise<number | undefined> =>
  folder === undefined ? undefined : (await stat((await readModelFolder(folder)).model)).size;
