/** @file Gives a cross-encoder exits: heads after earlier layers, one file a segment, and a threshold with a certified risk. */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { certifyExits, type ExitPoint, exitCurve } from '../../adaptive/exits.ts';
import { FaultError, InputError } from '../../common/errors.ts';
import { writeWhole } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { replaceFolder } from '../../common/replace.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { openDataset, splitFor } from '../../data/open.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { cutSegments, layerCount } from '../../engine/passes/segments.ts';
import { batchTokens } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { completeTokenizer, copyTextConfig, copyTokenizer, refuseOccupied } from '../../models/checkpoint.ts';
import { cachedExits } from '../../teachers/cache/exits-cache.ts';
import { defaultCache, ScoreCache } from '../../teachers/cache/score-cache.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { type ExitsTeacher, openExits } from '../../teachers/exits.ts';
import { type ExitsFile, exitsJson, exitsSentence, segmentFile } from '../../teachers/exits-file.ts';
import { describeClassifier, type FolderReading } from '../../teachers/reading/describe.ts';
import { logitGraph } from '../../teachers/reading/logit-graph.ts';
import { checkCounts, checkShares, failing, writeMade } from '../job-options.ts';
import { queriesOf, UNJUDGED } from '../scored-lists.ts';
import { fitHeads, type Head, statesOf, withHead } from './heads.ts';
import { exitQueries, listsOf, pairsOf, trainedSplits } from './lists.ts';
import { trainTrunk } from './trunk.ts';

/** What exits are made of, and what they promise. */
export interface ExitsOptions {
  teacher: string;
  data: string;
  output: string;
  /** Layers after which there is an exit, counted from 1; the last has one anyway. Half of them and those after it by default. */
  layers?: readonly number[];
  /** Split whose queries the heads are fitted on; how many of them, and documents a query. */
  split?: string;
  queries?: number;
  candidates?: number;
  /** Files of `query-id corpus-id score` lines that say which documents; BM25's best by default. */
  lists?: string;
  calibrateLists?: string;
  /** Split whose queries the threshold is certified on, or `none`: all layers are run then. */
  calibrate?: string;
  calibrateQueries?: number;
  risk?: number;
  confidence?: number;
  /** Whether the split's labels count; else consistency with the whole model's order is what is certified. */
  labels?: boolean;
  /** Steps for which the layers are trained too; frozen by default. */
  trainTrunk?: number;
  queryTokens?: number;
  documentTokens?: number;
  seed?: number;
  cache?: string;
}

/** What an exit alone gives: every pair leaves there. */
export interface ExitFigures {
  layers: number;
  explained: number;
  deviation: number;
  /** On the calibration queries; absent without calibration. */
  quality?: number;
  /** Share of queries whose best document is the whole model's. */
  sameBest?: number;
}

/** What was fitted and certified. */
export interface ExitsReport {
  output: string;
  /** Pairs that the heads were fitted on. */
  pairs: number;
  exits: ExitFigures[];
  /** Largest difference between the segments and the whole model; absent where the layers were trained. */
  difference?: number;
  /** Share of the variance of the model's own logits that it explains after its layers were trained. */
  kept?: number;
  /** The rule's threshold; Infinity: all layers. */
  threshold: number;
  /** The promise, or why there is none. */
  guarantee: string;
  curve: ExitPoint[];
}

/** Pairs on which the segments are compared with the whole model, and what they may differ by. */
const COMPARED = 32;
const TOLERANCE = 1e-3;

/** Gives a cross-encoder exits. @throws InputError where the model, the data or an option cannot be used */
export async function makeExits(options: ExitsOptions, watch: RunControl = {}): Promise<ExitsReport> {
  const { teacher: folder, output, seed = 0 } = options;
  checkOptions(options);
  await refuseOccupied(output);
  const recorded = await trainedSplits(folder);
  const split = splitFor(options.split, 'train', recorded, watch);
  const calibrate = splitFor(options.calibrate, 'dev', recorded, watch);
  const dataset = await openDataset(options.data, {}, watch);
  const limits = { maxQuery: options.queryTokens, maxDocument: options.documentTokens };
  const reading = await describeClassifier(folder, limits);
  const model = await logitGraph(reading);
  const all = layerCount(model);
  const layers = options.layers ?? laterHalf(all);
  const drawn = Random.of(seed, 'exits')
    .shuffle(judgedQueries(dataset, split))
    .slice(0, options.queries ?? 256);
  const certifying =
    calibrate === 'none'
      ? []
      : Random.of(seed, 'exits calibration')
          .shuffle(queriesOf(dataset, calibrate))
          .slice(0, options.calibrateQueries ?? 500);
  const count = options.candidates ?? 20;
  const cache = await ScoreCache.open(options.cache ?? defaultCache());
  try {
    const fitting = await listsOf(dataset, drawn, { file: options.lists, count }, watch);
    const pairs = pairsOf(dataset, fitting);
    if (pairs.length < 2 * layers.length + 8)
      throw new InputError({
        code: 'exits.pairs',
        subject: `${pairs.length} pairs of the split '${split}' to fit exits on`,
        remedy: 'name a split with more queries, or lists with more documents',
      });
    const read = { ...reading, most: batchTokens() };
    const states = await statesOf(model, layers, read, pairs, cache, watch);
    let [served, heads] = [model, fitHeads(states)];
    let kept: number | undefined;
    if (options.trainTrunk) {
      const learned = { dataset, lists: fitting, logits: states.logits, reading };
      const training = { steps: options.trainTrunk, seed, stateFolder: `${output}.training`, key: reading.key };
      served = await trainTrunk(model, layers, heads, learned, training, watch);
      const hash = createHash('sha256').update(encodeGraph(served)).digest('hex');
      const after = await statesOf(served, layers, { ...read, hash }, pairs, cache, watch);
      heads = fitHeads(after);
      kept = explainedBy(after.logits, states.logits);
    }
    const facts: ExitsFile = {
      layers: [...layers, all],
      deviations: [...heads.map((h) => h.deviation), 0],
      explained: [...heads.map((h) => h.explained), 1],
      threshold: Number.POSITIVE_INFINITY,
    };
    await write(options, served, facts, heads, reading);
    const made = await openExits(output, limits);
    try {
      const difference =
        kept === undefined ? await compared(made, folder, limits, pairs.slice(0, COMPARED)) : undefined;
      await rm(`${output}.training`, { recursive: true, force: true });
      const lists = await listsOf(dataset, certifying, { file: options.calibrateLists, count }, watch);
      const measured = lists.length
        ? await calibrated(made, dataset, lists, { ...options, calibrate }, cache, watch)
        : undefined;
      if (measured) await writeWhole(join(output, 'exits.json'), exitsJson({ ...facts, ...measured.certified }));
      return {
        output,
        pairs: pairs.length,
        ...(difference !== undefined && { difference }),
        ...(kept !== undefined && { kept }),
        exits: facts.layers.map((layer, i) => ({
          layers: layer,
          explained: facts.explained[i],
          deviation: facts.deviations[i],
          ...measured?.alone[i],
        })),
        threshold: measured?.certified.threshold ?? Number.POSITIVE_INFINITY,
        guarantee: exitsSentence({ ...facts, ...measured?.certified }),
        curve: measured?.curve ?? [],
      };
    } finally {
      await made.dispose();
    }
  } finally {
    await cache.close();
  }
}

