/** @file What the student finds for queries, scored whole by the teacher: what a cascade is fitted and measured on. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Calibrated } from '../adaptive/fit.ts';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { type Dataset, judgedQueries, unjudgedQueries } from '../data/dataset.ts';
import type { Computing } from '../engine/runtime/provider.ts';
import { isQueryItself } from '../evaluation/metrics/evaluate.ts';
import type { DocumentIndex, SearchHit } from '../serving/documents/document-index.ts';
import { createIndex, openIndex } from '../serving/open-index.ts';
import { cachedExits } from '../teachers/cache/exits-cache.ts';
import type { ScoreCache } from '../teachers/cache/score-cache.ts';
import { isExits } from '../teachers/exits.ts';
import type { Pair, Teacher } from '../teachers/teacher.ts';
import { addDataset, countMissing, noteEncoder } from './index-documents.ts';

/** The name under which the queries that no split judges are asked for. */
export const UNJUDGED = 'unjudged';

/**
 * The queries of a split, or those that no split judges.
 * @throws InputError where there are none
 */
export function queriesOf(dataset: Dataset, split: string): number[] {
  const found = split === UNJUDGED ? unjudgedQueries(dataset) : judgedQueries(dataset, split);
  if (found.length) return found;
  throw new InputError({
    code: 'cascade.queries',
    subject: `${dataset.name} has no queries for '${split}'`,
    expected: `one of ${[...dataset.splits, UNJUDGED].join(', ')}`,
    remedy: 'name a split that has some',
  });
}

export interface OpenStudentOptions {
  student: string;
  dtype?: string;
  /** An index of the data's documents; without it one is made for the time of the call, with exact vectors. */
  index?: string;
  provider?: Computing['provider'];
}

/**
 * The student's index over a data set's documents.
 * @throws InputError where a given index lacks documents of the data
 */
export async function openStudentIndex(
  { student, dtype, index: folder, provider }: OpenStudentOptions,
  dataset: Dataset,
  watch: RunControl,
): Promise<{ index: DocumentIndex; close(): Promise<void> }> {
  if (folder !== undefined) {
    const index = await openIndex(folder, { ...watch, encoder: student, provider });
    try {
      await checkHolds(index, dataset, folder);
    } catch (error) {
      await index.close();
      throw error;
    }
    noteEncoder(index, watch);
    return { index, close: () => index.close() };
  }
  const temporary = await mkdtemp(join(tmpdir(), 'distill-cascade-'));
  const remove = (): Promise<void> => rm(temporary, { recursive: true, force: true });
  try {
    const index = await createIndex(temporary, { encoder: student, dtype, provider, settings: { codec: 'float32' } });
    noteEncoder(index, watch);
    const close = async (): Promise<void> => {
      await index.close();
      await remove();
    };
    try {
      await addDataset(index, dataset, watch);
      return { index, close };
    } catch (error) {
      await close();
      throw error;
    }
  } catch (error) {
    await remove();
    throw error;
  }
}

/** @throws InputError where an index lacks documents of the data, or has others */
export async function checkHolds(
  index: DocumentIndex,
  { documents }: Pick<Dataset, 'documents'>,
  folder: string,
): Promise<void> {
  const missing = await countMissing(index, documents);
  if (missing || index.size !== documents.length)
    throw new InputError({
      code: 'cascade.index',
      subject: `${folder} holds ${index.size} documents, and ${missing} of the ${documents.length} of the data are missing or have another text`,
      remedy: 'index the same data: distill index',
    });
}

export interface ScoredLists {
  queries: Calibrated[];
  /** Query-document pairs that the teacher was asked about or that the cache knew. */
  pairs: number;
}

/**
 * @param positions of the queries
 * @param split whose grades count; absent: the teacher's order is the truth
 */
export async function scoredLists(
  { index, scores, dataset, candidates }: ListsOptions,
  positions: readonly number[],
  split: string | undefined,
  watch: RunControl,
): Promise<ScoredLists> {
  const { queries } = dataset;
  const found = await candidatesOf(index, dataset, positions, candidates, watch);
  const pairs = found.flatMap((list, i) =>
    list.map(({ id, text }) => ({
      queryId: queries.ids[positions[i]],
      documentId: id,
      query: queries.text(positions[i]),
      document: text,
    })),
  );
  const atExits = await scores(pairs, watch);
  const whole = atExits[atExits.length - 1];
  const qrels = split === undefined ? undefined : dataset.qrels(split);
  let at = 0;
  const lists = found.map((list, i): Calibrated => {
    const [from, to] = [at, at + list.length];
    at = to;
    const grades = qrels?.get(queries.ids[positions[i]]);
    return {
      student: Float32Array.from(list, (d) => d.score),
      teacher: whole.subarray(from, to),
      ...(atExits.length > 1 && { atExits: atExits.map((logits) => logits.subarray(from, to)) }),
      ...(qrels && {
        grades: list.map((d) => Math.max(0, grades?.get(d.id) ?? 0)),
        ideal: [...(grades?.values() ?? [])].filter((g) => g > 0).sort((a, b) => b - a),
      }),
    };
  });
  return { queries: lists, pairs: pairs.length };
}

/** A teacher's scores through the cache, at each of its exits where it has some. */
export const scoresThrough =
  (cache: ScoreCache, teacher: Teacher): ListsOptions['scores'] =>
  async (pairs, watch) =>
    isExits(teacher) ? cachedExits(cache, teacher, pairs, watch) : [await cache.wrap(teacher).score(pairs, watch)];

export interface ListsOptions {
  index: DocumentIndex;
  /** The teacher's scores: [exits][pairs], the last the whole model's; a teacher without exits has those alone. */
  scores(pairs: readonly Pair[], watch: RunControl): Promise<readonly Float32Array[]>;
  dataset: Dataset;
  /** Documents a query. */
  candidates: number;
}

/** What the student finds, without a document that is the query itself. */
async function candidatesOf(
  index: DocumentIndex,
  dataset: Dataset,
  positions: readonly number[],
  count: number,
  watch: RunControl,
): Promise<SearchHit[][]> {
  const { queries } = dataset;
  const itself = isQueryItself(dataset);
  const all = await index.searchMany(
    positions.map((q) => queries.text(q)),
    count + 1,
    watch,
  );
  return all.map((list, i) => {
    const id = queries.ids[positions[i]];
    return list.filter((d) => d.id !== id || !itself(id)).slice(0, count);
  });
}
