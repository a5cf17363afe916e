/** @file What the parts of a run would take, for a dry run: from a few texts that the models are timed on. */
import type { Config } from '../../config/config.ts';
import { loadOf } from '../../config/memory.ts';
import { startFolder } from '../../config/student.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { heldBytes, stepBytes } from '../../training/memory-budget.ts';
import type { AlsoSet } from '../also.ts';
import { trainingQueries } from '../data.ts';
import type { Estimate, StagePlan } from '../stages/run-log.ts';
import { embedderRate, type Rate, studentRates, teacherRate } from './rates.ts';

/** A backward pass computes two gradients for each product of the forward pass. */
const FORWARD_AND_BACKWARD = 3;
/** Of the check of a teacher on dev: see pipelines/fit/teacher-on-dev.ts. */
const PAIRS_ON_DEV = { queries: 200, candidates: 20 };

/** Stages that need no model and take seconds. */
const quick = new Set(['data', 'candidates', 'examples', 'queries', 'weights', 'checkpoint', 'lexical channel']);

/** A plan with an estimate for each stage that would be made, as far as one can be had. */
export async function withEstimates(
  config: Config,
  dataset: Dataset,
  plan: readonly StagePlan[],
  also: readonly AlsoSet[] = [],
): Promise<StagePlan[]> {
  const rates = new Map<string, Promise<unknown>>();
  const once = <T>(name: string, measure: () => Promise<T>): Promise<T> => {
    const known = rates.get(name) ?? measure();
    rates.set(name, known);
    return known as Promise<T>;
  };
  const timings: Timings = {
    teacher: () => once('teacher', () => teacherRate(config, dataset)),
    embedder: () => once('embedder', () => embedderRate(config, dataset)),
    student: () => once('student', () => studentRates(config, dataset)),
  };
  const found: StagePlan[] = [];
  for (const stage of plan) {
    if (stage.status === 'reused' || quick.has(stage.stage)) {
      found.push(stage);
      continue;
    }
    // What a run would refuse is not the estimate's to say.
    const estimate = await estimateOf(stage, config, dataset, timings, also).catch(
      (error: Error): Estimate => ({ how: `no estimate: ${error.message}` }),
    );
    found.push({ ...stage, estimate });
  }
  return found;
}

interface Timings {
  teacher(): Promise<Rate>;
  embedder(): Promise<Rate>;
  student(): Promise<{ query: Rate; document: Rate }>;
}

const none = (why: string): Estimate => ({ how: `no estimate: ${why}` });

async function estimateOf(
  { stage, missing }: StagePlan,
  config: Config,
  dataset: Dataset,
  timings: Timings,
  also: readonly AlsoSet[],
): Promise<Estimate> {
  const load = loadOf(config, dataset);
  const serving = { ...load, training: undefined, fresh: undefined };
  const times = (rate: Rate, count: number, what: string, most: boolean, bytes: number): Estimate =>
    rate.seconds === undefined
      ? none(rate.why)
      : { seconds: rate.seconds * count, bytes, how: `${most ? 'at most; ' : ''}timed on ${what} here` };
  switch (stage) {
    case 'teacher scores': {
      const count = missing?.count ?? trainingQueries(config, dataset).length * config.candidates.count;
      return times(await timings.teacher(), count, 'a few pairs', !missing, await heldBytes({ ...serving, tables: 0 }));
    }
    case 'teacher on dev': {
      const { dev } = config.data.splits;
      const queries = dev && dataset.splits.includes(dev) ? judgedQueries(dataset, dev).length : 0;
      const count = Math.min(queries, PAIRS_ON_DEV.queries) * PAIRS_ON_DEV.candidates;
      return times(await timings.teacher(), count, 'a few pairs', true, await heldBytes({ ...serving, tables: 1 }));
    }
    case 'embeddings':
      if (!missing) return none('how many texts are missing is not known');
      return times(await timings.embedder(), missing.count, 'a few texts', false, await heldBytes(serving));
    case 'kept texts': {
      if (!missing) return none('how many texts are missing is not known');
      const { query, document } = await timings.student();
      // Spans are longer than queries and shorter than documents.
      const rate =
        query.seconds === undefined || document.seconds === undefined
          ? query
          : { seconds: (query.seconds + document.seconds) / 2 };
      return times(rate, missing.count, 'a few texts', false, await heldBytes(serving));
    }
    case 'training':
      return trainingEstimate(config, dataset, timings);
    case 'evaluation':
      return evaluationEstimate(config, dataset, timings, also);
    default:
      return none(stage.includes('/') ? 'it is of a run inside this one' : 'this stage is not timed');
  }
}

