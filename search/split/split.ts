/** @file Makes a split cross-encoder: its weights are trained so that it gives the whole model's logits. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { writeWhole } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { replaceFolder } from '../../common/replace.ts';
import { judgedQueries } from '../../data/dataset.ts';
import { openDataset, splitFor } from '../../data/open.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { layerCount } from '../../engine/passes/segments.ts';
import { type Computing, computeOn } from '../../engine/runtime/provider.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { kl } from '../../losses/kl.ts';
import { mse } from '../../losses/mse.ts';
import { Random } from '../../math/random.ts';
import { completeTokenizer, copyTokenizer, refuseOccupied } from '../../models/checkpoint.ts';
import { withWeights } from '../../students/student.ts';
import { defaultCache, ScoreCache } from '../../teachers/cache/score-cache.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { describeClassifier, type FolderReading } from '../../teachers/reading/describe.ts';
import { logitGraph } from '../../teachers/reading/logit-graph.ts';
import { type SplitFile, splitGraphs, splitJson } from '../../teachers/reading/split-file.ts';
import { pairGraph } from '../../teachers/split/pair-graph.ts';
import {
  DOCUMENT_START,
  openSplit,
  splitCrossEncoder,
  splitSegments,
} from '../../teachers/split/split-cross-encoder.ts';
import { type SplitTexts, splitTexts } from '../../teachers/split/split-texts.ts';
import { listsOf, pairsOf, type QueryList, trainedSplits } from '../exits/lists.ts';
import { trainOnLogits } from '../exits/train-on-logits.ts';
import { checkCounts, checkShares, failing, writeMade } from '../job-options.ts';
import { measureSplit, measureWhole, type SplitFigures, splitVerdict } from './measure.ts';

/** What is cut where, and how it is trained. */
export interface SplitTrainingOptions {
  teacher: string;
  data: string;
  output: string;
  /** Layers that query and document run through alone, from 1 to one less than the model has. */
  below: number;
  /** Position of a document's first token; 16 by default. */
  documentStart?: number;
  steps?: number;
  /** Split whose queries it is trained on; how many of them, and documents a query. */
  split?: string;
  queries?: number;
  candidates?: number;
  /** File of `query-id corpus-id score` lines that says which documents; BM25's best by default. */
  lists?: string;
  /** Queries a step, and documents of each. */
  batchSize?: number;
  batchCandidates?: number;
  learningRate?: number;
  /** Split that it is measured on before and after, or `none`; its queries and lists. */
  evaluate?: string;
  evaluateQueries?: number;
  evaluateLists?: string;
  queryTokens?: number;
  documentTokens?: number;
  /** Where it is trained, and the whole model scores. */
  provider?: Computing['provider'];
  seed?: number;
  cache?: string;
}

/** What was trained, and what it gives. */
export interface SplitReport {
  output: string;
  below: number;
  layers: number;
  /** Pairs that it was trained on. */
  pairs: number;
  steps: number;
  /** Median seconds a step. */
  stepSeconds: number;
  /** Mean loss of the last steps. */
  loss: number;
  /** Where the training made it worse, and the model that was only cut is written: a sentence that says so, with what to try. */
  verdict?: string;
  /** On the split that it is measured on; absent without one. */
  measured?: { queries: number; pairs: number; whole: SplitFigures; untrained: SplitFigures; trained: SplitFigures };
}

/**
 * Trains and writes a split cross-encoder, which `openSplitReranker` opens. A stopped training goes on from its saved state.
 * @throws InputError where the model, the data or an option cannot be used
 */
