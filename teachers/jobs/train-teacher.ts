/** @file Trains a cross-encoder on labels, or on another model's scores: the teacher of a later run. */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { type FirstEncoder, isDualEncoder, openFirstEncoder } from '../../candidates/first-encoder.ts';
import { pairExamples } from '../../candidates/pair-examples.ts';
import { InputError } from '../../common/errors.ts';
import { canonicalJson, hashFile, removeLeftovers } from '../../common/files.ts';
import { takeLock } from '../../common/lock.ts';
import type { RunControl } from '../../common/progress.ts';
import { finishReplacing } from '../../common/replace.ts';
import { absolute } from '../../config/paths.ts';
import {
  parseTeacherConfig,
  type TeacherConfig,
  type TeacherConfigInput,
  teacherSchedule,
  toTeacherLosses,
} from '../../config/teacher.ts';
import { type Dataset, judgedQueries, learnedTexts } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { TextTokenizer, type Tokens } from '../../data/tokenizer.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { allowTf32 } from '../../engine/runtime/cuda.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import { type OrdersOnDev, splitName, teacherVerdict } from '../../evaluation/runs/verdict.ts';
import { refuseOccupied } from '../../models/checkpoint.ts';
import { writeCrossEncoder } from '../../models/cross-encoder-checkpoint.ts';
import { checkVocabulary } from '../../models/encoder.ts';
import { type ModelFolder, positionsOf, readModelFolder } from '../../models/model-folder.ts';
import { freshModel } from '../../models/new-model.ts';
import { parameterCount, type Weights, withWeights } from '../../students/student.ts';
import { makePairBatch } from '../../training/batches/cross-encoder-batch.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { learnerOn } from '../../training/device-learner.ts';
import { batchMemory, trainedAtATime } from '../../training/memory-budget.ts';
import { crossEncoderStep } from '../../training/step/cross-encoder-step.ts';
import { train as trainLoop } from '../../training/trainer.ts';
import { appendDualHead } from '../dual-pooling-head.ts';
import { appendLogitHead } from '../logit-head.ts';
import { pairConfig } from '../reading/pair-config.ts';
import { comparedOnDev, rankingScore } from './cross-encoder-on-dev.ts';

/** Where the cross-encoder is and what it reaches. */
export interface TeacherReport {
  /** The model folder. */
  model: string;
  parameters: number;
  steps: number;
  /** Mean loss of the last steps. */
  loss: number;
  /** nDCG@10 of the dev candidates in the model's order, by step; the best one was kept. */
  evaluations: { step: number; score: number }[];
  bestStep: number;
  /** nDCG@10 of the dev candidates in the order of the model, of the encoder that it was made from, and of BM25. */
  dev?: OrdersOnDev;
  /** Said first: something that the user had before ranks the dev candidates as well. */
  verdict?: string;
  seconds: number;
}

/**
 * Trains a cross-encoder and saves it as a model folder. A stopped training goes on from its saved state.
 *
 * @throws InputError for a mistake in what was given, FaultError where a loss or gradient is not finite
 */
export async function trainTeacher(options: TeacherConfigInput, watch: RunControl = {}): Promise<TeacherReport> {
  const config = parseTeacherConfig(options);
  const started = performance.now();
  await refuseOccupied(config.output);
  const dataset = await openDataset(config.data, {}, watch);
  // A name on the hub is fetched once, and its folder trained from.
  const start = config.model ? (await readModelFolder(config.model, watch)).folder : `${config.output}.fresh`;
  const unlock = await takeLock(`${config.output}.lock`, `the output folder ${config.output}`);
  try {
    await finishReplacing(config.output);
    for (const folder of [start, `${config.output}.candidate`])
      if (!config.model || folder !== start) await finishReplacing(folder);
    await removeLeftovers(`${config.output}.training`);
    if (config.fresh)
      await freshModel(start, learnedTexts(dataset, judgedQueries(dataset, config.split)), {
        ...config.fresh,
        kind: 'cross-encoder',
        seed: config.seed,
      });
    return await trainFrom(start, config, dataset, started, watch);
  } finally {
    if (config.fresh) await rm(start, { recursive: true, force: true });
    await unlock();
  }
}

