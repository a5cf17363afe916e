/** @file The hybrid of a student and BM25: its weight fitted on the dev split, its run of the test split. */
import type { RunControl } from '../../common/progress.ts';
import { type Dataset, isGenerated, judgedQueries, textsAt } from '../../data/dataset.ts';
import type { Bm25 } from '../../retrieval/bm25.ts';
import { bothChannels, type ChannelScores, hybridSearch } from '../../retrieval/hybrid.ts';
import { bm25Index } from '../bm25-run.ts';
import { fitHybrid, type HybridFit, USUAL_LAMBDA } from '../fit-hybrid.ts';
import type { Run } from '../metrics/evaluate.ts';
import { runOnDemand } from '../metrics/run-on-demand.ts';
import { CHOICE_METRIC, type Searcher, type Vectors } from './retrieve.ts';

export interface Hybrid {
  fit: HybridFit;
  /** The run of the test split with the fitted weight; absent if dev shows no gain. */
  run?: Run;
}

export interface HybridOptions {
  dataset: Dataset;
  splits: { dev: string; test: string };
  /** Vectors of the test split's queries and of all documents. */
  vectors: Vectors;
  /** Embeds the dev split's queries. */
  queries: Searcher['queries'];
  /** `auto`, or a fixed weight. */
  weight: 'auto' | number;
  k1: number;
  b: number;
  depth: number;
}

/** Documents per query of each channel while the weight is fitted: deeper ones do not affect nDCG@10. */
const FIT_DEPTH = 200;

/** Fits the weight on dev, never on test, and searches with it; where the queries of dev are generated it is the usual one. */
export async function measureHybrid(options: HybridOptions, watch: RunControl): Promise<Hybrid> {
  const { dataset, splits, vectors, weight, k1, b, depth } = options;
  const { dimensions, documents } = vectors;
  const index = await bm25Index(dataset.documents, { k1, b, ...watch });
  const id = (position: number): string => dataset.documents.ids[position];

  const dev = judgedQueries(dataset, splits.dev);
  const embedded = await options.queries(textsAt(dataset, dev), watch);
  const lists: ChannelScores[] = [];
  await bothChannels(
    { vectors: embedded.data, text: (i) => dataset.queries.text(dev[i]) },
    documents,
    dimensions,
    index,
    (_, scores) => lists.push(scores),
    { ...watch, depth: FIT_DEPTH },
  );
  const ids = dev.map((q) => dataset.queries.ids[q]);
  const fit = fitHybrid(
    lists,
    ids,
    id,
    dataset.qrels(splits.dev),
    CHOICE_METRIC,
    givenWeight(weight, dataset, splits.dev),
  );
  return { fit, run: fit.lambda > 0 ? await hybridRun(options, index, fit, depth, watch) : undefined };
}

/** The weight that is not fitted: the config's, or the usual one where the queries of dev are generated. */
export function givenWeight(
  weight: HybridOptions['weight'],
  dataset: Pick<Dataset, 'generated'>,
  dev: string,
): number | undefined {
  if (weight !== 'auto') return weight;
  return isGenerated(dataset, dev) ? USUAL_LAMBDA : undefined;
}

/** The run of the queries whose vectors are given, by cosine and BM25 together. */
export async function hybridRun(
  { dataset, vectors }: Pick<HybridOptions, 'dataset' | 'vectors'>,
  index: Pick<Bm25, 'search' | 'scores'>,
  weight: HybridFit,
  depth: number,
  watch: RunControl,
): Promise<Run> {
  const { positions, queries, documents, dimensions } = vectors;
  const text = (i: number): string => dataset.queries.text(positions[i]);
  const more = { ...watch, k: depth + 1 };
  const hits = await hybridSearch({ vectors: queries, text }, documents, dimensions, index, weight, more);
  return runOnDemand(hits, positions, dataset, depth);
}

/** The result of the fit, as a note of the run. */
export function describeFit({ lambda, gain, dense, fused, rrf, queries, fixed }: HybridFit): string {
  if (fixed)
    return `BM25 combined with the student has the weight ${lambda}, which is not fitted (nDCG@10 on ${queries} dev queries: ${dense.toFixed(4)} without, ${fused.toFixed(4)} with)`;
  const figures = `nDCG@10 on ${queries} dev queries: ${dense.toFixed(4)} without, ${fused.toFixed(4)} with, ${rrf.toFixed(4)} by reciprocal ranks`;
  return lambda > 0
    ? `BM25 combined with the student has the weight ${lambda} (gain ${gain.value.toFixed(4)}, 95 % interval ${gain.low.toFixed(4)} to ${gain.high.toFixed(4)}; ${figures})`
    : `BM25 is not combined with the student: no positive weight improves nDCG@10 (${figures})`;
}
