/** @file What the parts of a run would take, for a dry run: from a few texts that the models are timed on. */
import { existsSync } from 'node:fs';
import { duration } from '../../common/duration.ts';
import { isWithin } from '../../common/files.ts';
import type { Config } from '../../config/config.ts';
import { loadOf } from '../../config/memory.ts';
import { localModel } from '../../config/models.ts';
import { startFolder } from '../../config/student.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { tokensOfCall } from '../../generation/chat.ts';
import { heldBytes, stepBytes } from '../../training/memory-budget.ts';
import type { AlsoSet } from '../also.ts';
import { askedDocuments } from '../asked-documents.ts';
import { trainingQueries } from '../data.ts';
import type { Estimate, RunLog, StagePlan } from '../stages/run-log.ts';
import { embedderRate, productRate, type Rate, studentRates, tableRate, teacherRate } from './rates.ts';

/** A backward pass computes two gradients for each product of the forward pass. */
const FORWARD_AND_BACKWARD = 3;
/** Of the check of a teacher on dev: see pipelines/fit/teacher-on-dev.ts. */
const PAIRS_ON_DEV = { queries: 200, candidates: 20 };

/** Stages that need no model and take seconds. */
const quick = new Set(['data', 'candidates', 'examples', 'queries', 'weights', 'checkpoint', 'lexical channel']);

/** The plan that a log holds, with an estimate for each stage that would be made, as far as one can be had. */
export async function withEstimates(
  config: Config,
  dataset: Dataset,
  log: RunLog,
  also: readonly AlsoSet[] = [],
  signal?: AbortSignal,
): Promise<StagePlan[]> {
  const rates = new Map<string, Promise<unknown>>();
  const once = <T>(name: string, of: unknown, measure: () => Promise<T>): Promise<T> => {
    const key = `${name} ${JSON.stringify(of)}`;
    const known = rates.get(key) ?? measure();
    rates.set(key, known);
    return known as Promise<T>;
  };
  const timingsOf = (run: Config): Timings => ({
    teacher: () => once('teacher', run.teacher, () => teacherRate(run, dataset)),
    embedder: () => once('embedder', run.embedder, () => embedderRate(run, dataset)),
    student: () => once('student', run.student, () => studentRates(run, dataset)),
  });
  const found: StagePlan[] = [];
  for (const stage of log.stages) {
    signal?.throwIfAborted();
    const inner = log.runs
      .filter(({ name }) => stage.stage === name || stage.stage.startsWith(`${name}/`))
      .sort((a, b) => b.name.length - a.name.length)[0];
    const run = inner ? presentModels(inner.config, config) : config;
    // A part of a run (a round) has the options of the whole.
    const [name = ''] = (inner ? stage.stage.slice(inner.name.length + 1) : stage.stage).split('/').slice(-1);
    if (stage.status === 'reused' || (quick.has(name) && !(name === 'candidates' && embedsForCandidates(run)))) {
      found.push(stage);
      continue;
    }
    const timings = timingsOf(run);
    const estimate = await (name
      ? estimateOf({ ...stage, stage: name }, run, dataset, timings, also)
      : runEstimate(run, dataset, timings, also)
    )
      // What a run would refuse is not the estimate's to say.
      .catch((error: Error): Estimate => ({ how: `no estimate: ${error.message}` }));
    found.push({ ...stage, estimate });
  }
  return found;
}

/** The config with the model that the outer run starts from where it names one that an earlier run will make of it. */
function presentModels(inner: Config, outer: Config): Config {
  const start = startFolder(outer.student) ?? localModel(outer.embedder);
  const made = (folder: string | undefined): boolean =>
    folder !== undefined && isWithin(outer.output, folder) && !existsSync(folder);
  const { embedder, student } = inner;
  return {
    ...inner,
    ...(start &&
      embedder &&
      made(localModel(embedder)) && { embedder: { ...embedder, model: start } as typeof embedder }),
    ...(start && made(startFolder(student)) && { student: { ...student, model: start } as typeof student }),
  };
}

