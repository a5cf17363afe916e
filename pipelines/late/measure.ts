/** @file The figures of a re-ranker: what it finds compared with the first stage, BM25 and the teacher, as report.json and a page. */
import { readFile } from 'node:fs/promises';
import { writeWhole } from '../../common/files.ts';
import type { Config } from '../../config/config.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { bm25Run } from '../../evaluation/bm25-run.ts';
import { cutRun, type Run } from '../../evaluation/metrics/evaluate.ts';
import type { Figures, SystemFigures } from '../../evaluation/report/figures.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { runFigures, type System } from '../../evaluation/runs/run-figures.ts';
import type { Saved } from '../../evaluation/runs/saved.ts';
import { type BeforeFigures, verdict } from '../../evaluation/runs/verdict.ts';
import { nearest, type RunStates, rerankLate } from '../../evaluation/systems/late/rank.ts';
import { medianMilliseconds, TIMED_QUERIES } from '../../evaluation/systems/model-cost.ts';
import { scoresAsRun } from '../../evaluation/systems/reference-systems.ts';
import { choiceScore, means, rerank } from '../../evaluation/systems/retrieve.ts';
import { openTokenEncoder } from '../../models/multi-vector/token-encoder.ts';
import type { RunLog } from '../../run/stages/run-log.ts';
import { defineStage } from '../../run/stages/stage.ts';
import { readLateFolder } from '../../students/late/late-folder.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { Trained } from '../fit/fit.ts';
import type { RunReport } from '../publish/run-report.ts';

/** What report.json holds. */
export type LateReport = Omit<RunReport, 'systems'> &
  Omit<Figures, 'training'> &
  Pick<Trained, 'log' | 'evaluations'> & { systems: SystemFigures[] };

interface Measuring {
  states: RunStates;
  trained: Trained;
  saved: Saved;
  data: Dataset;
  teacher?: OpenedTeacher;
  config: Config;
  log: RunLog;
}

const REPORT = 'report.json';
const PAGE = 'report.html';
/** Documents a query that the deciding metric looks at. */
const CHOICE_DEPTH = 100;
/** The dense vectors of the embedder, which find the documents that are re-ranked. */
const FIRST_STAGE = 'embedder';

/** The saved re-ranker over what the first stage finds. */
export const lateEvaluation = defineStage({
  name: 'evaluation',
  options: ['evaluate'],
  unrecorded: ['data.splits', 'losses', 'pipeline', 'seed', 'student', 'teacher', 'hybrid'],
  unchanged: 'the figures of the earlier run stand',
  reused: 'nothing that the evaluation depends on has changed: its figures are those of the earlier run',
  async make(options, { states, trained, saved, data, teacher, config, log }: Measuring, tools): Promise<LateReport> {
    const { metrics, depth } = options.evaluate;
    const { test, dev } = options.data.splits;
    const { watch } = tools;
    const { model } = await readLateFolder(saved.folder);
    const runs = new Map<string, Run>();
    const systems: System[] = [];
    const add = (name: string, run: Run, more: Partial<System> = {}): void => {
      runs.set(name, run);
      systems.push({ name, metrics: means(run, data, test, metrics), ...more });
    };
    const chooses = dev !== null && data.splits.includes(dev) ? dev : test;
    const before: BeforeFigures = { split: chooses, queries: judgedQueries(data, chooses).length, values: {} };
    const decide = (name: string, run: Run): void => {
      before.values[name] = choiceScore(run, data, chooses);
    };

    const found = await tools.time('evaluate embedder', () => nearest(states, data, test, Math.max(100, depth), watch));
    add(FIRST_STAGE, found);
    const chosen = chooses === test ? found : await nearest(states, data, chooses, CHOICE_DEPTH, watch);
    decide(FIRST_STAGE, chosen);
    if (options.evaluate.bm25)
      await tools.time('evaluate bm25', async () => {
        const run = await bm25Run(data, test, Math.max(100, depth), watch);
        add('BM25', run);
        decide('BM25', chooses === test ? run : await bm25Run(data, chooses, CHOICE_DEPTH, watch));
      });
    const top = cutRun(found, depth);
    const own = await tools.time('evaluate', () => rerankLate(model, states, data, top, watch));
    decide('student', await rerankLate(model, states, data, cutRun(chosen, CHOICE_DEPTH), watch));
    const queryMilliseconds = await timeOneQuery(saved.folder, data, test, options.student.queryTokens);
    add('student', own, { bytes: saved.bytes, queryMilliseconds });
    if (options.evaluate.teacher)
      await tools.time('evaluate teacher', async () => {
        if (options.teacher?.kind === 'scores') {
          const given = options.teacher.files.test;
          if (given) add('teacher', await scoresAsRun(given, data));
        } else if (teacher?.teacher) add('teacher', await rerank(data, top, teacher.teacher, watch));
      });

    const { evaluations } = trained;
    const shown = { log: trained.log.filter((e) => Number.isFinite(e.loss)), evaluations };
    const { warnings } = log;
    const figures = runFigures({ config: options, dataset: data, warnings }, systems, runs, shown);
    const [metric] = metrics;
    const row = (name: string): System | undefined => systems.find((s) => s.name === name);
    const [student, above, first] = [row('student'), row('teacher'), row(FIRST_STAGE)] as [System, System?, System?];
    const leads = above && !(first && above.metrics[metric] <= first.metrics[metric]);
    const said = verdict(before, false);
    if (said) figures.notes.unshift(said);
    const residual = model.weights.get('residual')?.data[0];
    if (residual !== undefined)
      figures.notes.push(`the cosine of the whole vectors has the weight ${residual.toFixed(3)} in a score`);
    return {
      ...figures,
      pipeline: options.pipeline,
      checkpoint: saved.folder,
      report: tools.path(REPORT),
      verdict: said,
      before,
      retention: leads
        ? Object.fromEntries(Object.entries(student.metrics).map(([m, value]) => [m, value / above.metrics[m]]))
        : undefined,
      student: { parameters: saved.parameters, bytes: saved.bytes, queryMilliseconds },
      training: {
        steps: trained.steps,
        secondsAStep: trained.stepSeconds,
        loss: trained.log.at(-1)?.loss ?? Number.NaN,
        bestStep: trained.bestStep,
        skipped: trained.skipped,
      },
      warnings: [...warnings.values()],
      stages: {},
      seconds: log.seconds,
      config,
      log: trained.log,
      evaluations,
    };
  },
  keep: {
    alone: true,
    async save({ log, evaluations, ...rest }, _, { path }) {
      const training = { log: log.filter((e) => Number.isFinite(e.loss)), evaluations };
      await writeWhole(path(REPORT), `${JSON.stringify({ ...rest, log, evaluations }, null, 1)}\n`);
      await writeWhole(path(PAGE), renderHtml({ ...rest, training }));
      return [REPORT, PAGE];
    },
    load: async (_, { path }) => JSON.parse(await readFile(path(REPORT), 'utf8')),
  },
});

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
