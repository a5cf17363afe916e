/** @file Trains a graph over pairs to give the logits that a whole model gives on lists of documents. */
import { canonicalJson, hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { onProcessor, type SessionOptions } from '../../engine/runtime/session.ts';
import type { Weights } from '../../students/student.ts';
import { makePairBatch, type PairSource } from '../../training/batches/cross-encoder-batch.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { learnerOn } from '../../training/device-learner.ts';
import { type CrossEncoderStepOptions, crossEncoderStep } from '../../training/step/cross-encoder-step.ts';
import { train } from '../../training/trainer.ts';
import type { QueryList } from './lists.ts';

/** What is learned: the graph's outputs on pairs, and the targets. */
export interface LogitTargets
  extends Pick<PairSource, 'pairTokens' | 'padId'>,
    Omit<CrossEncoderStepOptions, 'groups'> {
  dataset: Dataset;
  lists: readonly QueryList[];
  /** [pairs] the whole model's, list after list. */
  logits: Float32Array;
  /** The longest row that the graph reads. */
  longest?: number;
}

export interface LogitTraining {
  steps: number;
  seed: number;
  learningRate: number;
  /** Queries a step. */
  queries: number;
  /** Documents of each. */
  candidates: number;
  /** Name of the work in progress events. */
  stage: string;
  /** Where the state of a stopped training is kept. */
  stateFolder: string;
  /** What the state belongs to in addition to these options, the lists and their logits. */
  key: Readonly<Record<string, unknown>>;
  where?: SessionOptions;
}

/** Groups of similar length that the pairs of a step are padded in. */
const GROUPS = 2;

/** A stopped training goes on from its saved state. @returns trained weights, the last steps' mean loss, seconds a step */
export async function trainOnLogits(
  { dataset, lists, logits, longest, pairTokens, padId, ...step }: LogitTargets,
  { stateFolder, stage, key, where = { provider: 'cpu' }, ...options }: LogitTraining,
  watch: RunControl,
): Promise<{ weights: Weights; loss: number; stepSeconds: number }> {
  const learner = await learnerOn((forms) => crossEncoderStep({ ...step, groups: GROUPS }, forms), where, {
    weightDecay: 0.01,
    clipNorm: 1,
  });
  const examples = examplesOf(lists, logits);
  const drawing = {
    queries: Math.min(options.queries, lists.length),
    candidates: options.candidates,
    groups: GROUPS,
    seed: options.seed,
    onDevice: !onProcessor(where),
    longest,
  };
  try {
    const { weights, log, stepSeconds } = await train(
      learner,
      {
        draw: (number) => makePairBatch({ examples, pairTokens, padId }, number, drawing),
        ids: ({ exampleIds }) => exampleIds.map((e) => dataset.queries.ids[lists[e].query]),
        *arrays({ targets }) {
          yield ['targets', targets.data as Float32Array];
        },
      },
      {
        terms: step.losses.map(({ loss }) => loss.name),
        schedule: {
          learningRate: options.learningRate,
          warmupSteps: Math.ceil(options.steps / 10),
          totalSteps: options.steps,
          finalShare: 0,
        },
        saveEvery: 100,
      },
      {
        ...watch,
        stage,
        stateFolder,
        key: {
          options: canonicalJson({ ...options, ...key }),
          targets: hashParts(JSON.stringify(lists), String(logits)),
          documents: dataset.documents.hash,
          queries: dataset.queries.hash,
        },
      },
    );
    const last = log.slice(-20);
    return { weights, loss: last.reduce((sum, e) => sum + e.loss, 0) / last.length, stepSeconds };
  } finally {
    await learner.release();
  }
}

function examplesOf(lists: readonly QueryList[], logits: Float32Array): Examples {
  const offsets = [0];
  for (const { documents } of lists) offsets.push(offsets[offsets.length - 1] + documents.length);
  return {
    queries: Int32Array.from(lists, (l) => l.query),
    offsets: Int32Array.from(offsets),
    documents: Int32Array.from(lists.flatMap((l) => l.documents)),
    scores: logits,
    labelled: new Uint8Array(lists.length),
    weights: new Float32Array(lists.length).fill(1),
    relevant: () => new Set(),
  };
}
