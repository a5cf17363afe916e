/** @file Ranks with frozen states: the documents nearest to a query by whole vectors, re-ranked by token vectors. */
import type { RunControl } from '../../../common/progress.ts';
import { type Dataset, judgedQueries } from '../../../data/dataset.ts';
import type { Rows } from '../../../math/numbers.ts';
import type { LateModel } from '../../../students/late/late-model.ts';
import { scoreLatePairs } from '../../../students/late/score-pairs.ts';
import type { TokenStates } from '../../../students/late/token-states.ts';
import type { Run } from '../../metrics/evaluate.ts';
import { searchVectors, type Vectors } from '../retrieve.ts';

/** Frozen states of both sides, read by offset. */
export interface RunStates {
  queries: TokenStates;
  documents: TokenStates;
}

/** The vectors of some texts as one table. */
function vectorsOf(states: TokenStates, positions: ArrayLike<number>): Float32Array {
  const out = new Float32Array(positions.length * states.dimensions);
  for (let i = 0; i < positions.length; i++) out.set(states.vector(positions[i]), i * states.dimensions);
  return out;
}

/** The first stage: the judged queries of a split and the documents nearest to each. */
export async function nearest(
  states: RunStates,
  dataset: Dataset,
  split: string,
  depth: number,
  watch: RunControl,
): Promise<Run> {
  const positions = judgedQueries(dataset, split);
  const all = Array.from({ length: dataset.documents.length }, (_, i) => i);
  const vectors: Vectors = {
    positions,
    dimensions: states.queries.dimensions,
    queries: vectorsOf(states.queries, positions),
    documents: vectorsOf(states.documents, all),
  };
  return searchVectors(vectors, dataset, depth, watch);
}

/** The second stage. @param stored changes token vectors of documents before they are compared, as `scoreLatePairs` */
export async function rerankLate(
  model: LateModel,
  states: RunStates,
  dataset: Dataset,
  run: Run,
  watch: RunControl,
  stored?: (tokens: Rows, document: number) => Rows,
): Promise<Run> {
  const listed = [...run];
  const count = listed.reduce((n, [, { ids }]) => n + ids.length, 0);
  const pairs = { queries: new Int32Array(count), documents: new Int32Array(count) };
  let at = 0;
  for (const [query, { ids }] of listed)
    for (const id of ids) {
      pairs.queries[at] = dataset.queries.indexOf(query) as number;
      pairs.documents[at++] = dataset.documents.indexOf(id) as number;
    }
  const scores = await scoreLatePairs(model, states, pairs, watch, stored);
  at = 0;
  return new Map(
    listed.map(([query, { ids }]) => {
      at += ids.length;
      return [query, { ids, scores: scores.subarray(at - ids.length, at) }];
    }),
  );
}
