/** @file Measures the systems of a run: BM25, the student from its saved folder, its embedder and its teacher. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Reporting } from '../../common/progress.ts';
import { localModel } from '../../config/models.ts';
import type { Options } from '../../config/options.ts';
import { layersOf, trainedEncoder, unchangedEncoder } from '../../config/student.ts';
import { partSplits } from '../../data/continued/continued.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { Encoder } from '../../models/encoder.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { exitFile } from '../../students/export/dtypes.ts';
import type { Student, Weights } from '../../students/student.ts';
import { encoderOf, encodingOf } from '../../students/student-scores.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import { embed } from '../../teachers/teacher.ts';
import { warnOfCollapse } from '../diagnostics/warnings.ts';
import { cutRun, type Run } from '../metrics/evaluate.ts';
import type { Figures } from '../report/figures.ts';
import { describeFit, type Hybrid, measureHybrid } from '../systems/hybrid.ts';
import { medianMilliseconds, TIMED_QUERIES } from '../systems/model-cost.ts';
import {
  byPrefix,
  choiceScore,
  encoderSearcher,
  rerank,
  retrieve,
  type Searcher,
  teacherSearcher,
} from '../systems/retrieve.ts';
import { type KeepingVectors, withKeptVectors, withStudent } from './kept-vectors.ts';
import { HYBRID, type System } from './run-figures.ts';
import { CHOICE_DEPTH, RunTable } from './run-table.ts';
import type { Saved } from './saved.ts';
import { type BeforeFigures, WHOLE_ENCODER } from './verdict.ts';

/** What measuring reads of a run. */
export interface Measuring extends Reporting, KeepingVectors {
  config: Options<
    | 'data.splits'
    | 'embedder'
    | 'evaluate'
    | 'hybrid'
    | 'matryoshka'
    | 'student'
    | 'teacher'
    | 'train.exits'
    | 'train.provider'
    | 'train.threads'
  >;
  dataset: Dataset;
  teacher?: OpenedTeacher;
  embedder?: OpenedTeacher;
  /** The embedder's vectors of all documents, where something reads them. */
  documents?: Embeddings;
}

/** nDCG@10 of a continued student on each part of the data. */
export type PartFigures = Record<string, { queries: number; values: Record<string, number> }>;

export interface MeasuredRun {
  systems: System[];
  runs: Map<string, Run>;
  matryoshka?: Figures['matryoshka'];
  /** The student with BM25, where that was asked for. */
  hybrid?: Pick<Hybrid, 'fit'>;
  /** The metric that decides, by split and system, on the parts of old and new data that a continued student is measured on. */
  parts?: PartFigures;
  /** Systems that the user had before the run, by the metric that decides, and the split that it is of. */
  before: BeforeFigures;
}

