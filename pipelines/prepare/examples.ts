/** @file From scored candidates to the examples of a training set. */
import { InputError } from '../../common/errors.ts';
import { toSelection } from '../../config/methods.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { neverNegative, relevantDocuments } from '../../data/relevant.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import type { Options } from '../run/options.ts';
import { defineStage } from '../run/stage.ts';
import { warnOfScores } from '../run/warnings.ts';

const none: ReadonlyMap<number, number> = new Map();

/** Relevant documents with grades by query, as positions; of the first so many queries where the config keeps no more labels. */
export const labelsOf = (
  { data }: Options<'data.labelled' | 'data.splits'>,
  dataset: Dataset,
): Map<number, ReadonlyMap<number, number>> =>
  new Map([...relevantDocuments(dataset, data.splits.train)].slice(0, data.labelled));

/** Examples: known positives first, then the negatives that the selection keeps. Queries without a candidate are left out. */
export const examples = defineStage({
  name: 'examples',
  options: ['selection', 'seed', 'train.pseudoLabels', 'data.labelled'],
  unrecorded: ['data.splits'],
  make(
    options,
    { data, lists, factors, read }: { data: Dataset; lists: CandidateLists; factors?: Float32Array; read: boolean },
    { note, warn },
  ): Examples {
    if (read) warnOfScores(lists, warn);
    const { examples: made, leftOut } = makeExamples(options, data, lists, factors);
    if (leftOut) note(`${leftOut} queries have no candidate and are left out`);
    if (!made.queries.length)
      throw new InputError({
        code: 'run.nothing-to-learn',
        subject: `no query of the split '${options.data.splits.train}' has a candidate`,
        remedy: 'choose another candidates.source or add queries',
      });
    note(`${made.queries.length} training queries with ${made.documents.length} candidates`);
    return made;
  },
});

/** @param weights a factor for each list, as the choice of queries may hand on */
export function makeExamples(
  config: Options<'selection' | 'seed' | 'train.pseudoLabels' | 'data.labelled' | 'data.splits'>,
  dataset: Dataset,
  lists: CandidateLists,
  weights?: Float32Array,
): { examples: Examples; leftOut: number } {
  const labels = labelsOf(config, dataset);
  const never = neverNegative(dataset, config.data.splits.train, lists.queries, labels);
  const positives = Uint8Array.from(lists.documents, () => 0);
  for (const [i, query] of lists.queries.entries()) {
    const relevant = labels.get(query) ?? none;
    for (let at = lists.offsets[i]; at < lists.offsets[i + 1]; at++)
      if (relevant.has(lists.documents[at])) positives[at] = 1;
  }
  const { indices, offsets } = toSelection(config.selection).select(
    { offsets: lists.offsets, scores: lists.scores, positives },
    { seed: config.seed },
  );
  const kept: number[] = [];
  const chosen: number[][] = [];
  const labelled: number[] = [];
  for (let i = 0; i < lists.queries.length; i++) {
    const own = Array.from(indices.subarray(offsets[i], offsets[i + 1]));
    if (!own.length) continue;
    const known = positives[own[0]] === 1;
    // The teacher's best candidate stands where a label would.
    if (!known && config.train.pseudoLabels) own.unshift(...own.splice(bestOf(lists.scores, own), 1));
    kept.push(i);
    labelled.push(known || config.train.pseudoLabels ? 1 : 0);
    chosen.push(own);
  }
  const ends = new Int32Array(kept.length + 1);
  for (const [k, list] of chosen.entries()) ends[k + 1] = ends[k] + list.length;
  const flat = chosen.flat();
  const examples: Examples = {
    queries: Int32Array.from(kept, (i) => lists.queries[i]),
    offsets: ends,
    documents: Int32Array.from(flat, (at) => lists.documents[at]),
    scores: Float32Array.from(flat, (at) => lists.scores[at]),
    labelled: Uint8Array.from(labelled),
    weights: Float32Array.from(kept, (i) => weights?.[i] ?? 1),
    grade: (query, document) => labels.get(query)?.get(document) ?? 0,
    relevant: never,
  };
  return { examples, leftOut: lists.queries.length - kept.length };
}

/** Where the largest score stands, the first of equals. */
function bestOf(scores: Float32Array, at: readonly number[]): number {
  return at.reduce((best, a, k) => (scores[a] > scores[at[best]] ? k : best), 0);
}
