/** @file Certifies from which similarity on a query may take the answer of an earlier one, and writes semantic-cache.json. */
import { type AnswerPoint, type Arrival, certifyAnswers } from '../adaptive/answers.ts';
import { qualityOf } from '../adaptive/quality.ts';
import type { RunControl } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import { openAsRun, splitFor } from '../data/open.ts';
import { Random } from '../math/random.ts';
import { LSH_BITS, LSH_TABLES } from '../retrieval/lsh.ts';
import { inFolder } from '../serving/cached-search.ts';
import { openCascade } from '../serving/cascade.ts';
import { readCascade } from '../serving/cascade-file.ts';
import type { DocumentIndex } from '../serving/documents/document-index.ts';
import { readProvenance } from '../serving/encoder/checkpoint.ts';
import { openIndex } from '../serving/open-index.ts';
import { rerankerOf } from '../serving/reranker.ts';
import {
  SemanticCache,
  type SemanticCacheFile,
  semanticCacheSentence,
  writeSemanticCache,
} from '../serving/semantic-cache.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import { crossEncoder } from '../teachers/cross-encoder.ts';
import { isExits } from '../teachers/exits.ts';
import { dataHashes } from './fit-cascade.ts';
import { checkShares, failing } from './job-options.ts';
import { type StreamKind, streamOf } from './query-stream.ts';
import { checkHolds, queriesOf, UNJUDGED } from './scored-lists.ts';

/** What answers are kept of, and what may be lost by taking them. */
export interface SemanticCacheOptions {
  /** Folder of the index that is searched. */
  index: string;
  data: string;
  output: string;
  /** cascade.json that searches go through; the index alone by default. */
  cascade?: string;
  encoder?: string;
  /** The run's dev split by default. */
  calibrate?: string;
  risk?: number;
  confidence?: number;
  /** Whether the split's labels count; else the answer that the search itself gives is the truth. */
  labels?: boolean;
  seed?: number;
  cache?: string;
}

/** Arrivals of one kind: what stood in the cache of the same query before. */
export interface KindFigures {
  kind: StreamKind;
  arrivals: number;
  /** Share that takes an earlier answer, and its mean loss. */
  hits: number;
  lossOfHits: number;
  /** Mean loss if every one took the nearest answer. */
  lossOfAll: number;
}

/** What was certified. */
export interface SemanticCacheReport {
  output: string;
  guarantee: string;
  certified: boolean;
  threshold: number;
  queries: number;
  hits: number;
  risk: number;
  curve: AnswerPoint[];
  kinds: KindFigures[];
}

/** Documents of an answer. */
const K = 10;

/**
 * The judged queries of a split arrive, while the cache holds the answers of what came before: the same query, the query with a word
 * dropped or with two words swapped, or nothing of it, a quarter each.
 * @throws InputError where the index, the data or an option cannot be used
 */
export async function semanticCache(
  options: SemanticCacheOptions,
  watch: RunControl = {},
): Promise<SemanticCacheReport> {
  const { risk = 0.01, confidence = 0.9, seed = 0, output } = options;
  checkShares({ '--risk': risk, '--confidence': confidence }, failing('semantic-cache.options'));
  const index = await openIndex(options.index, { ...watch, encoder: options.encoder });
  try {
    const { encoder } = inFolder(index);
    const { data } = await readProvenance(encoder.folder);
    const calibrate = splitFor(options.calibrate, 'dev', data.splits, watch);
    const labels = options.labels !== false && calibrate !== UNJUDGED;
    const dataset = await openAsRun(options.data, data, [calibrate], watch);
    const positions = Random.of(seed, 'semantic cache').shuffle(queriesOf(dataset, calibrate));
    await checkHolds(index, dataset, options.index);
    const search = await searchOf(index, options, watch);
    try {
      const stream = streamOf(
        positions.map((q) => dataset.queries.text(q)),
        Random.of(seed, 'stream'),
      );
      const before = stream.flatMap(({ earlier }) => (earlier === undefined ? [] : [earlier]));
      const answers = await search.answers([...stream.map((s) => s.text), ...before], watch);
      const [fresh, kept] = [answers.slice(0, stream.length), answers.slice(stream.length)];
      const vectors = await encoder.embedQueries([...stream.map((s) => s.text), ...before], watch);
      const { dimensions: D } = encoder;
      const vector = (i: number): Float32Array => vectors.subarray(i * D, (i + 1) * D);
      const lsh = { bits: LSH_BITS, tables: LSH_TABLES, seed };
      const cache = new SemanticCache<number>({ dimensions: D, threshold: -1, capacity: before.length + 1, ...lsh });
      for (const [i, text] of before.entries()) cache.put(text, vector(stream.length + i), i);
      const lossOf = labels ? byLabels(dataset, calibrate, positions) : byFresh;
      const arrivals = stream.map(({ text }, i): Arrival & { all: number } => {
        const same = cache.same(text);
        const found = same ?? cache.nearest(vector(i));
        const loss = found ? lossOf(i, fresh[i], kept[found.answer]) : 0;
        // The same text takes the answer whatever the threshold is.
        const similarity = same ? Number.POSITIVE_INFINITY : (found?.similarity ?? Number.NEGATIVE_INFINITY);
        return { similarity, loss, all: loss };
      });
      const { curve, threshold, guarantee } = certifyAnswers(arrivals, { alpha: risk, delta: 1 - confidence });
      const content: SemanticCacheFile = {
        key: search.key,
        threshold,
        ...lsh,
        guarantee: { ...guarantee, against: labels ? 'labels' : 'the fresh answer' },
        data: dataHashes(dataset, calibrate, positions),
      };
      await writeSemanticCache(output, content);
      return {
        output,
        guarantee: semanticCacheSentence(content),
        certified: guarantee.certified,
        threshold,
        queries: stream.length,
        hits: guarantee.hits,
        risk: guarantee.risk,
        curve,
        kinds: kindsOf(stream, arrivals, threshold),
      };
    } finally {
      await search.close();
    }
  } finally {
    await index.close();
  }
}

