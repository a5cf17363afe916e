/** @file Which pairs a cross-encoder learns from: relevant documents first, then others to compare with them. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { TeacherConfig } from '../config/teacher.ts';
import type { Dataset } from '../data/dataset.ts';
import { neverNegative, relevantDocuments } from '../data/relevant.ts';
import { readScores } from '../data/scores.ts';
import { bm25Index } from '../evaluation/bm25-run.ts';
import { Random } from '../math/random.ts';
import { labelLogit } from '../training/batches/cross-encoder-batch.ts';
import type { Examples } from '../training/batches/dual-encoder-batch.ts';
import type { FirstEncoder } from './first-encoder.ts';

/** Examples of a split whose scores are the targets of the logits; queries without a relevant or any other document are left out. */
export async function pairExamples(
  config: TeacherConfig,
  dataset: Dataset,
  split: string,
  which: 'train' | 'dev',
  encoder?: FirstEncoder,
  watch: RunControl = {},
): Promise<Examples> {
  const relevantOf = relevantDocuments(dataset, split);
  const never = neverNegative(dataset, split, relevantOf);
  const found = await candidatesOf(config, dataset, [...relevantOf.keys()], which, encoder, watch);
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
  config: TeacherConfig,
  dataset: Dataset,
  queries: readonly number[],
  which: 'train' | 'dev',
  encoder: FirstEncoder | undefined,
  watch: RunControl,
): Promise<Map<number, Map<number, number | undefined>>> {
  const { source, count, random: fromAll, files } = config.candidates;
  const found = new Map<number, Map<number, number | undefined>>();
  if (source === 'given') {
    const file = files?.[which];
    const lists = file
      ? await readScores(file, dataset.queries, dataset.documents, (note) =>
          watch.onProgress?.({ stage: 'data', done: 0, unit: 'pairs', note }),
        )
      : undefined;
    for (let i = 0; lists && i < lists.queries.length; i++) {
      const own = new Map<number, number>();
      for (let at = lists.offsets[i]; at < lists.offsets[i + 1]; at++) own.set(lists.documents[at], lists.scores[at]);
      found.set(lists.queries[i], own);
    }
    return found;
  }
  const random = Random.of(config.seed, `candidates ${which}`);
  const both = source === 'hybrid' && encoder ? await encoder.near(dataset, queries, count, watch) : undefined;
  const index = both || source === 'random' ? undefined : await bm25Index(dataset.documents, watch);
  for (const [i, q] of queries.entries()) {
    const near = both?.[i] ?? (index ? [...index.search(dataset.queries.text(q), count).indices] : []);
    const drawn = Array.from({ length: source === 'random' ? count : fromAll }, () =>
      random.integer(dataset.documents.length),
    );
    // Those from the whole corpus stand first, so that the nearest ones are what a full list leaves out.
    found.set(q, new Map([...drawn, ...near].map((d) => [d, undefined])));
  }
  return found;
}