/** Whether candidates are found by a model that embeds the documents. */
const embedsForCandidates = ({ candidates: { source } }: Config): boolean =>
  source === 'hybrid' || source === 'student';

/** Training queries, as many of them as the teacher may be asked about. */
const taught = (config: Config, dataset: Dataset): number =>
  Math.min(trainingQueries(config, dataset).length, config.querySelection?.budget ?? Number.POSITIVE_INFINITY);

/** A run that a dry run cannot look into, as a whole. */
async function runEstimate(
  config: Config,
  dataset: Dataset,
  timings: Timings,
  also: readonly AlsoSet[],
): Promise<Estimate> {
  const stages = [...(config.embedder ? ['embeddings'] : []), 'training', 'evaluation'];
  const parts: [string, Estimate][] = [];
  for (const stage of stages)
    parts.push([stage, await estimateOf({ stage, status: 'depends', why: '' }, config, dataset, timings, also)]);
  const known = parts.filter(([, e]) => e.seconds !== undefined);
  return {
    ...(known.length && { seconds: known.reduce((sum, [, e]) => sum + (e.seconds as number), 0) }),
    ...(known.length && { bytes: known.reduce((most, [, e]) => Math.max(most, e.bytes ?? 0), 0) }),
    how: parts
      .map(([stage, { seconds, how }]) => `${stage} ${seconds === undefined ? how : duration(Math.max(1, seconds))}`)
      .join(', '),
  };
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
    case 'candidates': {
      const { query, document } = await timings.student();
      if (query.seconds === undefined) return none(query.why);
      const queries = trainingQueries(config, dataset).length;
      const embedded = times(document, dataset.documents.length, 'a few texts', true, await heldBytes(serving));
      return embedded.seconds === undefined
        ? embedded
        : { ...embedded, seconds: embedded.seconds + queries * query.seconds };
    }
    case 'teacher scores': {
      const count = missing?.count ?? taught(config, dataset) * config.candidates.count;
      const held = await heldBytes({ ...serving, tables: 0 });
      // A dual-encoder embeds each text once.
      if (config.teacher?.kind === 'dual-encoder')
        return times(await timings.teacher(), Math.min(count, dataset.documents.length), 'a few texts', true, held);
      return times(await timings.teacher(), count, 'a few pairs', !missing, held);
    }
    case 'teacher on dev': {
      const { dev } = config.data.splits;
      const queries = dev && dataset.splits.includes(dev) ? judgedQueries(dataset, dev).length : 0;
      const count = Math.min(queries, PAIRS_ON_DEV.queries) * PAIRS_ON_DEV.candidates;
      return times(await timings.teacher(), count, 'a few pairs', true, await heldBytes({ ...serving, tables: 1 }));
    }
    case 'embeddings':
      return times(
        await timings.embedder(),
        missing?.count ?? embeddedTexts(config, dataset),
        'a few texts',
        !missing,
        await heldBytes(serving),
      );
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
    case 'written queries':
      return writtenEstimate(config, dataset);
    case 'training':
      return trainingEstimate(config, dataset, timings);
    case 'evaluation':
      return evaluationEstimate(config, dataset, timings, also);
    default:
      return none('this stage is not timed');
  }
}

/** Documents whose length stands for that of all. */
const LENGTHS = 200;

