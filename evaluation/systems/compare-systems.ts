/** @file Compares a student with other systems: on the same candidates, in full retrieval, and by query. */
import type { Dataset, Qrels } from '../../data/dataset.ts';
import { Column } from '../../data/table/columns.ts';
import type { Resampling } from '../../math/resampling.ts';
import { compareEvaluations, largestDifferences } from '../metrics/compare.ts';
import { type Run, type RunEvaluation, rank } from '../metrics/evaluate.ts';
import { lazyRun } from '../metrics/run-on-demand.ts';
import type { Comparison, Differences, Example, ExampleDocument } from '../report/figures.ts';
import type { Vectors } from './retrieve.ts';

/** A named system with its run and metrics. */
export interface Measured {
  name: string;
  run: Run;
  evaluation: RunEvaluation;
}

export const compare = (a: Measured, b: Measured, on: string, options: Resampling): Comparison => ({
  a: a.name,
  b: b.name,
  on,
  rows: compareEvaluations(a.evaluation, b.evaluation, undefined, options),
});

/** Queries with the largest differences between two systems, with the top documents of each. */
export function differences(
  a: Measured,
  b: Measured,
  dataset: Dataset,
  qrels: Qrels,
  metric: string,
  count = 8,
): Differences {
  const { best, worst } = largestDifferences(a.evaluation, b.evaluation, metric, count);
  const example = (d: { queryId: string; a: number; b: number }): Example => ({
    ...d,
    query: dataset.queries.text(dataset.queries.indexOf(d.queryId) as number),
    topA: top(a.run, d.queryId),
    topB: top(b.run, d.queryId),
  });
  const top = (run: Run, query: string): ExampleDocument[] => {
    const found = run.get(query);
    return (found ? rank(found, query).ids.slice(0, 3) : []).map((id) => {
      const at = dataset.documents.indexOf(id);
      const text = at === undefined ? '' : dataset.documents.text(at);
      return { id, text: text.length > 240 ? `${text.slice(0, 239)}…` : text, grade: qrels.get(query)?.get(id) ?? 0 };
    });
  };
  return { metric, a: a.name, b: b.name, better: best.map(example), worse: worst.map(example) };
}

/** Scores given candidates by the dot products of given vectors. */
export function rerankByVectors(candidates: Run, dataset: Dataset, vectors: Vectors): Run {
  const { positions, queries, documents, dimensions } = vectors;
  const row = new Int32Array(dataset.queries.length).fill(-1);
  for (const [i, q] of positions.entries()) row[q] = i;
  const [asked, ends] = [new Column(Int32Array), new Column(Float64Array)];
  const scores = new Column(Float32Array);
  for (const [query, { ids }] of candidates) {
    const q = dataset.queries.indexOf(query);
    const i = q === undefined ? -1 : row[q];
    if (q === undefined || i < 0) continue;
    for (const id of ids) {
      const d = dataset.documents.indexOf(id) as number;
      let s = 0;
      for (let k = 0; k < dimensions; k++) s += queries[i * dimensions + k] * documents[d * dimensions + k];
      scores.push(s);
    }
    asked.push(q);
    ends.push(scores.length);
  }
  const [known, all] = [asked.all, scores.all];
  return lazyRun(dataset.queries, known, (place) => ({
    ids: candidates.get(dataset.queries.ids[known[place]])?.ids ?? [],
    scores: all.subarray(place ? ends.at(place - 1) : 0, ends.at(place)),
  }));
}