export async function makeSplit(options: SplitTrainingOptions, watch: RunControl = {}): Promise<SplitReport> {
  const { teacher: folder, output, below, seed = 0 } = options;
  const { documentStart = DOCUMENT_START, steps = 500, candidates: count = 20 } = options;
  await refuseOccupied(output);
  const recorded = await trainedSplits(folder);
  const split = splitFor(options.split, 'train', recorded, watch);
  const evaluate = splitFor(options.evaluate, 'dev', recorded, watch);
  checkOptions({ ...options, split, evaluate });
  const dataset = await openDataset(options.data, {}, watch);
  const limits = { maxQuery: options.queryTokens, maxDocument: options.documentTokens };
  const where = await computeOn({ provider: options.provider ?? 'cpu' });
  const whole = await crossEncoder(folder, { ...limits, session: where });
  const cache = await ScoreCache.open(options.cache ?? defaultCache());
  try {
    const reading = await describeClassifier(folder, limits);
    const model = await logitGraph(reading);
    const layers = layerCount(model);
    // Refused before anything is scored.
    await (await splitCrossEncoder(folder, below, { ...limits, documentStart })).dispose();
    const drawn = (queries: number[], most: number, name: string): number[] =>
      Random.of(seed, name).shuffle(queries).slice(0, most);
    const training = drawn(judgedQueries(dataset, split), options.queries ?? 1000, 'split');
    const lists = (await listsOf(dataset, training, { file: options.lists, count }, watch)).filter(
      (l) => l.documents.length > 1,
    );
    if (!lists.length)
      throw new InputError({
        code: 'split.lists',
        subject: `no query of the split '${split}' has two documents to put in order`,
        remedy: 'name a split with more queries, or lists with more documents',
      });
    const held =
      evaluate === 'none'
        ? []
        : await listsOf(
            dataset,
            drawn(judgedQueries(dataset, evaluate), options.evaluateQueries ?? 100, 'split evaluation'),
            { file: options.evaluateLists, count },
            watch,
          );
    const pairs = pairsOf(dataset, lists);
    const logits = await cache.wrap(whole).score(pairs, watch);
    const before = held.length
      ? await measuredBefore(
          { ...options, documentStart, session: where },
          { dataset, lists: held, split: evaluate },
          whole,
          watch,
        )
      : undefined;

    const texts = splitTexts(reading, reading.own, documentStart);
    const rows = rowsOf(texts, dataset, lists, documentStart);
    const { weights, loss, stepSeconds } = await trainOnLogits(
      {
        model: pairGraph(model, { below, documentStart, width: rows.width }),
        losses: LOSSES,
        leastLength: rows.width,
        ...{ dataset, lists, logits, pairTokens: rows.tokens, padId: reading.tokenizer.padId },
        longest: reading.hard + rows.width - documentStart,
      },
      {
        ...{ steps, seed, where, stage: 'train split', stateFolder: `${output}.training` },
        learningRate: options.learningRate ?? LEARNING_RATE,
        queries: options.batchSize ?? 4,
        candidates: options.batchCandidates ?? 8,
        key: { below, documentStart, width: rows.width, model: reading.key },
      },
      watch,
    );
    const { query, document } = reading.own;
    const facts = { below, layers, documentStart, prompts: { query, document }, ...reading.limits };
    await write(options, withWeights(model, weights), facts, reading);
    const measured = before && { ...before.report, trained: await measuredAfter(output, where, before.lists, watch) };
    const verdict = measured && splitVerdict(measured);
    // As of any other training: the weights at its start are among those that are chosen from.
    if (verdict !== undefined) await write(options, model, facts, reading);
    await rm(`${output}.training`, { recursive: true, force: true });
    return {
      ...{ output, below, layers, pairs: pairs.length, steps, stepSeconds, loss },
      ...(verdict !== undefined && { verdict }),
      ...(measured && { measured }),
    };
  } finally {
    await cache.close();
    await whole.dispose();
  }
}

/** The order of a query's documents, and the logits themselves, which other stages of a search add to. */
const LOSSES = [
  { loss: kl({ studentTemperature: 1 }), weight: 1 },
  { loss: mse({ scale: 1, shift: 0 }), weight: 0.1 },
];
const LEARNING_RATE = 1e-4;