/** The saved folder's row and those that it is compared with. @param initial weights of the student before training */
export async function measureRun(
  job: Measuring,
  student: Student,
  initial: Weights,
  saved: Saved,
): Promise<MeasuredRun> {
  const { config, dataset, watch, documents } = job;
  const { metrics, depth } = config.evaluate;
  const table = new RunTable(job);
  const { searched, runs, systems, before } = table;
  const judged = judgedQueries(dataset, searched.split);
  const frozen = config.student.towers === 'query' ? documents : undefined;
  const searcherOf = (encoder: Encoder, table?: Embeddings) => encoderSearcher(encoder, config.student, table);
  /** Median time of one query. */
  const timeQueries = (encode: (text: string) => Promise<unknown>): Promise<number> =>
    medianMilliseconds(judged.slice(0, TIMED_QUERIES), (q) => encode(dataset.queries.text(q)));

  const parts: PartFigures = {};
  const inParts = async (name: string, embedded: Searcher): Promise<void> => {
    for (const split of partSplits.filter((s) => dataset.splits.includes(s))) {
      const { run } = await retrieve(embedded, { dataset, split, depth: CHOICE_DEPTH }, watch);
      parts[split] ??= { queries: judgedQueries(dataset, split).length, values: {} };
      parts[split].values[name] = choiceScore(run, dataset, split);
    }
  };
  const find = async (name: string, searcher: Searcher) => {
    const found = await retrieve(searcher, searched, watch);
    const { dimensions, documents: data } = found.vectors;
    const embedded = { queries: searcher.queries, documents: { dimensions, data } };
    const { chooses: split } = table;
    // What the user had before is compared on dev, which chooses; on test where no real query is in dev.
    table.decide(
      name,
      split ? (await retrieve(embedded, { dataset, split, depth: CHOICE_DEPTH }, watch)).run : found.run,
    );
    await inParts(name, embedded);
    return found;
  };

  // A student of fewer layers was never what the user had: the whole encoder was.
  const whole = layersOf(config.student) && !frozen ? trainedEncoder(config.student) : undefined;
  if (config.evaluate.before)
    await job.time('evaluate before', async () => {
      const name = whole ? WHOLE_ENCODER : 'student before training';
      const folder = whole ?? (frozen ? undefined : unchangedEncoder(config.student));
      const add = async (searcher: Searcher) => table.add(name, (await find(name, searcher)).run);
      if (folder) return withKeptVectors(job, folder, config.student.prompts, add);
      const first = await encoderOf(student, initial, await encodingOf(config));
      await add(searcherOf(first, frozen));
      await first.dispose();
    });
  await table.addBm25({ timed: true });
  const measured = async (own: Searcher) => {
    const found = await find('student', own);
    const { vectors } = found;
    const { dimensions } = vectors;
    const widths = [...new Set([dimensions, ...(config.matryoshka?.dimensions ?? [])])].filter((n) => n <= dimensions);
    widths.sort((a, b) => b - a);
    const matryoshka = config.matryoshka && (await byPrefix(found, widths, searched, metrics[0], watch));
    const { dev } = table;
    const options =
      config.hybrid && dev !== undefined
        ? { ...config.hybrid, ...searched, splits: { dev, test: searched.split }, vectors }
        : undefined;
    if (config.hybrid && !options)
      job.note('the weight of BM25 is not fitted: there is no dev split, and test must not choose it');
    const hybrid = options && (await measureHybrid({ ...options, queries: own.queries }, watch));
    return { run: found.run, matryoshka, hybrid };
  };
  const { run, matryoshka, hybrid } = await job.time('evaluate', () =>
    withStudent(job, saved, (over) => measured(over(frozen))),
  );
  // One query at a time is faster on the CPU, wherever the run computed.
  const encoder = await Encoder.load(saved.folder, { comparable: true });
  const maxLength = config.student.queryTokens;
  const queryMilliseconds = await timeQueries((text) => encoder.encode([text], { maxLength, role: 'query' }));
  await warnOfCollapse(encoder, { limits: config.student, dataset, frozen: frozen !== undefined }, job.warn);
  await encoder.dispose();
  table.add('student', run, { bytes: saved.bytes, queryMilliseconds });
  // Each depth of a query tower searches the same documents.
  for (const n of frozen ? (config.train.exits ?? []) : [])
    await job.time('evaluate exits', async () => {
      const file = join(saved.folder, exitFile(n));
      const early = await Encoder.load(file, { comparable: true });
      const { run } = await retrieve(searcherOf(early, frozen), searched, watch);
      const queryMilliseconds = await timeQueries((text) => early.encode([text], { maxLength, role: 'query' }));
      await early.dispose();
      table.add(`student, exit ${n}`, run, { bytes: (await stat(file)).size, queryMilliseconds });
    });
  if (hybrid?.run) table.add(HYBRID, hybrid.run, { bytes: saved.bytes });
  if (hybrid) job.note(describeFit(hybrid.fit));
  if (!config.evaluate.teacher) return { systems, runs, matryoshka, hybrid, before, parts };

  const embedder = job.embedder?.teacher;
  const teacher = job.teacher?.teacher;
  const embeds = config.embedder?.kind !== 'vectors' || config.embedder.queries;
  if (documents && embedder && embeds)
    await job.time('evaluate embedder', async () => {
      const { run } = await find('embedder', teacherSearcher(embed(embedder), documents));
      const alone = embed(job.embedder?.uncached ?? embedder);
      // The time of a service is the network's, and costs requests; a file takes none.
      const own = localModel(config.embedder);
      const queryMilliseconds = own ? await timeQueries((text) => alone([text], 'query')) : undefined;
      table.add('embedder', run, { bytes: await modelBytes(own), queryMilliseconds });
    });
  const top = cutRun(run, depth);
  const both = teacher === embedder && documents !== undefined;
  await table.addTeacher(both ? undefined : teacher, top, async () => {
    const own = localModel(config.teacher);
    const model = job.teacher?.uncached;
    const timed = [...top].slice(0, TIMED_RERANKINGS);
    const queryMilliseconds =
      model && own ? await medianMilliseconds(timed, (one) => rerank(dataset, new Map([one]), model, {})) : undefined;
    return { bytes: await modelBytes(own), queryMilliseconds };
  });
  return { systems, runs, matryoshka, hybrid, before, parts };
}

/** Queries whose candidates a cross-encoder scores to be timed: seconds each. */
const TIMED_RERANKINGS = 3;

/** Size of a model folder's graph. */
const modelBytes = async (folder: string | undefined): Promise<number | undefined> =>
  folder === undefined ? undefined : (await stat((await readModelFolder(folder)).model)).size;