/** What a language model would be asked for; how long it takes only the endpoint knows. */
function writtenEstimate(config: Config, { documents, ...dataset }: Dataset): Estimate {
  const { generate } = config;
  if (!generate) return none('no language model is named');
  const asked = askedDocuments(generate, config, { documents, ...dataset });
  const all = asked.documents.length;
  const examples = asked.examples.map((q) => dataset.queries.text(q));
  const sample = asked.documents.subarray(0, LENGTHS);
  const tokens = sample.reduce((n, d) => n + tokensOfCall(documents.text(d).length, { ...generate, examples }), 0);
  const calls = Math.min(all, generate.budget?.calls ?? all);
  const most = generate.budget?.tokens ?? Number.POSITIVE_INFINITY;
  const needed = Math.round((calls * tokens) / Math.max(1, sample.length));
  const short = Math.min(calls, Math.floor((most / Math.max(1, needed)) * calls));
  const count = (n: number): string => n.toLocaleString('en');
  const limit = short < all ? `, which the budget ends after about ${count(short)} of ${count(all)} documents` : '';
  return {
    how: `at most ${count(calls)} calls, about ${count(Math.min(needed, most))} tokens${limit}; replies known before are not asked for; time depends on the endpoint`,
  };
}

/** Documents of the corpus that a text of another length takes as long as, about. */
const SHORT = 4;

/** How many documents' worth of work the embedder has, where nothing is in the cache: queries and spans are shorter. */
function embeddedTexts({ data, generate, train }: Config, dataset: Dataset): number {
  const queries = dataset.splits.includes(data.splits.train) ? judgedQueries(dataset, data.splits.train).length : 0;
  const spans = train.spans ? (generate?.count ?? 0) : 0;
  return dataset.documents.length + Math.round((queries + spans) / SHORT);
}

async function trainingEstimate(config: Config, dataset: Dataset, timings: Timings): Promise<Estimate> {
  const { train, student } = config;
  if (student.kind === 'static') return tableEstimate(config, dataset);
  const { query, document } = await timings.student();
  if (query.seconds === undefined) return none(query.why);
  if (document.seconds === undefined) return none(document.why);
  const n = taught(config, dataset);
  const perStep = Math.min(train.batchSize, n);
  const steps =
    train.steps ?? Math.max(1, Math.round(((train.epochs ?? 1) * Math.floor(n / perStep)) / train.accumulate));
  const frozen = student.towers === 'query';
  const documents = frozen ? 0 : perStep * train.candidates;
  const spans = ((config.generate && train.spans) || 0) + (student.keep?.count ?? 0);
  const among = train.sampledDocuments ? perStep + train.sampledDocuments : 0;
  const product = among ? await productRate(config, perStep + spans, among) : { seconds: 0 };
  const batch = (perStep + spans) * query.seconds + documents * document.seconds + (product.seconds ?? 0);
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

/** A table of token vectors: the products with documents and the update of the table take the time. */
async function tableEstimate(config: Config, dataset: Dataset): Promise<Estimate> {
  const { train } = config;
  const perStep = Math.min(train.batchSize, trainingQueries(config, dataset).length);
  const texts = perStep + ((config.generate && train.spans) || 0);
  if (!train.steps) return none('the number of steps follows from the queries');
  const product = await productRate(config, texts, perStep + (train.sampledDocuments ?? 0));
  const update = await tableRate(config);
  if (product.seconds === undefined) return none(product.why);
  if (update.seconds === undefined) return none(update.why);
  return {
    seconds: train.steps * (FORWARD_AND_BACKWARD * product.seconds + update.seconds),
    bytes: await heldBytes(loadOf(config, dataset)),
    how: `${train.steps.toLocaleString('en')} steps of ${texts.toLocaleString('en')} texts, as products and updates of the table timed here; without evaluations on dev`,
  };
}

async function evaluationEstimate(
  config: Config,
  dataset: Dataset,
  timings: Timings,
  also: readonly AlsoSet[],
): Promise<Estimate> {
  // A table looks its vectors up.
  const free = { query: { seconds: 0 }, document: { seconds: 0 } };
  const { query, document } = config.student.kind === 'static' ? free : await timings.student();
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
      const { depth } = config.evaluate;
      // A dual-encoder embeds the documents once, and searches all.
      const pairs = queries * Math.min(depth, dataset.documents.length);
      seconds += rate.seconds * (config.teacher.kind === 'dual-encoder' ? dataset.documents.length : pairs);
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
