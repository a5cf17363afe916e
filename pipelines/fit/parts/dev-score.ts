/** @file The figure that chooses weights while a student trains: nDCG@10 of the dev split. */
import { judgedQueries } from '../../../data/dataset.ts';
import { bm25Search } from '../../../evaluation/bm25-run.ts';
import {
  CHOICE_METRIC,
  drawSample,
  encoderSearcher,
  means,
  retrieve,
  type Sample,
} from '../../../evaluation/systems/retrieve.ts';
import { Random } from '../../../math/random.ts';
import type { Encoder } from '../../../models/encoder.ts';
import { type Fit, frozenOf } from './fit.ts';

/** Hits of BM25 for a dev query that are searched in addition to the relevant documents. */
const DEPTH = 20;

/**
 * What dev scores are measured on: undefined for all documents, or the relevant ones and as many others as `train.devDocuments`
 * says. Those are BM25's best for the dev queries, first hits first: among random documents every student finds the relevant ones,
 * and the choice would be one of chance.
 */
export async function devSample(fit: Fit, split: string): Promise<Sample | undefined> {
  const { options, inputs, watch } = fit;
  const among = options.train.devDocuments;
  if (among === undefined) return undefined;
  const { dev: dataset } = inputs;
  const quiet = { ...watch, onProgress: undefined };
  const judged = judgedQueries(dataset, split);
  const hits = await bm25Search(dataset, judged, DEPTH, quiet);
  const byRank = Array.from({ length: DEPTH }, (_, rank) =>
    judged.flatMap((_, place) => [...hits(place).indices.subarray(rank, rank + 1)]),
  );
  const random = Random.of(0, 'dev documents');
  const sample = drawSample(dataset, split, random, (relevant) => relevant + among, undefined, byRank.flat());
  sample.documents.sort();
  return sample;
}

/** nDCG@10 of the dev split. */
export async function devScore(fit: Fit, encoder: Encoder, split: string, sample: Sample | undefined): Promise<number> {
  const { options, inputs, watch } = fit;
  const { dev: dataset } = inputs;
  const searcher = encoderSearcher(encoder, options.student, frozenOf(fit));
  const { run } = await retrieve(searcher, { dataset, split, depth: 10, sample }, { ...watch, onProgress: undefined });
  return means(run, dataset, split, [CHOICE_METRIC])[CHOICE_METRIC];
}
