/** @file What a saved student finds: exact search over the corpus, read from the folder that was written. */
import type { Watch } from '../../common/progress.ts';
import { type Dataset, judgedQueries, textsAt } from '../../data/dataset.ts';
import { dropIdenticalIds, evaluateRun, isQueryItself, type Run } from '../../evaluation/metrics/evaluate.ts';
import { Random } from '../../math/random.ts';
import type { Encoder } from '../../models/encoder.ts';
import { type Hits, search } from '../../retrieval/exact-search.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';

export interface SearchSetup {
  encoder: Pick<Encoder, 'dimensions' | 'encode'>;
  queryTokens: number;
  documentTokens: number;
  /** [M, dimensions] where documents are inherited and not encoded by the student. */
  frozen?: Float32Array;
  depth: number;
  /** Documents searched besides the relevant ones, drawn at random; all by default. */
  among?: number;
}

/** What was searched, and what with; [n, dimensions] and [m, dimensions], row-major. */
export interface SearchedVectors {
  dimensions: number;
  queries: Float32Array;
  documents: Float32Array;
}

/** The student's best documents for each judged query of a split. */
export async function searchSplit(
  dataset: Dataset,
  split: string,
  setup: SearchSetup,
  watch: Watch,
): Promise<{ queries: number[]; hits: Hits; vectors: SearchedVectors }> {
  const { encoder } = setup;
  const queries = judgedQueries(dataset, split);
  const q = await encoder.encode(textsAt(dataset, queries), {
    ...watch,
    maxLength: setup.queryTokens,
    stage: 'encode queries',
  });
  const some = setup.among === undefined ? undefined : sample(dataset, split, setup.among);
  const D = encoder.dimensions;
  const frozen =
    setup.frozen && some
      ? Float32Array.from(
          { length: some.length * D },
          (_, i) => setup.frozen?.[some[Math.floor(i / D)] * D + (i % D)] ?? 0,
        )
      : setup.frozen;
  const texts = some
    ? { length: some.length, text: (i: number) => dataset.documents.text(some[i]) }
    : dataset.documents;
  const d =
    frozen ?? (await encoder.encode(texts, { ...watch, maxLength: setup.documentTokens, stage: 'encode documents' }));
  const hits = await search(q, d, D, setup.depth, watch);
  return {
    queries,
    hits: some ? { ...hits, indices: hits.indices.map((i) => some[i]) } : hits,
    vectors: { dimensions: D, queries: q, documents: d },
  };
}

/** A split's relevant documents and others drawn at random, the same each time. */
function sample(dataset: Dataset, split: string, others: number): Int32Array {
  const chosen = new Set<number>();
  for (const grades of dataset.qrels(split).values())
    for (const [id, grade] of grades) {
      // A judged document that the corpus lacks cannot be searched.
      const d = grade > 0 ? dataset.documents.indexOf(id) : undefined;
      if (d !== undefined) chosen.add(d);
    }
  const order = Random.of(0, 'dev documents').shuffle(
    Int32Array.from({ length: dataset.documents.length }, (_, i) => i),
  );
  let wanted = others;
  for (const d of order)
    if (wanted > 0 && !chosen.has(d)) {
      chosen.add(d);
      wanted--;
    }
  return Int32Array.from(chosen).sort();
}

/** Search hits as a run by ids, without documents that are the query itself. */
export function toRun(dataset: Dataset, queries: readonly number[], hits: Hits): Run {
  const run: Run = new Map(
    queries.map((q, i) => {
      const at = Array.from(hits.indices.subarray(i * hits.k, (i + 1) * hits.k));
      return [
        dataset.queries.ids[q],
        { ids: at.map((d) => dataset.documents.ids[d]), scores: hits.scores.subarray(i * hits.k, (i + 1) * hits.k) },
      ];
    }),
  );
  return dropIdenticalIds(run, isQueryItself(dataset));
}

/** The same candidates in the teacher's order. */
export async function rerank(dataset: Dataset, run: Run, teacher: Teacher, watch: Watch): Promise<Run> {
  const pairs: Pair[] = [];
  for (const [queryId, { ids }] of run) {
    const query = dataset.queries.text(dataset.queries.indexOf(queryId) as number);
    for (const documentId of ids)
      pairs.push({
        queryId,
        documentId,
        query,
        document: dataset.documents.text(dataset.documents.indexOf(documentId) as number),
      });
  }
  const scores = await teacher.score(pairs, watch);
  let at = 0;
  const reranked = new Map<string, { ids: readonly string[]; scores: Float32Array }>();
  for (const [q, { ids }] of run) {
    const own = scores.subarray(at, at + ids.length);
    // What the teacher cannot say a number of is not found by it.
    const known = Array.from(own.keys()).filter((i) => Number.isFinite(own[i]));
    reranked.set(q, { ids: known.map((i) => ids[i]), scores: Float32Array.from(known, (i) => own[i]) });
    at += ids.length;
  }
  return reranked;
}

/** Means of the metrics for a run. */
export const means = (run: Run, dataset: Dataset, split: string, metrics: readonly string[]): Record<string, number> =>
  evaluateRun(run, dataset.qrels(split), metrics).means;
