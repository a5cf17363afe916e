/** @file BM25 over a data set: candidates, and the baseline row of every report. */
import type { RunControl } from '../common/progress.ts';
import { type Dataset, judgedQueries, type TextTable } from '../data/dataset.ts';
import { Column } from '../data/table/columns.ts';
import { type Bm25, type Bm25Options, bm25 } from '../retrieval/bm25.ts';
import type { Run } from './metrics/evaluate.ts';
import { lazyRun } from './metrics/run-on-demand.ts';

/** Queries between checks of the abort signal. */
const REPORT_EVERY = 256;
const indexes = new WeakMap<TextTable, Map<string, Bm25>>();

/** The index of a corpus, built once per table and options. */
export async function bm25Index(
  documents: TextTable,
  { k1, b, ...watch }: Pick<Bm25Options, 'k1' | 'b'> & RunControl = {},
): Promise<Bm25> {
  const known = indexes.get(documents) ?? new Map<string, Bm25>();
  indexes.set(documents, known);
  const key = `${k1} ${b}`;
  const index =
    known.get(key) ??
    (await bm25(documents, { ...watch, ...(k1 !== undefined && { k1 }), ...(b !== undefined && { b }) }));
  known.set(key, index);
  return index;
}

/** What was found for queries, by the place of a query: best first. */
export type Bm25Hits = (place: number) => { indices: Int32Array; scores: Float32Array };

/** The best documents for each query, as positions, 8 bytes a hit; the index is built once per table. */
export async function bm25Search(
  dataset: Dataset,
  queries: readonly number[],
  depth: number,
  watch: RunControl = {},
): Promise<Bm25Hits> {
  const index = await bm25Index(dataset.documents, watch);
  const [indices, scores] = [new Column(Int32Array), new Column(Float32Array)];
  const ends = new Column(Float64Array);
  for (const [i, q] of queries.entries()) {
    if (i % REPORT_EVERY === 0) {
      watch.signal?.throwIfAborted();
      watch.onProgress?.({ stage: 'bm25', done: i, total: queries.length, unit: 'queries' });
    }
    const found = index.search(dataset.queries.text(q), depth);
    for (const d of found.indices) indices.push(d);
    for (const s of found.scores) scores.push(s);
    ends.push(indices.length);
  }
  watch.onProgress?.({ stage: 'bm25', done: queries.length, total: queries.length, unit: 'queries' });
  const [allIndices, allScores, allEnds] = [indices.all, scores.all, ends.all];
  return (place) => {
    const [from, to] = [place ? allEnds[place - 1] : 0, allEnds[place]];
    return { indices: allIndices.subarray(from, to), scores: allScores.subarray(from, to) };
  };
}

/** BM25's run over the judged queries of a split. */
export async function bm25Run(dataset: Dataset, split: string, depth: number, watch: RunControl = {}): Promise<Run> {
  const queries = judgedQueries(dataset, split);
  const found = await bm25Search(dataset, queries, depth, watch);
  return lazyRun(dataset.queries, queries, (i) => ({
    ids: Array.from(found(i).indices, (d) => dataset.documents.ids[d]),
    scores: found(i).scores,
  }));
}
