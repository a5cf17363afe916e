/** @file The systems that a run ends with, measured: BM25, the student from its saved folder, its embedder and its teacher. */
import { stat } from 'node:fs/promises';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { cutRun, type Run } from '../../evaluation/metrics/evaluate.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import { Encoder } from '../../models/encoder.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import type { Student, Weights } from '../../students/student.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import { bm25Run, bm25Search } from '../prepare/bm25-run.ts';
import { embed } from '../prepare/embeddings.ts';
import { encoderOf } from '../prepare/student-scores.ts';
import type { OpenedTeacher } from '../run/open-teachers.ts';
import type { Options } from '../run/options.ts';
import { computeOn } from '../run/provider.ts';
import type { Tools } from '../run/stage.ts';
import { warnOfCollapse } from '../run/warnings.ts';
import { medianMilliseconds, TIMED_QUERIES } from './model-cost.ts';
import { scoresAsRun } from './reference-systems.ts';
import { byPrefix, encoderSearcher, means, rerank, retrieve, teacherSearcher } from './retrieve.ts';
import type { System } from './run-figures.ts';
import type { Saved } from './saved.ts';

/** What measuring reads of a run. */
export interface Measuring extends Tools {
  config: Options<
    | 'data.splits'
    | 'embedder'
    | 'evaluate'
    | 'matryoshka'
    | 'student.documentTokens'
    | 'student.queryTokens'
    | 'student.towers'
    | 'teacher'
    | 'train.provider'
    | 'train.threads'
  >;
  dataset: Dataset;
  teacher?: OpenedTeacher;
  embedder?: OpenedTeacher;
  /** The embedder's vectors of all documents, where something reads them. */
  documents?: Embeddings;
}

/** The saved folder's row and those that it is compared with. @param initial weights of the student before training */
export async function measureRun(
  job: Measuring,
  student: Student,
  initial: Weights,
  saved: Saved,
): Promise<{ systems: System[]; runs: Map<string, Run>; matryoshka?: Figures['matryoshka'] }> {
  const { config, dataset, watch, documents } = job;
  const { metrics, depth } = config.evaluate;
  const { test } = config.data.splits;
  const judged = judgedQueries(dataset, test);
  const searched = { dataset, split: test, depth: Math.max(100, depth) };
  const frozen = config.student.towers === 'query' ? documents : undefined;
  const find = (encoder: Encoder) => retrieve(encoderSearcher(encoder, config.student, frozen), searched, watch);
  const runs = new Map<string, Run>();
  const systems: System[] = [];
  const add = (name: string, run: Run, more: Partial<System> = {}): void => {
    runs.set(name, run);
    systems.push({ name, metrics: means(run, dataset, test, metrics), ...more });
  };
  /** Median time of one query. */
  const timeQueries = (encode: (text: string) => Promise<unknown>): Promise<number> =>
    medianMilliseconds(judged.slice(0, TIMED_QUERIES), (q) => encode(dataset.queries.text(q)));

  if (config.evaluate.before)
    await job.time('evaluate before', async () => {
      const before = await encoderOf(config, student, initial);
      add('student before training', (await find(before)).run);
      await before.dispose();
    });
  if (config.evaluate.bm25)
    await job.time('evaluate bm25', async () => {
      await bm25Search(dataset, judged.slice(0, 1), 1, watch); // builds the index
      const started = performance.now();
      const run = await bm25Run(dataset, test, searched.depth, watch);
      add('BM25', run, { queryMilliseconds: (performance.now() - started) / run.size });
    });
  const searcher = await Encoder.load(saved.folder, { session: await computeOn(config), comparable: true });
  const { run, matryoshka } = await job.time('evaluate', async () => {
    const found = await find(searcher);
    const { dimensions } = found.vectors;
    const widths = [...new Set([dimensions, ...(config.matryoshka?.dimensions ?? [])])].filter((n) => n <= dimensions);
    widths.sort((a, b) => b - a);
    const matryoshka = config.matryoshka && (await byPrefix(found, widths, searched, metrics[0], watch));
    return { run: found.run, matryoshka };
  });
  await searcher.dispose();
  // One query at a time is faster on the CPU, wherever the run computed.
  const encoder = await Encoder.load(saved.folder, { comparable: true });
  const maxLength = config.student.queryTokens;
  const queryMilliseconds = await timeQueries((text) => encoder.encode([text], { maxLength, role: 'query' }));
  await warnOfCollapse(encoder, { config, dataset, frozen: frozen !== undefined }, job.warn);
  await encoder.dispose();
  add('student', run, { bytes: saved.bytes, queryMilliseconds });
  if (!config.evaluate.teacher) return { systems, runs, matryoshka };

  const embedder = job.embedder?.teacher;
  const teacher = job.teacher?.teacher;
  if (documents && embedder)
    await job.time('evaluate embedder', async () => {
      const { run } = await retrieve(teacherSearcher(embed(embedder), documents), searched, watch);
      const alone = embed(job.embedder?.uncached ?? embedder);
      const bytes = await modelBytes(config.embedder?.model);
      add('embedder', run, { bytes, queryMilliseconds: await timeQueries((text) => alone([text], 'query')) });
    });
  await job.time('evaluate teacher', async () => {
    if (config.teacher?.kind === 'scores') {
      const given = config.teacher.files.test;
      if (given) add('teacher', await scoresAsRun(given, dataset));
    } else if (teacher && !(teacher === embedder && documents)) {
      const top = cutRun(run, depth);
      const reranked = await rerank(dataset, top, teacher, watch);
      const model = job.teacher?.uncached;
      const timed = [...top].slice(0, TIMED_RERANKINGS);
      const queryMilliseconds =
        model && (await medianMilliseconds(timed, (one) => rerank(dataset, new Map([one]), model, {})));
      add('teacher', reranked, { bytes: await modelBytes(config.teacher?.model), queryMilliseconds });
    }
  });
  return { systems, runs, matryoshka };
}

/** Queries whose candidates a cross-encoder scores to be timed: seconds each. */
const TIMED_RERANKINGS = 3;

/** Size of a model folder's graph. */
const modelBytes = async (folder: string | undefined): Promise<number | undefined> =>
  folder === undefined ? undefined : (await stat((await readModelFolder(folder)).model)).size;
