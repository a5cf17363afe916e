/** @file Each query's factor in the loss: set before the first step, renewed with the student of the moment. */

import type { Dataset } from '../../data/dataset.ts';
import { softmax, topTwo } from '../../math/numbers.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import type { Weights } from '../../students/student.ts';
import { isScoreFile } from '../../teachers/score-file.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import type { Weighted, WeightingInputs } from '../../weighting/index.ts';
import type { Config } from '../config/config.ts';
import { toWeighting } from '../config/methods.ts';
import { scoreCandidates } from '../prepare/candidates.ts';
import { labelsOf } from '../prepare/examples.ts';
import { keptWeights } from '../prepare/kept-arrays.ts';
import { studentScores } from '../prepare/student-scores.ts';
import type { Lesson } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';
import { openTeachers } from '../run/open-teachers.ts';
import type { Peer } from './co-teaching.ts';

/** Cosines are sharpened by this where the student's own loss of a query is asked for. Assumption, as info-nce's default. */
const STUDENT_TEMPERATURE = 0.05;

/**
 * What runs before each step to keep the examples' weights (and soft labels, where the weighting makes some) up to date.
 *
 * Weights depend on the student at the last renewal: the training state carries them, and where training goes on from between
 * two renewals nothing is weighed anew.
 *
 * @param steps in an epoch, for weightings that change with time
 * @param peer the other of two students that are taught together
 */
export async function weigher(
  job: Job,
  lesson: Lesson,
  steps: number,
  peer?: Peer,
): Promise<((step: number, weights: () => Promise<Weights>) => Promise<void>) | undefined> {
  const { config } = job;
  const { kind, renew } = config.weighting;
  if (kind === 'uniform') return undefined;
  const { examples } = lesson;
  const weighting = toWeighting(config.weighting);
  // Where nothing estimates it, the teacher is taken to be right.
  if (job.needs.has('reliability')) examples.reliability = new Float32Array(examples.weights.length).fill(1);
  const handedOn = examples.weights.slice();
  // What is given and the student's scores stand in this order, whatever new labels do to the examples' own.
  const lists = { queries: examples.queries, offsets: examples.offsets, documents: examples.documents.slice() };
  const fixed = await whatIsGiven(
    job,
    { ...lesson, examples: { ...examples, ...lists } },
    weighting.needs.includes('labelled'),
  );
  let current = -1;

  const weighNow = async (step: number, weights: () => Promise<Weights>): Promise<Weighted> => {
    const looks = looksAtStudent(config);
    const student = looks
      ? (await studentScores(job, lesson.student, await weights(), lesson.dataset, lists, frozenOf(job, lesson))).scores
      : undefined;
    const losses = student && studentLosses(examples, student);
    return weighting.weigh({
      ...(await fixed()),
      ...(losses && { student, losses }),
      ...(losses && peer && { peer: await peer.exchange(step, losses) }),
      epoch: step / steps,
    });
  };

  return async (step, weights) => {
    const last = renew === null ? 0 : step - (step % renew);
    if (last === current) return;
    current = last;
    // The first step after a resume: what was weighed at the last renewal came with the state.
    if (last < step) return;
    const found = weighsOnce(config)
      ? await keptWeights(job, () => weighNow(step, weights))
      : await weighNow(step, weights);
    if (!weighsOnce(config)) job.did('weights', true);
    examples.weights.set(found.weights.map((w, i) => w * handedOn[i]));
    examples.scores.set(found.targets ?? (await fixed()).teacher.scores);
    if (found.right) examples.reliability?.set(found.right);
    if (found.targets && config.train.pseudoLabels) relabel(examples, lists.documents, found.targets);
  };
}

const looksAtStudent = ({ weighting }: Config): boolean => {
  const { needs } = toWeighting(weighting);
  return weighting.renew !== null || needs.some((n) => n === 'student' || n === 'losses' || n === 'peer');
};

/** Whether weights follow from the teacher's scores alone, and not from how training goes. */
export const weighsOnce = (config: Config): boolean => !looksAtStudent(config) && !config.candidates.refresh;

/**
 * The most probable candidate by the new labels stands where a label would, in place of the teacher's best; known labels stay.
 * @param documents [all candidates] in the order of `targets`
 */
