/** @file Which queries the teacher is asked about, under a budget. */

import type { Dataset } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { type Rows, softmax, topTwo } from '../../math/numbers.ts';
import type { QueryInputs, Selected } from '../../selection/index.ts';
import type { Student, Weights } from '../../students/student.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import type { Config } from '../config/config.ts';
import { toQuerySelection } from '../config/methods.ts';
import type { Job } from '../run/context.ts';
import { labelsOf } from './examples.ts';
import { type StudentScores, studentScores } from './student-scores.ts';

export interface Asked {
  /** Positions of the lists that the teacher has scored, in the order of asking. */
  indices: number[];
  /** A factor for each of them. */
  weights: number[];
  scored: CandidateLists;
}

/** What is chosen from, and by whom. */
export interface Pool {
  student: Student;
  dataset: Dataset;
  lists: CandidateLists;
  /** Documents' embeddings where the student does not encode them. */
  frozen?: Embeddings;
}

/**
 * The queries to ask about next. The first are drawn at random where the selection builds on queries asked about already.
 * @param weights of the student of the moment
 */
export async function chooseQueries(
  job: Job,
  { student, dataset, lists, frozen }: Pool,
  weights: Weights,
  budget: number,
  asked?: Asked,
): Promise<Selected> {
  const { config } = job;
  const options = config.querySelection as NonNullable<Config['querySelection']>;
  const selection = toQuerySelection(options);
  const needs = new Set(selection.needs);
  const known = asked?.indices.length ? asked : undefined;
  const inputs: QueryInputs = { count: lists.queries.length, chosen: known?.indices ?? [] };
  const seed = config.seed + inputs.count + (known?.indices.length ?? 0);
  if ((needs.has('chosen') || needs.has('teacherError')) && !known) {
    job.note(`the first queries are drawn at random: '${selection.name}' builds on queries asked about already`);
    return toQuerySelection({ kind: 'random', budget: options.budget }).select(inputs, { budget, seed });
  }
  if (needs.has('student') || needs.has('embeddings') || needs.has('gradients')) {
    const now = await job.stage('choose', () => studentScores(job, student, weights, dataset, lists, frozen));
    inputs.student = { offsets: lists.offsets, scores: now.scores };
    inputs.embeddings = now.queries;
    if (needs.has('gradients') && known) inputs.gradients = gradients(known, lists, now);
  }
  if (needs.has('teacherError') && known) inputs.teacherError = teacherError(config, dataset, known);
  return selection.select(inputs, { budget, seed });
}

/** d KL(teacher || student) / d query embedding = sum_n (q_n - p_n) d_n / T for each query asked about. */
function gradients(asked: Asked, lists: CandidateLists, now: StudentScores): Rows {
  const D = now.queries.dimensions;
  const data = new Float64Array(asked.indices.length * D);
  for (const [k, i] of asked.indices.entries()) {
    const [from, to] = [lists.offsets[i], lists.offsets[i + 1]];
    const q = softmax(now.scores.subarray(from, to), TEMPERATURE);
    const p = softmax(asked.scored.scores.subarray(asked.scored.offsets[k], asked.scored.offsets[k + 1]));
    for (let n = 0; n < to - from; n++) {
      const d = now.document(lists.documents[from + n]);
      for (let c = 0; c < D; c++) data[k * D + c] += ((q[n] - p[n]) * d[c]) / TEMPERATURE;
    }
  }
  return { dimensions: D, data };
}

/** Cosines are sharpened by this, as the loss does. */
const TEMPERATURE = 0.05;

/** The teacher's best candidate is not the labelled one: how often, among the queries asked about. */
function teacherError(config: Config, dataset: Dataset, { scored }: Asked): number {
  const labels = labelsOf(config, dataset, config.data.splits.train);
  let [wrong, known] = [0, 0];
  for (const [i, query] of scored.queries.entries()) {
    const relevant = labels.get(query);
    if (!relevant) continue;
    const list = Float64Array.from(scored.scores.subarray(scored.offsets[i], scored.offsets[i + 1]));
    known++;
    if (!relevant.has(scored.documents[scored.offsets[i] + topTwo(list).at])) wrong++;
  }
  return known ? wrong / known : 0;
}
