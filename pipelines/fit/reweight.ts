/** @file Each query's factor in the loss: made before training, or renewed with the current student while it trains. */

import { toWeighting } from '../../config/methods.ts';
import type { Dataset } from '../../data/dataset.ts';
import { softmax, topTwo } from '../../math/numbers.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { isScoreFile } from '../../teachers/score-file.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import type { Weighted, WeightingInputs } from '../../weighting/index.ts';
import { scoreCandidates } from '../prepare/candidates.ts';
import { labelsOf } from '../prepare/examples.ts';
import { studentScores } from '../prepare/student-scores.ts';
import type { TrainingSet } from '../prepare/training-set.ts';
import type { RunContext } from '../run/context.ts';
import { namedModels } from '../run/data.ts';
import { keepArrays } from '../run/keep-arrays.ts';
import type { Options } from '../run/options.ts';
import { defineStage, derive, lazily, type Result, type Tools } from '../run/stage.ts';
import type { Peer } from './co-teaching.ts';
import { type Fit, frozenOf, type Renewal } from './fit.ts';

/** Cosines are sharpened by this where the student's own loss of a query is asked for. Assumption, as info-nce's default. */
const STUDENT_TEMPERATURE = 0.05;

/** Weights (and soft labels, where the weighting makes some) that follow from what is given and not from how training goes. */
export const weights = defineStage({
  name: 'weights',
  options: ['weighting', 'train.pseudoLabels', 'data.labelled'],
  unrecorded: ['weighting.teachers', 'data.splits'],
  unchanged: 'nothing they depend on has changed',
  async make(options, { data, examples, ensemble }: Weighable, tools): Promise<Weighted> {
    const weighting = toWeighting(options.weighting);
    return weighting.weigh({ ...(await whatIsGiven({ options, data, examples, ensemble, tools })), epoch: 0 });
  },
  keep: keepArrays<Weighted>(
    'weights',
    ({ weights, targets, right }) => ({ weights, targets, right }),
    (arrays) => arrays as unknown as Weighted,
  ),
});

interface Weighable {
  data: Dataset;
  examples: Examples;
  /** Scores by further teachers, when asked for. */
  ensemble?: () => Promise<Float32Array[]>;
}

/** A training set with the weights that can be made before training, and the further teachers that later ones read. */
export async function weigh(
  run: RunContext,
  set: TrainingSet,
): Promise<TrainingSet & { ensemble?: Result<() => Promise<Float32Array[]>> }> {
  const { weighting, train } = run.config;
  if (weighting.kind === 'uniform') return set;
  const ensemble = await furtherScores(run, set);
  // Where nothing estimates it, the teacher is taken to be right.
  const estimates = run.needs.has('reliability');
  const examples = derive({ examples: set.examples }, (v) => ({
    ...v.examples,
    ...(estimates && { reliability: new Float32Array(v.examples.weights.length).fill(1) }),
  }));
  if (followsStudent(weighting)) return { ...set, examples, ensemble };
  const found = await run.stage(weights, { data: set.data, examples, ensemble });
  return { ...set, examples: derive({ examples, found }, (v) => weighed(v.examples, v.examples, v.found, train)) };
}

/**
 * Keeps the examples' weights (and soft labels) up to date, where they follow the student. The training state carries them, and
 * where training goes on from between two renewals nothing is weighed anew.
 *
 * @param steps in an epoch, for weightings that change with time
 * @param peer the other of two students that are taught together
 */
export function weigher(fit: Fit, steps: number, peer?: Peer): Renewal | undefined {
  const { options, inputs, watch } = fit;
  if (!followsStudent(options.weighting)) return undefined;
  const { renew } = options.weighting;
  const weighting = toWeighting(options.weighting);
  // What is given and the student's scores have this order, whatever new labels do to the examples' own.
  const { examples: initial, data, ensemble } = inputs;
  let made: ReturnType<typeof whatIsGiven> | undefined;
  let current = -1;
  return async (step, weightsNow, examples) => {
    const last = renew === null ? 0 : step - (step % renew);
    if (last === current) return examples;
    current = last;
    // The first step after a resume: what was weighed at the last renewal came with the state.
    if (last < step) return examples;
    const pool = { student: inputs.student, data, frozen: frozenOf(fit) };
    const { scores: student } = await studentScores(options, pool, await weightsNow(), initial, watch);
    const losses = studentLosses(examples, student);
    made ??= whatIsGiven({ options, data, examples: initial, ensemble, tools: fit });
    const found = weighting.weigh({
      ...(await made),
      student,
      losses,
      ...(peer && { peer: await peer.exchange(step, losses) }),
      epoch: step / steps,
    });
    return weighed(examples, initial, found, options.train);
  };
}

/** Whether weights depend on how training goes. */
function followsStudent(weighting: Options<'weighting'>['weighting']): boolean {
  const { needs } = toWeighting(weighting);
  return weighting.renew !== null || needs.some((n) => n === 'student' || n === 'losses' || n === 'peer');
}

