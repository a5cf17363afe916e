/** @file Candidates by both channels: an encoder's cosine and BM25, with the weight that suits the encoder on dev. */
import type { RunControl } from '../common/progress.ts';
import { type Dataset, isGenerated, judgedQueries, type Texts, textsAt } from '../data/dataset.ts';
import { bm25Index } from '../evaluation/bm25-run.ts';
import { fitHybrid } from '../evaluation/fit-hybrid.ts';
import { mean } from '../math/resampling.ts';
import type { Hits } from '../retrieval/exact-search.ts';
import { bothChannels, type ChannelScores, type HybridWeight, hybridSearch } from '../retrieval/hybrid.ts';
import type { Embeddings } from '../teachers/teacher.ts';

/** What embeds queries and documents for a search. */
export interface Side {
  encode(texts: Texts, role: 'query' | 'document', watch: RunControl): Promise<Embeddings>;
  close(): Promise<void>;
}

/** Least weight of BM25: negatives that only one channel finds are hard for the other one (recipe of six sets). */
export const LEAST_LEXICAL = 0.1;
/** Dev queries that the weight is fitted on at most, and documents that each channel finds for them. */
const FIT_QUERIES = 1000;
const FIT_DEPTH = 200;

/**
 * Documents by cosine + max(lambda, 0.1) x BM25 / scale. Lambda and scale are fitted on the dev split; without one lambda is 0.1
 * and the scale is the mean of the best BM25 scores of the queries themselves.
 * @param queries texts and vectors, [n, dimensions] row-major
 * @param documents vectors of all documents, row-major
 */
export async function hybridHits(
  dev: string | null,
  dataset: Dataset,
  queries: { texts: Texts; vectors: Float32Array },
  documents: Float32Array,
  side: Pick<Side, 'encode'>,
  count: number,
  watch: RunControl,
): Promise<Hits> {
  const dimensions = documents.length / dataset.documents.length;
  const weight = await fittedWeight(dev, dataset, queries.texts, documents, side, watch);
  const text = (i: number): string => queries.texts.text(i);
  return hybridSearch(
    { vectors: queries.vectors, text },
    documents,
    dimensions,
    await bm25Index(dataset.documents, watch),
    weight,
    { ...watch, k: count, depth: Math.max(FIT_DEPTH, 2 * count) },
  );
}

async function fittedWeight(
  dev: string | null,
  dataset: Dataset,
  texts: Texts,
  documents: Float32Array,
  side: Pick<Side, 'encode'>,
  watch: RunControl,
): Promise<HybridWeight> {
  const index = await bm25Index(dataset.documents, watch);
  // Generated queries repeat the words of their documents: a weight fitted to them is for such queries alone.
  const alike = !isGenerated(dataset, dev) || isGenerated(dataset, 'train');
  const fits = dev !== null && alike && dataset.splits.includes(dev);
  const judged = fits ? judgedQueries(dataset, dev).slice(0, FIT_QUERIES) : [];
  if (!judged.length || dev === null) {
    const best = Array.from({ length: Math.min(texts.length, FIT_QUERIES) }, (_, i) => {
      const { scores } = index.search(texts.text(i), 1);
      return scores[0] ?? 0;
    });
    return { lambda: LEAST_LEXICAL, scale: mean(best) || 1 };
  }
  const asked = textsAt(dataset, judged);
  const { data, dimensions } = await side.encode(asked, 'query', watch);
  const lists: ChannelScores[] = [];
  await bothChannels(
    { vectors: data, text: (i) => asked.text(i) },
    documents,
    dimensions,
    index,
    (_, scores) => lists.push(scores),
    { ...watch, depth: FIT_DEPTH },
  );
  const ids = judged.map((q) => dataset.queries.ids[q]);
  const { lambda, scale } = fitHybrid(lists, ids, (d) => dataset.documents.ids[d], dataset.qrels(dev));
  return { lambda: Math.max(LEAST_LEXICAL, lambda), scale };
}
