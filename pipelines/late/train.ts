/** @file From examples and frozen token states to a trained re-ranker: projections, scorer and the weight of the cosine. */
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import { nearest, type RunStates, rerankLate } from '../../evaluation/systems/late/rank.ts';
import { choiceScore } from '../../evaluation/systems/retrieve.ts';
import type { Rows } from '../../math/numbers.ts';
import { defineStage } from '../../run/stages/stage.ts';
import { type LateSettings, lateModel, lateStart } from '../../students/late/late-model.ts';
import { lateScorers } from '../../students/late/members.ts';
import type { LateScorer, LateWeights } from '../../students/late/scorer.ts';
import type { TokenStates } from '../../students/late/token-states.ts';
import type { Student } from '../../students/student.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { makeLateBatch } from '../../training/late/late-batch.ts';
import { checkLateLosses, comparesAll, lateStep } from '../../training/late/late-step.ts';
import type { WeightedLoss } from '../../training/step/dual-encoder-step.ts';
import { singleRun } from '../../training/step/single-run.ts';
import { train } from '../../training/trainer.ts';
import type { StateKey } from '../../training/training-state.ts';
import { loopOptions, type Trained, warnOfSkipped } from '../fit/parts/fit.ts';
import { contentOfTraining, keepTraining } from '../fit/training-artifacts.ts';
import { sidesOf } from './states.ts';

/** Texts of each side that the start of a projection is computed from. */
const SAMPLE = 64;
/** Documents a query that are re-ranked for the dev score. */
const DEPTH = 100;

/** A run's scorer as its options say. */
export const settingsOf = ({ student }: Options<'student'>): LateSettings => {
  const { scorer, dimensions, tokens, queryTokens } = (student as Extract<typeof student, { kind: 'multiVector' }>)
    .multiVector;
  return { scorer, dimensions, queryTokens, documentTokens: tokens };
};

interface Training {
  student: Student;
  states: RunStates;
  dev: Dataset;
  data: Dataset;
  examples: Examples;
  losses: readonly WeightedLoss[];
}

/** Trained weights by their names in `LATE`, from the beginning or from the state that a stopped run left. */
export const lateTraining = defineStage({
  name: 'training',
  options: ['losses', 'seed', 'student.multiVector', 'train'],
  unrecorded: ['data.splits', 'student', 'embedder', 'train.onNonFinite', 'train.saveEvery'],
  unchanged: 'finished in an earlier run',
  reused: 'the training of an earlier run is used',
  content: { parts: ['the examples', "the teacher's scores"], of: ({ examples }: Training) => contentOf(examples) },
  keep: keepTraining,
  async make(options, { states, dev, data, examples, losses }: Training, tools): Promise<Trained> {
    const { train: settings, seed } = options;
    const late = settingsOf(options);
    const { queries, documents } = states;
    const residual = (options.student as { multiVector: { residual: boolean } }).multiVector.residual;
    checkLateLosses(losses);
    const start = lateStart(
      late,
      {
        documents: sampleOf(documents, late.documentTokens),
        queries: sidesOf(options).same ? undefined : sampleOf(queries, late.queryTokens),
      },
      { residual, seed },
    );
    const scorer: LateScorer = lateScorers[late.scorer];
    const step = await tools.time('differentiate', () => lateStep({ scorer, losses, start }));
    const learner = new HostLearner(await singleRun(step, { threads: settings.threads }), {
      weightDecay: settings.weightDecay,
      decayNormsAndBiases: settings.decayNormsAndBiases,
      clipNorm: settings.clipNorm ?? undefined,
      optimizer: settings.optimizer,
    });
    const whole = (weights: ReadonlyMap<string, unknown>): LateWeights =>
      new Map([...start, ...(weights as LateWeights)]);
    const source = {
      examples,
      queries,
      documents,
      queryTokens: late.queryTokens,
      documentTokens: late.documentTokens,
      fixedLengths: scorer.fixedLengths,
      all: comparesAll(losses),
    };
    const perStep = Math.min(settings.batchSize, examples.queries.length);
    const drawing = { queries: perStep, candidates: settings.candidates, seed };
    const totalSteps =
      settings.steps ??
      Math.max(
        1,
        Math.round(((settings.epochs ?? 1) * Math.floor(examples.queries.length / perStep)) / settings.accumulate),
      );
    const split = options.data.splits.dev;
    const evaluates = split !== null && settings.evaluateEvery !== null;
    const quiet = { ...tools.watch, onProgress: undefined };
    const found = evaluates
      ? await tools.time('dev candidates', () => nearest(states, dev, split, DEPTH, quiet))
      : undefined;
    try {
      const result = await tools.time('train', () =>
        train(
          learner,
          {
            draw: (number) => makeLateBatch(source, number, drawing),
            ids: ({ exampleIds }) => exampleIds.map((e) => data.queries.ids[examples.queries[e]]),
            *arrays({ feeds }) {
              for (const name of ['teacher', 'weights', 'cosine']) yield [name, feeds[name].data as Float32Array];
            },
          },
          {
            terms: options.losses.map((l) => l.kind),
            ...loopOptions(settings, totalSteps, evaluates),
          },
          {
            ...tools.watch,
            stateFolder: tools.path('training'),
            key: tools.fingerprint as StateKey,
            evaluate:
              found &&
              (async (weights) => {
                const model = lateModel(late, whole(weights));
                return choiceScore(await rerankLate(model, states, dev, found, quiet), dev, split as string);
              }),
          },
        ),
      );
      warnOfSkipped(result.skipped, totalSteps, tools.warn);
      return { ...result, weights: whole(result.weights), initial: start, steps: totalSteps };
    } finally {
      await learner.release();
    }
  },
});

const contentOf = (examples: Examples): Record<string, string> => {
  const all = contentOfTraining.of({ examples } as Parameters<typeof contentOfTraining.of>[0]);
  return { 'the examples': all['the examples'], "the teacher's scores": all["the teacher's scores"] };
};

/** States of some texts, spread over the table. */
function sampleOf(states: TokenStates, tokens: number): Rows {
  const n = Math.min(SAMPLE, states.length);
  const rows = Array.from({ length: n }, (_, i) =>
    states.read(Math.floor((i * states.length) / n)).subarray(0, tokens * states.width),
  );
  const data = new Float32Array(rows.reduce((total, r) => total + r.length, 0));
  let at = 0;
  for (const row of rows) {
    data.set(row, at);
    at += row.length;
  }
  return { dimensions: states.width, data };
}
