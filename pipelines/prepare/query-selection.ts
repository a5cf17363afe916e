/** @file Which queries the teacher scores, under a budget. */

import { toQuerySelection } from '../../config/methods.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { type Rows, softmax, topTwo } from '../../math/numbers.ts';
import { rowOf } from '../../math/ragged.ts';
import { keepArrays } from '../../run/stages/keep-arrays.ts';
import { defineStage } from '../../run/stages/stage.ts';
import type { QueryInputs } from '../../selection/index.ts';
import type { Student, Weights } from '../../students/student.ts';
import { encodingOf, type StudentScores, studentScores } from '../../students/student-scores.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import { labelsOf } from './examples.ts';

/** Queries that the teacher scores, in the order of scoring. */
export interface Chosen {
  /** Positions of their lists. */
  indices: Int32Array;
  /** A factor for each of them, where the selection gives one. */
  weights?: Float32Array;
}

/** Queries that the teacher has scored, with its scores. */
export interface Annotated extends Chosen {
  scored: CandidateLists;
}

/** What the choice is made from, and by whom. */
interface Pool {
  lists: CandidateLists;
  data: Dataset;
  /** Where the selection looks at it. */
  student?: Student;
  /** Documents' embeddings where the student does not encode them. */
  frozen?: Embeddings;
  /** Of the current student; its own where absent. */
  weights?: Weights;
  annotated?: Annotated;
  /** Which of several rounds this is, from 0, each with its part of the budget. */
  round?: { round: number; of: number };
}

/** The queries to ask about. The first are drawn at random where the selection builds on annotated queries. */
export const querySelection = defineStage({
  name: 'queries',
  options: ['querySelection', 'seed', 'data.labelled'],
  unrecorded: ['data.splits', 'student.documentTokens', 'student.queryTokens', 'train.provider', 'train.threads'],
  unchanged: 'the choice of the earlier run stands',
  async make(
    options,
    { lists, data, student, frozen, weights = new Map(), annotated, round }: Pool,
    { note, time, watch },
  ): Promise<Chosen> {
    if (!options.querySelection) throw new Error('no selection of queries is given');
    const { budget: whole } = options.querySelection;
    const known = annotated?.indices.length ? annotated : undefined;
    const before = known?.indices.length ?? 0;
    // Each round asks about its part of what is left.
    const budget = round
      ? Math.ceil((Math.min(whole, lists.queries.length) - before) / (round.of - round.round))
      : whole;
    const selection = toQuerySelection(options.querySelection);
    const needs = new Set(selection.needs);
    const inputs: QueryInputs = { count: lists.queries.length, chosen: known?.indices ?? [] };
    const choose = (by: typeof selection): Chosen => {
      const { indices, weights } = by.select(inputs, { budget, seed: options.seed + inputs.count + before });
      return { indices: Int32Array.from(indices), ...(weights && { weights }) };
    };
    if ((needs.has('chosen') || needs.has('teacherError')) && !known) {
      note(`the first queries are drawn at random: '${selection.name}' builds on queries that are scored already`);
      return choose(toQuerySelection({ kind: 'random', budget: whole }));
    }
    if (student) {
      const now = await time('choose', async () =>
        studentScores(await encodingOf(options), { student, data, frozen }, weights, lists, watch),
      );
      inputs.student = { offsets: lists.offsets, scores: now.scores };
      inputs.embeddings = now.queries;
      if (needs.has('gradients') && known) inputs.gradients = gradients(known, lists, now);
    }
    if (needs.has('teacherError') && known) inputs.teacherError = teacherError(options, data, known);
    return choose(selection);
  },
  keep: keepArrays<Chosen>(
    'queries',
    ({ indices, weights }) => ({ indices, weights }),
    (arrays) => arrays as unknown as Chosen,
  ),
});

/** Whether a selection reads the current student. */
export const looksAtStudent = (selection: Parameters<typeof toQuerySelection>[0]): boolean =>
  toQuerySelection(selection).needs.some((n) => n === 'student' || n === 'embeddings' || n === 'gradients');

/** d KL(teacher || student) / d query embedding = sum_n (q_n - p_n) d_n / T for each scored query. */
function gradients(asked: Annotated, lists: CandidateLists, now: StudentScores): Rows {
  const D = now.queries.dimensions;
  const data = new Float64Array(asked.indices.length * D);
  for (const [k, i] of asked.indices.entries()) {
    const [from, to] = [lists.offsets[i], lists.offsets[i + 1]];
    const q = softmax(now.scores.subarray(from, to), TEMPERATURE);
    const p = softmax(rowOf(asked.scored.scores, asked.scored.offsets, k));
    for (let n = 0; n < to - from; n++) {
      const d = now.document(lists.documents[from + n]);
      for (let c = 0; c < D; c++) data[k * D + c] += ((q[n] - p[n]) * d[c]) / TEMPERATURE;
    }
  }
  return { dimensions: D, data };
}

/** Cosines are sharpened by this, as the loss does. */
const TEMPERATURE = 0.05;

/** The teacher's best candidate is not the labelled one: how often, among the scored queries. */
function teacherError(
  options: Options<'data.labelled' | 'data.splits'>,
  dataset: Dataset,
  { scored }: Annotated,
): number {
  const labels = labelsOf(options, dataset);
  let [wrong, known] = [0, 0];
  for (const [i, query] of scored.queries.entries()) {
    const relevant = labels.get(query);
    if (!relevant) continue;
    const list = Float64Array.from(rowOf(scored.scores, scored.offsets, i));
    known++;
    if (!relevant.has(scored.documents[scored.offsets[i] + topTwo(list).at])) wrong++;
  }
  return known ? wrong / known : 0;
}