/** Examples with what a weighting found. @param initial as they were before the first weighing */
export function weighed(
  examples: Examples,
  initial: Examples,
  { weights, targets, right }: Weighted,
  { pseudoLabels }: { pseudoLabels: boolean },
): Examples {
  const next: Examples = {
    ...examples,
    weights: Float32Array.from(weights, (w, i) => w * initial.weights[i]),
    scores: Float32Array.from(targets ?? initial.scores),
    ...(right && examples.reliability && { reliability: Float32Array.from(right) }),
  };
  return targets && pseudoLabels ? relabeled(next, initial.documents, targets) : next;
}

/**
 * The most probable candidate by the new labels stands where a label would, in place of the teacher's best; known labels stay.
 * @param documents [all candidates] in the order of `targets`
 */
export function relabeled(examples: Examples, documents: Int32Array, targets: Float32Array): Examples {
  const next = {
    ...examples,
    documents: examples.documents.slice(),
    scores: examples.scores.slice(),
    reliability: examples.reliability?.slice(),
  };
  for (const [i, query] of examples.queries.entries()) {
    const [from, to] = [examples.offsets[i], examples.offsets[i + 1]];
    if (from === to || examples.relevant(query).has(documents[from])) continue;
    const { at } = topTwo(targets.subarray(from, to));
    const order = [from + at, ...Array.from({ length: to - from }, (_, k) => from + k).filter((c) => c !== from + at)];
    for (const [k, c] of order.entries())
      [next.documents[from + k], next.scores[from + k]] = [documents[c], targets[c]];
    if (next.reliability) next.reliability[i] = Math.exp(targets[from + at]);
  }
  return next;
}

interface Given extends Weighable {
  options: Options<'weighting' | 'data.labelled' | 'data.splits'>;
  tools: Pick<Tools, 'time' | 'watch'>;
}

/** What weighings read besides the student; the scores are those of before the first weighing. */
async function whatIsGiven({ options, data, examples, ensemble, tools }: Given): Promise<WeightingInputs> {
  const { kind, second } = options.weighting;
  const labels = toWeighting(options.weighting).needs.includes('labelled');
  return {
    teacher: { offsets: examples.offsets, scores: examples.scores },
    ...(labels && { labelled: labelled(options, data, examples) }),
    ...(second === 'bm25' && USES_SECOND.has(kind) && { second: await bm25Scores(data, examples, tools) }),
    ...(ensemble && { ensemble: await ensemble() }),
  };
}

/** Weightings that read a second teacher where there is one. */
const USES_SECOND = new Set(['calibrated-posterior', 'reliability']);

/** The queries whose labels are known, with what is relevant. */
function labelled(options: Given['options'], data: Dataset, examples: Examples): WeightingInputs['labelled'] {
  const labels = labelsOf(options, data);
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

async function bm25Scores(data: Dataset, examples: Examples, { time, watch }: Given['tools']): Promise<Float32Array> {
  const index = await time('bm25', () => bm25(data.documents, watch));
  const scores = new Float32Array(examples.documents.length);
  for (const [i, query] of examples.queries.entries()) {
    const [from, to] = [examples.offsets[i], examples.offsets[i + 1]];
    scores.set(index.scores(data.queries.text(query), examples.documents.subarray(from, to)), from);
  }
  return scores;
}

/** Scores of the same candidates by further teachers (models or files), which are opened when the scores are needed. */
async function furtherScores(
  run: RunContext,
  { data, examples }: TrainingSet,
): Promise<Result<() => Promise<Float32Array[]>> | undefined> {
  const { teachers } = run.config.weighting;
  if (!teachers) return undefined;
  const models = await namedModels('weighting.teachers', teachers);
  const scored = derive({ data, examples, models }, async (v) => {
    const unscored = { ...v.examples, scores: v.examples.scores.map(() => Number.NaN) };
    const all: Float32Array[] = [];
    for (const model of v.models)
      await run.withTeacher(
        isScoreFile(model) ? { kind: 'scores', files: { train: model } } : { kind: 'cross-encoder', model },
        async (opened) => {
          const { teacher } = await opened.value();
          all.push((await run.time('score', () => scoreCandidates(unscored, v.data, teacher, run.watch))).scores);
        },
      );
    return all;
  });
  return lazily(models.fingerprint, scored.known, async () => scored.value);
}

/** -log softmax of the first candidate (the label or pseudo-label) under the student. */
function studentLosses(examples: Examples, student: Float32Array): Float64Array {
  return Float64Array.from(examples.queries, (_, i) => {
    const list = Float64Array.from(student.subarray(examples.offsets[i], examples.offsets[i + 1]));
    return -Math.log(Math.max(softmax(list, STUDENT_TEMPERATURE)[0], 1e-12));
  });
}