/** Share of the variance of targets that scores explain. */
function explainedBy(scores: Float32Array, targets: Float32Array): number {
  const middle = targets.reduce((a, b) => a + b, 0) / targets.length;
  const variance = targets.reduce((s, t) => s + (t - middle) ** 2, 0);
  return variance > 0 ? 1 - targets.reduce((s, t, i) => s + (scores[i] - t) ** 2, 0) / variance : 1;
}

/** The second half of a model's layers but the last. */
const laterHalf = (all: number): number[] =>
  Array.from({ length: all - 1 }, (_, i) => i + 1).filter((n) => n >= all / 2);

async function write(
  options: ExitsOptions,
  model: Graph,
  facts: ExitsFile,
  heads: readonly Head[],
  { files, own }: FolderReading,
): Promise<void> {
  const segments = cutSegments(model, facts.layers.slice(0, -1));
  await replaceFolder(options.output, async (temporary) => {
    for (const [i, segment] of segments.entries()) {
      const { graph } = i < heads.length ? withHead(segment, heads[i]) : segment;
      await writeWhole(segmentFile(temporary, i), encodeGraph(graph));
    }
    await copyTokenizer(files.folder, temporary);
    await copyTextConfig(files.folder, temporary);
    await completeTokenizer(temporary, own.lowerCase);
    await writeWhole(join(temporary, 'config.json'), `${JSON.stringify(files.config, null, 1)}\n`);
    await writeWhole(join(temporary, 'exits.json'), exitsJson(facts));
    await writeMade(temporary, 'distill exits', options);
  });
}

/** @throws FaultError where the segments are not the model that they were cut of */
async function compared(
  made: ExitsTeacher,
  folder: string,
  limits: { maxQuery?: number; maxDocument?: number },
  pairs: Parameters<ExitsTeacher['score']>[0],
): Promise<number> {
  const whole = await crossEncoder(folder, limits);
  try {
    const [a, b] = [await made.score(pairs), await whole.score(pairs)];
    const difference = a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]) / Math.max(1, Math.abs(b[i]))), 0);
    if (difference <= TOLERANCE) return difference;
    throw new FaultError({
      code: 'exits.differ',
      subject: `the segments of ${folder} give scores that differ by ${difference.toPrecision(2)} from the whole model's`,
      remedy: 'use the model without exits, and report its family',
    });
  } finally {
    await whole.dispose();
  }
}

async function calibrated(
  made: ExitsTeacher,
  dataset: Dataset,
  lists: Awaited<ReturnType<typeof listsOf>>,
  { calibrate, labels = true, risk = 0.01, confidence = 0.9 }: ExitsOptions & { calibrate: string },
  cache: ScoreCache,
  watch: RunControl,
) {
  const logits = await cachedExits(cache, made, pairsOf(dataset, lists), watch);
  const queries = exitQueries(dataset, lists, logits, labels && calibrate !== UNJUDGED ? calibrate : undefined);
  const { exits } = made;
  const last = exits.layers.length - 1;
  // The whole model's scores taken for those of an exit: every pair leaves there.
  const alone = exits.layers.map((_, i) => {
    const only = { layers: [exits.layers[i], exits.layers[last]], deviations: [1, 0] };
    const [, ...rest] = exitCurve(
      queries.map((q) => ({ ...q, logits: [q.logits[i], q.logits[last]] })),
      only,
    );
    const { quality, sameBest } = rest[rest.length - 1];
    return { quality, sameBest };
  });
  return {
    certified: certifyExits(queries, exits, { alpha: risk, delta: 1 - confidence }),
    curve: exitCurve(queries, exits),
    alone,
  };
}

function checkOptions({ risk = 0.01, confidence = 0.9, ...rest }: ExitsOptions): void {
  const fail = failing('exits.options');
  checkShares({ '--risk': risk, '--confidence': confidence }, fail);
  const counts = {
    '--queries': rest.queries,
    '--candidates': rest.candidates,
    '--calibrate-queries': rest.calibrateQueries,
    '--train-trunk': rest.trainTrunk,
  };
  checkCounts(counts, fail);
}