async function trainingEstimate(config: Config, dataset: Dataset, timings: Timings): Promise<Estimate> {
  const { train, student } = config;
  const { query, document } = await timings.student();
  if (query.seconds === undefined) return none(query.why);
  if (document.seconds === undefined) return none(document.why);
  const n = trainingQueries(config, dataset).length;
  const perStep = Math.min(train.batchSize, n);
  const steps =
    train.steps ?? Math.max(1, Math.round(((train.epochs ?? 1) * Math.floor(n / perStep)) / train.accumulate));
  const frozen = student.towers === 'query';
  const documents = frozen ? 0 : perStep * train.candidates;
  const spans = ((config.generate && train.spans) || 0) + (student.keep?.count ?? 0);
  const batch = (perStep + spans) * query.seconds + documents * document.seconds;
  // With GradCache texts are encoded once more.
  const passes = FORWARD_AND_BACKWARD + Number(Boolean(train.gradCacheChunk));
  const { dev } = config.data.splits;
  const evaluations =
    dev !== null && train.evaluateEvery && dataset.splits.includes(dev)
      ? Math.floor(steps / train.evaluateEvery) + [train.average ?? []].flat().length
      : 0;
  const searched = frozen ? 0 : Math.min(dataset.documents.length, train.devDocuments ?? Number.POSITIVE_INFINITY);
  const texts = evaluations && dev ? judgedQueries(dataset, dev).length : 0;
  const seconds =
    steps * train.accumulate * passes * batch + evaluations * (searched * document.seconds + texts * query.seconds);
  const rows = train.gradCacheChunk ? Math.min(train.gradCacheChunk, perStep + documents) : perStep + documents;
  const folder = startFolder(student) as string;
  const tokens = train.documentTokens ?? student.documentTokens;
  const bytes = (await heldBytes(loadOf(config, dataset))) + (await stepBytes(folder, rows, tokens));
  return {
    seconds,
    bytes,
    how: `${steps.toLocaleString('en')} steps as ${passes} forward passes of ${(perStep + spans + documents).toLocaleString('en')} texts, timed on a few here; memory for texts of ${tokens} tokens${evaluations ? `; ${evaluations} evaluations on dev` : ''}`,
  };
}

async function evaluationEstimate(
  config: Config,
  dataset: Dataset,
  timings: Timings,
  also: readonly AlsoSet[],
): Promise<Estimate> {
  const { query, document } = await timings.student();
  if (query.seconds === undefined) return none(query.why);
  if (document.seconds === undefined) return none(document.why);
  const { test } = config.data.splits;
  const queries = dataset.splits.includes(test) ? judgedQueries(dataset, test).length : 0;
  const frozen = config.student.towers === 'query';
  const encoded = (1 + Number(config.evaluate.before)) * (frozen ? 0 : dataset.documents.length);
  let seconds = encoded * document.seconds + 2 * queries * query.seconds;
  const notes = ['timed on a few texts here'];
  if (config.evaluate.teacher && config.teacher && config.teacher.kind !== 'scores') {
    const rate = await timings.teacher();
    if (rate.seconds === undefined) notes.push(`without the teacher: ${rate.why}`);
    else {
      seconds += queries * Math.min(config.evaluate.depth, dataset.documents.length) * rate.seconds;
      notes.unshift('at most');
    }
  }
  // What the cache holds of further sets is not encoded; the documents of a query tower are its embedder's.
  const begun = Number(config.evaluate.before && !frozen);
  const rate = frozen && also.length ? ((await timings.embedder()).seconds ?? document.seconds) : document.seconds;
  for (const set of also)
    seconds +=
      (1 + begun) *
      (set.dataset.documents.length * rate + judgedQueries(set.dataset, set.split).length * query.seconds);
  if (also.length)
    notes.push(`with ${also.length} further ${also.length === 1 ? 'set' : 'sets'}, none of them encoded before`);
  const load = { ...loadOf(config, dataset), training: undefined, fresh: undefined };
  return { seconds, bytes: await heldBytes({ ...load, tables: load.tables + 1 }), how: notes.join('; ') };
}
