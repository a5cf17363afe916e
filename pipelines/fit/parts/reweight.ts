/** @file Each query's factor in the loss: made before training, or renewed with the current student while it trains. */

import { toWeighting } from '../../../config/methods.ts';
import type { Options } from '../../../config/options.ts';
import type { Dataset } from '../../../data/dataset.ts';
import { bm25 } from '../../../retrieval/bm25.ts';
import type { RunContext } from '../../../run/context.ts';
import { namedModels } from '../../../run/data.ts';
import { keepArrays } from '../../../run/stages/keep-arrays.ts';
import { defineStage, derive, lazily, type Result, type Tools } from '../../../run/stages/stage.ts';
import { encodingOf, studentScores } from '../../../students/student-scores.ts';
import { isScoreFile } from '../../../teachers/score-file.ts';
import { scoreCandidates } from '../../../teachers/score-pairs.ts';
import type { Examples } from '../../../training/batches/dual-encoder-batch.ts';
import { labelledAmong, studentLosses, weighed } from '../../../training/batches/examples.ts';
import type { Weighted, WeightingInputs } from '../../../weighting/index.ts';
import { labelsOf } from '../../prepare/examples.ts';
import type { TrainingSet } from '../../prepare/training-set.ts';
import type { Peer } from './co-teaching.ts';
import { type Fit, frozenOf, type Renewal } from './fit.ts';

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
 * where training goes on from between two renewals nothing is computed again.
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
    const { scores: student } = await studentScores(
      await encodingOf(options),
      pool,
      await weightsNow(),
      initial,
      watch,
    );
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

interface Given extends Weighable {
  options: Options<'weighting' | 'data.labelled' | 'data.splits'>;
  tools: Pick<Tools, 'time' | 'watch'>;
}

/** Inputs of a weighting other than the student; the scores are those before the first weighting. */
async function whatIsGiven({ options, data, examples, ensemble, tools }: Given): Promise<WeightingInputs> {
  const { kind, second } = options.weighting;
  const labels = toWeighting(options.weighting).needs.includes('labelled');
  return {
    teacher: { offsets: examples.offsets, scores: examples.scores },
    ...(labels && { labelled: labelledAmong(examples, labelsOf(options, data)) }),
    ...(second === 'bm25' && USES_SECOND.has(kind) && { second: await bm25Scores(data, examples, tools) }),
    ...(ensemble && { ensemble: await ensemble() }),
  };
}

/** Weightings that read a second teacher where there is one. */
const USES_SECOND = new Set(['calibrated-posterior', 'reliability']);

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