async function trainFrom(
  start: string,
  config: TeacherConfig,
  dataset: Dataset,
  started: number,
  given: RunControl,
): Promise<TeacherReport> {
  const folder = await readModelFolder(start);
  const { lowerCase, prompt } = await pairConfig(folder.folder);
  const tokenizer = await TextTokenizer.load(folder.folder, { lowerCase });
  const model = await loadGraph(folder.model);
  checkVocabulary(model, tokenizer, start);
  const dual = isDualEncoder(start, model);
  if (config.candidates.source === 'hybrid' && model.outputs.some((v) => v.name === 'logits'))
    throw new InputError({
      code: 'config.contradiction',
      subject: `'candidates.source: hybrid' searches with the encoder that training starts from, and ${start} is a cross-encoder`,
      remedy: 'choose another source, or start from a dual-encoder',
    });
  if (config.head === 'dual-pooling') appendDualHead(model, tokenizer, start);
  else if (!model.outputs.some((v) => v.name === 'logits')) appendLogitHead(model, folder.config, start, config.seed);
  const note = (text: string): void =>
    given.onProgress?.({ stage: 'train teacher', done: 0, total: 0, unit: 'steps', note: text });
  if (prompt)
    note(`the prompt '${prompt}' of ${start} is put before no query in training, nor by the model that is written`);
  const memory =
    config.memory && (await batchMemory(config.memory, { serving: [start], training: start, dataset, tables: 0 }));
  const watch = memory ? { ...given, memory } : given;
  const limits = {
    maxQuery: config.queryTokens,
    maxDocument: config.documentTokens,
    maxLength: config.maxLength ?? Math.min(folder.maxLength ?? 512, tokenizer.modelMaxLength ?? 512),
  };
  const { source: asked } = config.candidates;
  const source = asked === 'auto' ? (dual ? 'hybrid' : 'bm25') : asked;
  const encoder =
    dual || source === 'hybrid'
      ? await openFirstEncoder(start, config.dev, {
          session: await computeOn(config.train),
          queryTokens: config.queryTokens && config.queryTokens + 2,
          documentTokens: config.documentTokens && config.documentTokens + 2,
        })
      : undefined;
  try {
    const finding = { ...config, candidates: { ...config.candidates, source } };
    const train = await pairExamples(finding, dataset, config.split, 'train', encoder, watch);
    const dev =
      config.dev === null ? undefined : await pairExamples(finding, dataset, config.dev, 'dev', encoder, watch);
    return await trainOn(
      { start, folder, tokenizer, lowerCase, model, limits, train, dev, encoder, note },
      config,
      dataset,
      started,
      watch,
    );
  } finally {
    await encoder?.close();
  }
}

/** What a training starts from. */
interface Ready {
  start: string;
  folder: ModelFolder;
  tokenizer: TextTokenizer;
  lowerCase: boolean;
  model: Graph;
  limits: { maxQuery?: number; maxDocument?: number; maxLength: number };
  train: Examples;
  dev?: Examples;
  /** The dual-encoder that the model is made from. */
  encoder?: FirstEncoder;
  note(text: string): void;
}

