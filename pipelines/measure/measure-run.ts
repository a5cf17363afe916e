/** @file The systems that a run ends with, measured: BM25, the student from its saved folder, its embedder and its teacher. */
import { stat } from 'node:fs/promises';
import { judgedQueries, textsAt } from '../../data/dataset.ts';
import { cutRun, type Run } from '../../evaluation/metrics/evaluate.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import { Encoder } from '../../models/encoder.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { cutTo, search } from '../../retrieval/exact-search.ts';
import type { Student } from '../../students/student.ts';
import { bm25Run, bm25Search } from '../prepare/bm25-run.ts';
import { embed, type Targets } from '../prepare/embeddings.ts';
import { encoderOf } from '../prepare/student-scores.ts';
import type { Trained } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';
import { computeOn } from '../run/provider.ts';
import { warnOfCollapse } from '../run/warnings.ts';
import { scoresAsRun } from './reference-systems.ts';
import { means, rerank, type SearchedVectors, searchSplit, toRun } from './retrieve.ts';
import type { System } from './run-figures.ts';
import type { Saved } from './saved.ts';
import { medianMilliseconds, TIMED_QUERIES } from './timing.ts';

/** The saved folder's row and those beside it. @param trained for the student before training */
export async function measureRun(
  job: Job,
  student: Student,
  trained: Trained,
  saved: Saved,
  targets: Targets,
): Promise<{ systems: System[]; runs: Map<string, Run>; matryoshka?: Figures['matryoshka'] }> {
  const { config, dataset, watch } = job;
  const { metrics, depth } = config.evaluate;
  const { test } = config.data.splits;
  const { queryTokens, documentTokens } = config.student;
  const frozen = job.frozenDocuments ? targets.documents?.data : undefined;
  const reach = Math.max(100, depth);
  const found = async (encoder: Encoder): Promise<{ run: Run; vectors: SearchedVectors }> => {
    const setup = { encoder, frozen, queryTokens, documentTokens, depth: reach };
    const { queries, hits, vectors } = await searchSplit(dataset, test, setup, watch);
    return { run: toRun(dataset, queries, hits), vectors };
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
      systems.push(row('student before training', (await found(before)).run));
      await before.dispose();
    });
  if (config.evaluate.bm25)
    await job.stage('evaluate bm25', async () => {
      await bm25Search(dataset, judgedQueries(dataset, test).slice(0, 1), 1, watch); // builds the index
      const started = performance.now();
      const found = await bm25Run(dataset, test, reach, watch);
      systems.push(row('BM25', found, { queryMilliseconds: (performance.now() - started) / found.size }));
    });
  const searcher = await Encoder.load(saved.folder, { session: await computeOn(config) });
  const { run, matryoshka } = await job.stage('evaluate', async () => {
    const whole = await found(searcher);
    const matryoshka = config.matryoshka && (await byPrefix(job, whole, config.matryoshka.dimensions, reach));
    return { run: whole.run, matryoshka };
  });
  await searcher.dispose();
  // One query at a time is a processor's work, wherever the run computed.
  const encoder = await Encoder.load(saved.folder);
  const queryMilliseconds = await medianMilliseconds(judgedQueries(dataset, test).slice(0, TIMED_QUERIES), (q) =>
    encoder.encode([dataset.queries.text(q)], { maxLength: queryTokens }),
  );
  await warnOfCollapse(encoder, { config, dataset, frozen: job.frozenDocuments }, job.warn);
  await encoder.dispose();
  systems.push(row('student', run, { bytes: saved.bytes, queryMilliseconds }));
  if (!config.evaluate.teacher) return { systems, runs, matryoshka };

  const { documents } = targets;
  if (documents && job.embedder)
    await job.stage('evaluate embedder', async () => {
      const queries = judgedQueries(dataset, test);
      const q = await embed(job.embedder)(textsAt(dataset, queries), 'query', watch);
      const hits = await search(q.data, documents.data, q.dimensions, reach, watch);
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
  return { systems, runs, matryoshka };
}

/** The first metric of the vectors cut to each width and of the whole ones, widest first. @param run what the whole find */
async function byPrefix(
  { config, dataset, watch }: Job,
  { run, vectors: { dimensions, queries, documents } }: { run: Run; vectors: SearchedVectors },
  widths: readonly number[],
  reach: number,
): Promise<NonNullable<Figures['matryoshka']>> {
  const { test } = config.data.splits;
  const [metric] = config.evaluate.metrics;
  const wanted = [...new Set([dimensions, ...widths])].filter((n) => n <= dimensions).sort((a, b) => b - a);
  const curve: NonNullable<Figures['matryoshka']> = [];
  for (const n of wanted) {
    const cut = (data: Float32Array): Float32Array => cutTo(n, { dimensions, data });
    const hits = n < dimensions && (await search(cut(queries), cut(documents), n, reach, watch));
    const found = hits ? toRun(dataset, judgedQueries(dataset, test), hits) : run;
    curve.push({ dimensions: n, value: means(found, dataset, test, [metric])[metric] });
  }
  return curve;
}

/** Queries whose candidates a cross-encoder scores to be timed: seconds each. */
const TIMED_RERANKINGS = 3;

/** Size of a model folder's graph. */
const modelBytes = async (folder: string | undefined): Promise<number | undefined> =>
  folder === undefined ? undefined : (await stat((await readModelFolder(folder)).model)).size;