/** Rows of pairs: queries are padded to one width. */
function rowsOf(
  texts: SplitTexts,
  { queries, documents }: Awaited<ReturnType<typeof openDataset>>,
  lists: readonly QueryList[],
  documentStart: number,
) {
  const asked = new Map(lists.map((l) => [l.query, texts.query(queries.text(l.query))]));
  const width = [...asked.values()].reduce((most, t) => Math.max(most, t.ids.length), documentStart);
  return {
    width,
    tokens: (q: number, d: number) =>
      texts.row(asked.get(q) ?? texts.query(queries.text(q)), texts.document(documents.text(d)), width),
  };
}

async function measuredBefore(
  {
    teacher,
    below,
    documentStart,
    session,
    queryTokens: maxQuery,
    documentTokens: maxDocument,
  }: SplitTrainingOptions & { session: SessionOptions },
  lists: Parameters<typeof measureWhole>[0],
  whole: Awaited<ReturnType<typeof crossEncoder>>,
  watch: RunControl,
) {
  const score = (query: string, documents: readonly string[]) =>
    whole.score(documents.map((document) => ({ queryId: '', documentId: '', query, document })));
  const { scores, figures } = await measureWhole(lists, score, watch);
  const known = { ...lists, whole: scores };
  const cut = await splitCrossEncoder(teacher, below, { maxQuery, maxDocument, documentStart, session });
  try {
    const untrained = await measureSplit(cut, known, watch);
    const pairs = scores.reduce((n, s) => n + s.length, 0);
    const says = `whole model: ndcg@10 ${figures.ndcg.toFixed(4)}; cut and not trained: ${untrained.ndcg.toFixed(4)}, tau to the whole ${untrained.tau?.toFixed(3)}`;
    watch.onProgress?.({ stage: 'measure the split model', done: 1, total: 1, unit: 'models', note: says });
    return { lists: known, report: { queries: scores.length, pairs, whole: figures, untrained } };
  } finally {
    await cut.dispose();
  }
}

async function measuredAfter(
  folder: string,
  session: SessionOptions,
  lists: Parameters<typeof measureSplit>[1],
  watch: RunControl,
) {
  const made = await openSplit(folder, session);
  try {
    return await measureSplit(made, lists, watch);
  } finally {
    await made.dispose();
  }
}

async function write(
  options: SplitTrainingOptions,
  model: Graph,
  facts: SplitFile,
  { files, own }: FolderReading,
): Promise<void> {
  const [lower, upper] = splitSegments(model, facts.below);
  await replaceFolder(options.output, async (temporary) => {
    const graphs = splitGraphs(temporary);
    await writeWhole(graphs.below, encodeGraph(lower));
    await writeWhole(graphs.above, encodeGraph(upper));
    await copyTokenizer(files.folder, temporary);
    await completeTokenizer(temporary, own.lowerCase);
    await writeWhole(join(temporary, 'config.json'), `${JSON.stringify(files.config, null, 1)}\n`);
    const [name, text] = splitJson(facts);
    await writeWhole(join(temporary, name), text);
    await writeMade(temporary, 'distill split', options);
  });
}

function checkOptions({ learningRate, ...rest }: SplitTrainingOptions): void {
  const fail = failing('split.options');
  checkShares({ '--learning-rate': learningRate }, fail);
  if (rest.seed !== undefined && !Number.isInteger(rest.seed)) fail(`--seed ${rest.seed}`, 'a whole number');
  const counts = {
    '--below': rest.below,
    '--steps': rest.steps,
    '--queries': rest.queries,
    '--candidates': rest.candidates,
    '--batch-size': rest.batchSize,
    '--batch-candidates': rest.batchCandidates,
    '--evaluate-queries': rest.evaluateQueries,
    '--query-tokens': rest.queryTokens,
    '--document-tokens': rest.documentTokens,
  };
  checkCounts(counts, fail);
  if (rest.batchCandidates === 1) fail('--batch-candidates 1', 'at least 2, of which one is put before the other');
  if (rest.evaluate !== undefined && rest.evaluate !== 'none' && rest.evaluate === rest.split)
    fail(`--evaluate ${rest.evaluate}`, 'another split than the one that is trained on');
}
