/** @file The candidates of queries: labelled positives first, then what was found. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Options } from '../config/options.ts';
import { startFolder } from '../config/student.ts';
import { type Dataset, textsAt } from '../data/dataset.ts';
import { type CandidateLists, candidateLists, listsAt, sortedLists } from '../data/lists.ts';
import { listsNegatives, neverNegative, relevantDocuments } from '../data/relevant.ts';
import { readScores } from '../data/scores.ts';
import { computeOn } from '../engine/runtime/provider.ts';
import { bm25Search } from '../evaluation/bm25-run.ts';
import { Random } from '../math/random.ts';
import { Encoder } from '../models/encoder.ts';
import { search } from '../retrieval/exact-search.ts';
import type { Teacher } from '../teachers/teacher.ts';
import { hybridHits, type Side } from './hybrid-hits.ts';

/** Options that a search for candidates reads. */
export type Finding = Options<
  | 'candidates.count'
  | 'candidates.onEmpty'
  | 'candidates.source'
  | 'data'
  | 'seed'
  | 'student'
  | 'teacher'
  | 'train.provider'
  | 'train.threads'
>;

type Source = Finding['candidates']['source'];

/** Where candidates come from: with `auto` those that the rows list, or BM25 where most rows list no negative. */
export const candidateSource = (source: Source, dataset: Dataset, split: string): Exclude<Source, 'auto'> =>
  source !== 'auto' ? source : listsNegatives(dataset, split) ? 'given' : 'bm25';

/**
 * The candidates of queries: every relevant document, then others up to the configured number with one positive. Documents of
 * the same text as a relevant one, or as the query, are not among the others. Scores are NaN but for given lists.
 * @param split whose judgements say what is relevant
 */
export async function findCandidates(
  config: Finding,
  dataset: Dataset,
  split: string,
  queries: readonly number[],
  embedder: Teacher | undefined,
  watch: RunControl,
  source = candidateSource(config.candidates.source, dataset, split),
): Promise<CandidateLists> {
  if (source === 'given') return given(config, dataset, split, new Set(queries));
  const relevant = relevantDocuments(dataset, split);
  const never = neverNegative(dataset, split);
  const { count } = config.candidates;
  let most = 1;
  for (const q of queries) most = Math.max(most, Math.min(never(q).size, MOST_PASSED_OVER));
  const found = await nearest(config, source, dataset, queries, count + most - 1, embedder, watch);
  const list = (query: number, i: number): { query: number; documents: number[] } => {
    const positives = [...(relevant.get(query)?.keys() ?? [])];
    const others = found(i).filter((d) => !never(query).has(d));
    return { query, documents: [...positives, ...others.slice(0, count - Math.min(1, positives.length))] };
  };
  return candidateLists(oneByOne(queries, list));
}

/** What is made of each item, when it is asked for. */
function* oneByOne<T, R>(items: readonly T[], make: (item: T, i: number) => R): Generator<R> {
  for (const [i, item] of items.entries()) yield make(item, i);
}

/** Hits looked at in addition to those that are kept, where a query has many relevant documents. */
const MOST_PASSED_OVER = 100;

async function given(
  config: Finding,
  dataset: Dataset,
  split: string,
  wanted: ReadonlySet<number>,
): Promise<CandidateLists> {
  const name = (['train', 'dev', 'test'] as const).find((s) => config.data.splits[s] === split);
  const file = config.teacher?.kind === 'scores' && name ? config.teacher.files[name] : undefined;
  const lists = file ? await readScores(file, dataset.queries, dataset.documents) : dataset.candidates?.(split);
  if (!lists)
    throw new InputError({
      code: 'config.missing-scores',
      subject: `'teacher.files' names no scores for the split '${split}'`,
      remedy: 'add the file, or choose another candidates.source',
    });
  const listed = new Set(lists.queries);
  const bare = [...wanted].filter((q) => !listed.has(q) && dataset.qrels(split).has(dataset.queries.ids[q]));
  if (bare.length && config.candidates.onEmpty === 'stop')
    throw new InputError({
      code: 'candidates.none',
      subject: `${file ?? config.data.path} lists no candidate for the query '${dataset.queries.ids[bare[0]]}'${bare.length > 1 ? ` nor for ${bare.length - 1} others of the split '${split}'` : ''}`,
      remedy: "add lines for it, or leave such queries out with 'candidates.onEmpty: skip'",
    });
  // Scores of rows are a teacher's; another teacher that is configured is asked itself.
  const asked = !file && config.teacher && config.teacher.kind !== 'scores';
  const scores = asked ? new Float32Array(lists.scores.length).fill(Number.NaN) : lists.scores;
  const known = sortedLists({ ...lists, scores });
  return listsAt(
    known,
    Int32Array.from(known.queries.keys()).filter((i) => wanted.has(known.queries[i])),
  );
}

/** Documents near the query at a place, best first, more than enough to replace relevant ones; asked for in order. */
async function nearest(
  config: Finding,
  source: Finding['candidates']['source'],
  dataset: Dataset,
  queries: readonly number[],
  count: number,
  embedder: Teacher | undefined,
  watch: RunControl,
): Promise<(place: number) => number[]> {
  const { documents } = dataset;
  const texts = textsAt(dataset, queries);
  if (source === 'random') {
    const random = Random.of(config.seed, 'candidates');
    return () => Array.from({ length: count * 2 }, () => random.integer(documents.length));
  }
  if (source === 'bm25') {
    const found = await bm25Search(dataset, queries, count + 8, watch);
    return (place) => Array.from(found(place).indices);
  }
  const encoder = await openSide(config, source, embedder);
  try {
    const from = await encoder.encode(texts, 'query', watch);
    const { data, dimensions } = await encoder.encode(documents, 'document', watch);
    const wanted = count + 8;
    const hits =
      source === 'hybrid'
        ? await hybridHits(config.data.splits.dev, dataset, { texts, vectors: from.data }, data, encoder, wanted, watch)
        : await search(from.data, data, dimensions, wanted, watch);
    return (place) => Array.from(hits.indices.subarray(place * hits.k, (place + 1) * hits.k));
  } finally {
    await encoder.close();
  }
}

/** What embeds for a search: the embedder, or the encoder that the student starts from. */
async function openSide(config: Finding, source: Source, embedder: Teacher | undefined): Promise<Side> {
  const embed = embedder?.embed;
  if (embed && source !== 'student') return { encode: embed, close: async () => {} };
  const folder = startFolder(config.student);
  if (source === 'embedder' || !folder)
    throw new InputError({
      code: 'config.contradiction',
      subject: `'candidates.source: ${source}' needs an embedder`,
      remedy: 'add one, or choose another source',
    });
  const { pooling, normalize, prompts, queryTokens, documentTokens } = config.student;
  const session = await computeOn(config.train);
  const encoder = await Encoder.load(folder, { pooling, normalize, prompts, comparable: true, session });
  return {
    async encode(texts, role, watch) {
      const maxLength = role === 'query' ? queryTokens : documentTokens;
      return { dimensions: encoder.dimensions, data: await encoder.encode(texts, { ...watch, maxLength, role }) };
    },
    close: () => encoder.dispose(),
  };
}
