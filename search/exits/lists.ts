/** @file The lists of documents that exits are fitted, calibrated and measured on, scored at every exit. */
import { join } from 'node:path';
import type { ExitQuery } from '../../adaptive/exits.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { readScores } from '../../data/scores.ts';
import { bm25Search } from '../../evaluation/bm25-run.ts';
import { isQueryItself } from '../../evaluation/metrics/evaluate.ts';
import { readJson, readModelFolder } from '../../models/model-folder.ts';
import { refuseSplit } from '../../teachers/reading/split-file.ts';
import type { Pair } from '../../teachers/teacher.ts';

export interface QueryList {
  /** Positions of the query and of its documents. */
  query: number;
  documents: number[];
}

/** The splits that `distill train-teacher` made a cross-encoder with, as its distill.json records them. */
export async function trainedSplits(folder: string): Promise<{ train?: string; dev?: string }> {
  refuseSplit(folder);
  const { config } = await readJson(join((await readModelFolder(folder)).folder, 'distill.json'));
  const { split, dev } = (config ?? {}) as Record<string, unknown>;
  const name = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  return { train: name(split), dev: name(dev) };
}

/**
 * The documents that each query is compared with: those that a file of `query-id corpus-id score` lines gives, in its order, or
 * the best by BM25. Queries without any are left out.
 */
export async function listsOf(
  dataset: Dataset,
  queries: readonly number[],
  { file, count }: { file?: string; count: number },
  watch: RunControl,
): Promise<QueryList[]> {
  const itself = isQueryItself(dataset);
  const id = (q: number): string => dataset.queries.ids[q];
  const list = (query: number, found: readonly number[]): QueryList => ({
    query,
    documents: found.filter((d) => dataset.documents.ids[d] !== id(query) || !itself(id(query))).slice(0, count),
  });
  if (file === undefined) {
    const found = await bm25Search(dataset, queries, count + 1, watch);
    return queries.map((q, i) => list(q, [...found(i).indices])).filter((l) => l.documents.length);
  }
  const given = await readScores(file, dataset.queries, dataset.documents, (note) =>
    watch.onProgress?.({ stage: 'data', done: 0, unit: 'pairs', note }),
  );
  const wanted = new Set(queries);
  const all = new Map(
    Array.from(given.queries, (q, i) => [q, [...given.documents.subarray(given.offsets[i], given.offsets[i + 1])]]),
  );
  return queries.flatMap((q) => (wanted.has(q) && all.has(q) ? list(q, all.get(q) as number[]) : []));
}

/** The pairs of lists, list after list. */
export const pairsOf = (dataset: Dataset, lists: readonly QueryList[]): Pair[] =>
  lists.flatMap(({ query, documents }) =>
    documents.map((d) => ({
      queryId: dataset.queries.ids[query],
      documentId: dataset.documents.ids[d],
      query: dataset.queries.text(query),
      document: dataset.documents.text(d),
    })),
  );

/** Queries with their logits at every exit, and their grades where a split judges them. @param logits [exits][pairs] */
export function exitQueries(
  dataset: Dataset,
  lists: readonly QueryList[],
  logits: readonly Float32Array[],
  split: string | undefined,
): ExitQuery[] {
  const qrels = split === undefined ? undefined : dataset.qrels(split);
  let at = 0;
  return lists.map(({ query, documents }) => {
    const own = logits.map((scores) => scores.subarray(at, at + documents.length));
    at += documents.length;
    if (!qrels) return { logits: own };
    const grades = qrels.get(dataset.queries.ids[query]);
    return {
      logits: own,
      grades: documents.map((d) => Math.max(0, grades?.get(dataset.documents.ids[d]) ?? 0)),
      ideal: [...(grades?.values() ?? [])].filter((g) => g > 0).sort((a, b) => b - a),
    };
  });
}