/** The first ids of an answer for each text. */
interface Answering {
  key: string;
  answers(texts: readonly string[], watch: RunControl): Promise<string[][]>;
  close(): Promise<void>;
}

async function searchOf(index: DocumentIndex, options: SemanticCacheOptions, watch: RunControl): Promise<Answering> {
  if (options.cascade === undefined)
    return {
      key: index.key,
      answers: async (texts, inner) => (await index.searchMany(texts, K, inner)).map((list) => list.map((d) => d.id)),
      close: async () => {},
    };
  const { path, queryTokens, documentTokens } = (await readCascade(options.cascade)).teacher;
  const teacher = await crossEncoder(path, { maxQuery: queryTokens, maxDocument: documentTokens });
  const cache = await ScoreCache.open(options.cache ?? defaultCache());
  const close = async (): Promise<void> => {
    await cache.close();
    await teacher.dispose();
  };
  try {
    const asked = rerankerOf(isExits(teacher) ? teacher : cache.wrap(teacher));
    const note = (text: string) => watch.onProgress?.({ stage: 'search', done: 0, unit: 'queries', note: text });
    const cascade = await openCascade(options.cascade, { index, teacher: asked, onNote: note });
    return {
      key: cascade.key,
      async answers(texts, { onProgress, signal }) {
        const found: string[][] = [];
        for (const text of texts) {
          signal?.throwIfAborted();
          found.push((await cascade.search(text, K)).documents.map((d) => d.id));
          onProgress?.({ stage: 'search', done: found.length, total: texts.length, unit: 'queries' });
        }
        return found;
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

type LossOf = (arrival: number, fresh: readonly string[], kept: readonly string[]) => number;

/** nDCG@10 of a list, by gains of its documents and those of the best list. */
function quality(ids: readonly string[], gain: (id: string) => number, ideal: readonly number[]): number {
  const none = new Float32Array(ids.length);
  const order = Int32Array.from(ids, (_, i) => i);
  return qualityOf({ student: none, teacher: none, grades: ids.map(gain), ideal }, order);
}

/** What the labels say is lost; a gain counts 0. */
function byLabels(dataset: Dataset, split: string, positions: ArrayLike<number>): LossOf {
  const qrels = dataset.qrels(split);
  return (i, fresh, kept) => {
    const grades = qrels.get(dataset.queries.ids[positions[i]]);
    const ideal = [...(grades?.values() ?? [])].filter((g) => g > 0).sort((a, b) => b - a);
    const of = (ids: readonly string[]): number => quality(ids, (id) => Math.max(0, grades?.get(id) ?? 0), ideal);
    return Math.max(0, of(fresh) - of(kept));
  };
}

/** What is lost where the fresh answer is the truth: gains of 10, 9, ..., 1 for its documents. */
const byFresh: LossOf = (_, fresh, kept) => {
  const gains = new Map(fresh.map((id, place) => [id, K - place]));
  const best = quality(kept, (id) => gains.get(id) ?? 0, [...gains.values()]);
  return fresh.length ? Math.max(0, 1 - best) : 0;
};

function kindsOf(
  stream: readonly { kind: StreamKind }[],
  arrivals: readonly (Arrival & { all: number })[],
  threshold: number,
): KindFigures[] {
  const mean = (values: readonly number[]): number =>
    values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0;
  return [...new Set(stream.map((s) => s.kind))].map((kind) => {
    const own = arrivals.filter((_, i) => stream[i].kind === kind);
    const taken = own.filter((a) => a.similarity >= threshold);
    return {
      kind,
      arrivals: own.length,
      hits: own.length ? taken.length / own.length : 0,
      lossOfHits: mean(taken.map((a) => a.loss)),
      lossOfAll: mean(own.map((a) => a.all)),
    };
  });
}
