/** @file Which pairs a cross-encoder learns from: relevant documents first, then documents that stand against them. */
import { InputError } from '../../common/errors.ts';
import type { Dataset } from '../../data/dataset.ts';
import { neverNegative, relevantDocuments } from '../../data/relevant.ts';
import { readScores } from '../../data/scores.ts';
import { Random } from '../../math/random.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { labelLogit } from './cross-encoder-batch.ts';
import type { Examples } from './dual-encoder-batch.ts';

/** Which documents a cross-encoder compares, and what it learns of them. */
export interface PairOptions {
  candidates: {
    source: 'bm25' | 'given' | 'random';
    count: number;
    /** Documents drawn from the whole corpus besides those of bm25. */
    random: number;
    /** Files of scores by split, where candidates are given. */
    files?: { train?: string; dev?: string };
  };
  /** What logits learn: labels, or the scores of the files. */
  targets: 'labels' | 'scores';
  seed: number;
}

/** Examples of a split whose scores are the targets of the logits; queries without a relevant or any other document are left out. */
export async function pairExamples(
  config: PairOptions,
  dataset: Dataset,
  split: string,
  which: 'train' | 'dev',
): Promise<Examples> {
  const relevantOf = relevantDocuments(dataset, split);
  const never = neverNegative(dataset, split, [...relevantOf.keys()], relevantOf);
  const found = await candidatesOf(config, dataset, [...relevantOf.keys()], which);
  const queries: number[] = [];
  const offsets = [0];
  const documents: number[] = [];
  const scores: number[] = [];
  for (const [query, relevant] of relevantOf) {
    const given = found.get(query);
    if (!relevant.size || !given?.size) continue;
    const all = [...relevant.keys(), ...[...given.keys()].filter((d) => !never(query).has(d))].slice(
      0,
      Math.max(config.candidates.count, relevant.size + 1),
    );
    queries.push(query);
    for (const d of all) {
      documents.push(d);
      const score = config.targets === 'scores' ? given.get(d) : undefined;
      scores.push(score ?? labelLogit(relevant.has(d)));
    }
    offsets.push(documents.length);
  }
  if (!queries.length)
    throw new InputError({
      code: 'data.no-queries',
      subject: `no query of the split '${split}' has a relevant document and others to compare it with`,
      remedy: 'add judgements, or choose another candidates.source',
    });
  return {
    queries: Int32Array.from(queries),
    offsets: Int32Array.from(offsets),
    documents: Int32Array.from(documents),
    scores: Float32Array.from(scores),
    labelled: new Uint8Array(queries.length).fill(1),
    weights: new Float32Array(queries.length).fill(1),
    grade: (query, document) => relevantOf.get(query)?.get(document) ?? 0,
    relevant: never,
  };
}

/** Documents to compare for each query, with scores where they are given. */
async function candidatesOf(
  config: PairOptions,
  dataset: Dataset,
  queries: readonly number[],
  which: 'train' | 'dev',
): Promise<Map<number, Map<number, number | undefined>>> {
  const { source, count, random: fromAll, files } = config.candidates;
  const found = new Map<number, Map<number, number | undefined>>();
  if (source === 'given') {
    const file = files?.[which];
    const lists = file ? await readScores(file, dataset.queries, dataset.documents) : undefined;
    for (let i = 0; lists && i < lists.queries.length; i++) {
      const own = new Map<number, number>();
      for (let at = lists.offsets[i]; at < lists.offsets[i + 1]; at++) own.set(lists.documents[at], lists.scores[at]);
      found.set(lists.queries[i], own);
    }
    return found;
  }
  const random = Random.of(config.seed, `candidates ${which}`);
  const index = source === 'bm25' ? await bm25(dataset.documents) : undefined;
  for (const q of queries) {
    const near = index ? [...index.search(dataset.queries.text(q), count).indices] : [];
    const drawn = Array.from({ length: index ? fromAll : count }, () => random.integer(dataset.documents.length));
    // Those from the whole corpus stand first, so that the nearest ones are what a full list leaves out.
    found.set(q, new Map([...drawn, ...near].map((d) => [d, undefined])));
  }
  return found;
}