export function relabel(examples: Examples, documents: Int32Array, targets: Float32Array): void {
  for (const [i, query] of examples.queries.entries()) {
    const [from, to] = [examples.offsets[i], examples.offsets[i + 1]];
    if (from === to || examples.relevant(query).has(documents[from])) continue;
    const { at } = topTwo(targets.subarray(from, to));
    const order = [from + at, ...Array.from({ length: to - from }, (_, k) => from + k).filter((c) => c !== from + at)];
    examples.documents.set(
      order.map((c) => documents[c]),
      from,
    );
    examples.scores.set(
      order.map((c) => targets[c]),
      from,
    );
    if (examples.reliability) examples.reliability[i] = Math.exp(targets[from + at]);
  }
}

/** What weighings read besides the student, made when first asked for; the scores are those of before the first weighing. */
async function whatIsGiven(
  job: Job,
  lesson: Lesson,
  labels: boolean,
): Promise<() => Promise<WeightingInputs & { teacher: { scores: Float32Array } }>> {
  const { config } = job;
  const { kind, second, teachers } = config.weighting;
  const { examples } = lesson;
  const teacher = { offsets: examples.offsets, scores: examples.scores.slice() };
  const make = async () => ({
    teacher,
    ...(labels && { labelled: labelled(config, lesson) }),
    ...(second === 'bm25' && USES_SECOND.has(kind) && { second: await bm25Scores(job, lesson.dataset, examples) }),
    ...(teachers && { ensemble: await ensemble(job, lesson, teachers) }),
  });
  let made: ReturnType<typeof make> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** Weightings that read a second teacher where there is one. */
const USES_SECOND = new Set(['calibrated-posterior', 'reliability']);

const frozenOf = (job: Job, lesson: Lesson) => (job.frozenDocuments ? lesson.targets.documents : undefined);

/** The queries whose labels are known, with what is relevant. */
function labelled(config: Config, { examples, dataset }: Lesson): NonNullable<WeightingInputs['labelled']> {
  const labels = labelsOf(config, dataset, config.data.splits.train);
  const relevant = new Uint8Array(examples.documents.length);
  const queries: number[] = [];
  for (const [i, query] of examples.queries.entries()) {
    const known = labels.get(query);
    if (!known) continue;
    queries.push(i);
    for (let at = examples.offsets[i]; at < examples.offsets[i + 1]; at++)
      if (known.has(examples.documents[at])) relevant[at] = 1;
  }
  return { queries, relevant };
}

async function bm25Scores(job: Job, dataset: Dataset, examples: Examples): Promise<Float32Array> {
  const index = await job.stage('bm25', () => bm25(dataset.documents, job.watch));
  const scores = new Float32Array(examples.documents.length);
  for (const [i, query] of examples.queries.entries()) {
    const [from, to] = [examples.offsets[i], examples.offsets[i + 1]];
    scores.set(index.scores(dataset.queries.text(query), examples.documents.subarray(from, to)), from);
  }
  return scores;
}

/** What further teachers, models or files, say of the same candidates. */
async function ensemble(job: Job, { dataset, examples }: Lesson, models: readonly string[]): Promise<Float32Array[]> {
  const unscored = { ...examples, scores: examples.scores.map(() => Number.NaN) };
  const all: Float32Array[] = [];
  for (const model of models) {
    const further: Config['teacher'] = isScoreFile(model)
      ? { kind: 'scores', files: { train: model } }
      : { kind: 'cross-encoder', model };
    const { teacher, close } = await openTeachers({ ...job.config, teacher: further, embedder: undefined }, dataset);
    try {
      all.push((await job.stage('score', () => scoreCandidates(unscored, dataset, teacher, job.watch))).scores);
    } finally {
      await close();
    }
  }
  return all;
}

/** -log softmax of the first candidate (the label or pseudo-label) under the student. */
function studentLosses(examples: Examples, student: Float32Array): Float64Array {
  return Float64Array.from(examples.queries, (_, i) => {
    const list = Float64Array.from(student.subarray(examples.offsets[i], examples.offsets[i + 1]));
    return -Math.log(Math.max(softmax(list, STUDENT_TEMPERATURE)[0], 1e-12));
  });
}
