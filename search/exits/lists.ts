/** @file The lists of documents that exits are fitted, calibrated and measured on, scored at every exit. */
import type { ExitQuery } from '../../adaptive/exits.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { readScores } from '../../data/scores.ts';
import { bm25Search } from '../../evaluation/bm25-run.ts';
import { isQueryItself } from '../../evaluation/metrics/evaluate.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import type { ExitsTeacher } from '../../teachers/exits.ts';
import type { Pair } from '../../teachers/teacher.ts';

/** Pairs scored between two writes to the cache. */
const CHUNK = 1024;

export interface QueryList {
  /** Positions of the query and of its documents. */
  query: number;
  documents: number[];
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
    return queries.map((q, i) => list(q, [...found[i].indices])).filter((l) => l.documents.length);
  }
  const given = await readScores(file, dataset.queries, dataset.documents);
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

/**
 * Scores at every exit, each kept in the cache under a key of its own; those of the last under the teacher's.
 * @returns [exits][pairs]
 */
export async function cachedExits(
  cache: ScoreCache,
  teacher: ExitsTeacher,
  pairs: readonly Pair[],
  watch: RunControl,
): Promise<Float32Array[]> {
  const { layers } = teacher.exits;
  const out = layers.map(() => new Float32Array(pairs.length));
  for (let at = 0; at < pairs.length; at += CHUNK) {
    const part = pairs.slice(at, at + CHUNK);
    const onProgress =
      watch.onProgress &&
      ((p: Parameters<typeof watch.onProgress>[0]) =>
        watch.onProgress?.(p.note === undefined ? { ...p, done: at + p.done, total: pairs.length } : p));
    // What one exit lacks in the cache the others mostly lack too: a pair goes through the segments once.
    const known = new Map<string, number[]>();
    const keyOf = (p: Pair): string => JSON.stringify([p.query, p.document]);
    for (const exit of layers.keys()) {
      const last = exit === layers.length - 1;
      const own = cache.wrap({
        ...teacher,
        key: last ? teacher.key : hashParts(teacher.key, 'exit', String(exit)),
        async score(asked, inner) {
          const missing = asked.filter((p) => !known.has(keyOf(p)));
          if (missing.length) {
            const found = await teacher.scoreExits(missing, inner);
            for (const [i, p] of missing.entries())
              known.set(
                keyOf(p),
                found.map((scores) => scores[i]),
              );
          }
          return Float32Array.from(asked, (p) => (known.get(keyOf(p)) as number[])[exit]);
        },
      });
      out[exit].set(await own.score(part, { ...watch, onProgress }), at);
    }
  }
  return out;
}

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
