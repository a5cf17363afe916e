/** @file The end of a run of a sparse student: it is saved, measured from its folder with an inverted index, and reported. */
import { readFile } from 'node:fs/promises';
import { writeWhole } from '../../../common/files.ts';
import type { Config } from '../../../config/config.ts';
import { type Dataset, judgedQueries } from '../../../data/dataset.ts';
import { computeOn } from '../../../engine/runtime/provider.ts';
import { bm25Run, bm25Search } from '../../../evaluation/bm25-run.ts';
import { cutRun, type Run } from '../../../evaluation/metrics/evaluate.ts';
import { renderHtml } from '../../../evaluation/report/html.ts';
import { runFigures, type System } from '../../../evaluation/runs/run-figures.ts';
import type { Saved } from '../../../evaluation/runs/saved.ts';
import { scoresAsRun } from '../../../evaluation/systems/reference-systems.ts';
import { choiceScore, means, rerank } from '../../../evaluation/systems/retrieve.ts';
import {
  describeCosts,
  indexSparse,
  type SparseCosts,
  searchSparse,
} from '../../../evaluation/systems/sparse/sparse-run.ts';
import { openSparseFolder } from '../../../models/sparse/sparse-folder.ts';
import type { RunContext } from '../../../run/context.ts';
import type { RunLog } from '../../../run/stages/run-log.ts';
import { defineStage, derive, given, type Result } from '../../../run/stages/stage.ts';
import type { OpenedTeacher } from '../../../teachers/open-model.ts';
import type { Trained } from '../../fit/fit.ts';
import type { TrainingSet } from '../../prepare/training-set.ts';
import type { Published, RunReport } from '../run-report.ts';
import { sparseCheckpoint } from './save-sparse.ts';

/** What report.json holds in addition. */
type Written = RunReport & { sparse: SparseCosts };

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

const REPORT = 'report.json';
const PAGE = 'report.html';
const DEPTH = 100;

interface Evaluating {
  trained: Trained;
  saved: Saved;
  data: Dataset;
  teacher?: OpenedTeacher;
  /** All options, and the log of the run so far: both are written into the report. */
  config: Config;
  log: RunLog;
}

/** The figures of the saved folder, as OUTPUT/report.json and a page. */
const evaluation = defineStage({
  name: 'evaluation',
  options: ['evaluate'],
  unrecorded: ['data.splits', 'losses', 'pipeline', 'seed', 'student', 'teacher', 'train.provider', 'train.threads'],
  unchanged: 'the figures of the earlier run stand',
  reused: 'nothing that the evaluation depends on has changed: its figures are those of the earlier run',
  async make(options, { trained, saved, data: dataset, teacher, config, log }: Evaluating, tools): Promise<Written> {
    const { metrics, depth } = options.evaluate;
    const { test, dev } = options.data.splits;
    const { watch, time, note, path } = tools;
    const searched = { dataset, split: test, depth: Math.max(DEPTH, depth) };
    const runs = new Map<string, Run>();
    const systems: System[] = [];
    const chooses = dev !== null && dataset.splits.includes(dev) ? dev : test;
    const before = {
      split: chooses,
      queries: judgedQueries(dataset, chooses).length,
      values: {} as Record<string, number>,
    };
    const add = (name: string, run: Run, more: Partial<System> = {}): void => {
      runs.set(name, run);
      systems.push({ name, metrics: means(run, dataset, test, metrics), ...more });
    };
    if (options.evaluate.bm25)
      await time('evaluate bm25', async () => {
        await bm25Search(dataset, judgedQueries(dataset, test).slice(0, 1), 1, watch); // builds the index
        const started = performance.now();
        const run = await bm25Run(dataset, test, searched.depth, watch);
        add('BM25', run, { queryMilliseconds: (performance.now() - started) / run.size });
        before.values.BM25 = choiceScore(await bm25Run(dataset, chooses, DEPTH, watch), dataset, chooses);
      });
    const { encoder } = await openSparseFolder(saved.folder, { session: await computeOn(options.train) });
    const { costs, run } = await time('evaluate', async () => {
      try {
        const index = await indexSparse(encoder, dataset, options.student, watch);
        const found = searchSparse(encoder, index, searched, options.student);
        const chosen = searchSparse(encoder, index, { ...searched, split: chooses }, options.student);
        before.values.student = choiceScore(chosen.run, dataset, chooses);
        return found;
      } finally {
        await encoder.dispose();
      }
    });
    add('student', run, { bytes: saved.bytes, queryMilliseconds: costs.milliseconds.p50 });
    note(describeCosts(costs));
    if (options.evaluate.teacher)
      await time('evaluate teacher', async () => {
        const stored = options.teacher?.kind === 'scores' ? options.teacher.files.test : undefined;
        if (stored) add('teacher', await scoresAsRun(stored, dataset));
        else if (teacher?.teacher) add('teacher', await rerank(dataset, cutRun(run, depth), teacher.teacher, watch));
      });
    const row = (name: string) => systems.find((s) => s.name === name);
    const [own, other] = [row('student') as System, row('teacher')];
    const training = { log: trained.log.filter((e) => Number.isFinite(e.loss)), evaluations: trained.evaluations };
    const figures = runFigures({ config: options, dataset, warnings: log.warnings }, systems, runs, training);
    figures.notes.push(describeCosts(costs));
    const written = {
      ...figures,
      pipeline: options.pipeline,
      checkpoint: saved.folder,
      report: path(REPORT),
      before,
      sparse: costs,
      retention:
        other && Object.fromEntries(Object.entries(own.metrics).map(([m, value]) => [m, value / other.metrics[m]])),
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
      warnings: [...log.warnings.values()],
      stages: stagesMade(log),
      seconds: log.seconds,
      config,
      log: trained.log,
      evaluations: trained.evaluations,
    };
    await writeWhole(path(PAGE), renderHtml({ ...figures, training }));
    return written;
  },
  keep: {
    alone: true,
    async save(written, _, { path }) {
      await writeWhole(path(REPORT), `${JSON.stringify(written, null, 1)}\n`);
      return [REPORT, PAGE];
    },
    load: async (_, { path }) => JSON.parse(await readFile(path(REPORT), 'utf8')),
  },
});

const stagesMade = ({ stages }: RunLog): RunReport['stages'] =>
  Object.fromEntries(stages.map(({ stage, status }) => [stage, status === 'made' ? 'made' : 'reused']));