async function trainOn(
  { start, folder, tokenizer, lowerCase, model, limits, train, dev, encoder, note }: Ready,
  config: TeacherConfig,
  dataset: Dataset,
  started: number,
  watch: RunControl,
): Promise<TeacherReport> {
  const { memory } = watch;
  const { candidates, groups, learningRate, finalLearningRate } = config.train;
  const { perStep, totalSteps, warmupSteps, evaluateEvery } = teacherSchedule(config, train.queries.length);
  const pairTokens = (q: number, d: number): Tokens =>
    tokenizer.encodePair(dataset.queries.text(q), dataset.documents.text(d), limits);
  const source = { examples: train, pairTokens, padId: tokenizer.padId };
  allowTf32(config.train.tf32);
  const where = await computeOn(config.train);
  const onDevice = where.provider !== 'cpu';
  const longest = positionsOf(folder.config);
  const parts =
    memory && !onDevice ? partsOf(perStep, candidates, await trainedAtATime(model, limits.maxLength, memory)) : 1;
  if (parts > 1)
    note(
      `memory: the ${perStep * candidates} pairs of a step are read ${(perStep * candidates) / parts} at a time, with the same gradients`,
    );
  const drawing = { queries: perStep, candidates, parts, groups, seed: config.seed, onDevice, longest };
  const step = { model, losses: toTeacherLosses(config.losses), groups };
  const adamw = { weightDecay: config.train.weightDecay, clipNorm: config.train.clipNorm ?? undefined };
  const learner = await learnerOn((forms) => crossEncoderStep(step, forms), where, adamw);
  const data = { documents: dataset.documents.hash, queries: dataset.queries.hash };
  const save = async (to: string, weights: Weights, step: number): Promise<void> => {
    const bytes = encodeGraph(withWeights(model, weights));
    await writeCrossEncoder(to, {
      model: bytes,
      tokenizerFrom: start,
      lowerCase,
      maxLength: limits.maxLength,
      config: folder.config,
      provenance: {
        config: { ...config, data: absolute(config.data), model: config.model && absolute(config.model) },
        data,
        model: createHash('sha256').update(bytes).digest('hex'),
        step,
      },
    });
  };
  // Next to the output folder, which holds a whole model or nothing.
  const [candidate, stateFolder] = [`${config.output}.candidate`, `${config.output}.training`];
  try {
    const trained = await trainLoop(
      learner,
      {
        draw: (number) => makePairBatch(source, number, drawing),
        ids: ({ exampleIds }) => exampleIds.map((e) => dataset.queries.ids[train.queries[e]]),
        *arrays({ targets, weights }) {
          yield ['targets', targets.data as Float32Array];
          yield ['weights', weights.data as Float32Array];
        },
      },
      {
        terms: Object.keys(config.losses),
        onNonFinite: config.train.onNonFinite,
        schedule: { learningRate, warmupSteps, totalSteps, finalShare: finalLearningRate },
        evaluateEvery: dev && evaluateEvery,
        saveEvery: config.train.saveEvery,
        accumulate: parts,
      },
      {
        ...watch,
        stage: 'train teacher',
        stateFolder,
        key: {
          options: canonicalJson({ ...config, output: '', memory: '' }),
          model: await hashFile(folder.model),
          ...data,
        },
        evaluate:
          dev &&
          (async (weights, step) => {
            await save(candidate, weights, step);
            return rankingScore(candidate, dev, config, dataset, { ...limits, session: where }, watch);
          }),
      },
    );
    await save(config.output, trained.weights, trained.bestStep);
    await rm(stateFolder, { recursive: true, force: true });
    const best = trained.evaluations.find((e) => e.step === trained.bestStep);
    const orders = dev &&
      best && { teacher: best.score, ...(await comparedOnDev(dev, config, dataset, encoder, watch)) };
    return {
      model: config.output,
      parameters: parameterCount(model),
      steps: totalSteps,
      loss: lastLoss(trained.log),
      evaluations: trained.evaluations,
      bestStep: trained.bestStep,
      dev: orders,
      verdict: orders && teacherVerdict(orders, splitName(dataset, config.dev as string)),
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    await learner.release();
    await rm(candidate, { recursive: true, force: true });
  }
}

/** Equal parts that a step is cut into so that the pairs of each fit: their mean gradient is then the step's. */
function partsOf(queries: number, candidates: number, pairsAtATime: number): number {
  let parts = 1;
  while (parts < queries && (queries % parts || (queries / parts) * candidates > pairsAtATime)) parts++;
  return parts;
}

/** Mean over the last steps. */
function lastLoss(log: readonly { loss: number }[]): number {
  const last = log.slice(-20);
  return last.reduce((sum, e) => sum + e.loss, 0) / last.length;
}
