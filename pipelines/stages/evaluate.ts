/** @file What a saved student finds: exact search over the corpus, read from the folder that was written. */
import type { Watch } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { evaluateRun, type Run } from '../../evaluation/evaluate.ts';
import { type Hits, search } from '../../evaluation/search.ts';
import type { Encoder, Texts } from '../../students/encoder.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';

/** The judged queries of a split, as positions. */
export const judgedQueries = (dataset: Dataset, split: string): number[] =>
  [...dataset.qrels(split).keys()].map((id) => dataset.queries.indexOf(id) as number);

export const textsAt = (dataset: Dataset, queries: readonly number[]): Texts => ({
  length: queries.length,
  text: (i) => dataset.queries.text(queries[i]),
});

export interface SearchSetup {
  encoder: Encoder;
  queryTokens: number;
  documentTokens: number;
  /** [M, dimensions] where documents are inherited and not encoded by the student. */
  frozen?: Float32Array;
  depth: number;
}

/** The student's best documents for each judged query of a split. */
export async function searchSplit(
  dataset: Dataset,
  split: string,
  setup: SearchSetup,
  watch: Watch,
): Promise<{ queries: number[]; hits: Hits }> {
  const { encoder } = setup;
  const queries = judgedQueries(dataset, split);
  const q = await encoder.encode(textsAt(dataset, queries), {
    ...watch,
    maxLength: setup.queryTokens,
    stage: 'encode queries',
  });
  const d =
    setup.frozen ??
    (await encoder.encode(dataset.documents, { ...watch, maxLength: setup.documentTokens, stage: 'encode documents' }));
  return { queries, hits: await search(q, d, encoder.dimensions, setup.depth, watch) };
}

/** Search hits as a run by ids. */
export function toRun(dataset: Dataset, queries: readonly number[], hits: Hits): Run {
  return new Map(
    queries.map((q, i) => {
      const at = Array.from(hits.indices.subarray(i * hits.k, (i + 1) * hits.k));
      return [
        dataset.queries.ids[q],
        { ids: at.map((d) => dataset.documents.ids[d]), scores: hits.scores.subarray(i * hits.k, (i + 1) * hits.k) },
      ];
    }),
  );
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
    reranked.set(q, { ids, scores: scores.subarray(at, at + ids.length) });
    at += ids.length;
  }
  return reranked;
}

/** Means of the metrics for a run. */
export const means = (run: Run, dataset: Dataset, split: string, metrics: readonly string[]): Record<string, number> =>
  evaluateRun(run, dataset.qrels(split), metrics).means;
