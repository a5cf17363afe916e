/** @file What a training reads and gives, for the stage and the parts of it. */

import type { Options } from '../../../config/options.ts';
import type { Dataset } from '../../../data/dataset.ts';
import type { Tensor } from '../../../engine/graph/tensor.ts';
import type { Tools } from '../../../run/stages/stage.ts';
import type { Student, Weights } from '../../../students/student.ts';
import type { OpenedTeacher } from '../../../teachers/open-model.ts';
import type { Embeddings } from '../../../teachers/teacher.ts';
import type { BatchSource, EmbeddedTexts, Examples } from '../../../training/batches/dual-encoder-batch.ts';
import type { WeightedLoss } from '../../../training/step/dual-encoder-step.ts';
import type { TrainOptions, TrainResult } from '../../../training/trainer.ts';
import type { RobustScores } from '../../prepare/adversarial-scores.ts';

/** Options that a training depends on. */
export const trainingOptions = [
  'candidates.count',
  'candidates.refresh',
  'data.labelled',
  'losses',
  'seed',
  'student.documentTokens',
  'student.keep',
  'student.queryTokens',
  'student.towers',
  'train',
  'weighting',
] as const;
/** Read too: the content of what they name is an input, or the weights do not depend on them. */
export const unrecordedTrainingOptions = [
  'data.splits',
  'export',
  'student.keep.model',
  'student.keep.texts',
  'teacher',
  'train.daft.model',
  'train.onNonFinite',
  'train.saveEvery',
  'weighting.teachers',
] as const;
export type TrainingOptions = Options<(typeof trainingOptions | typeof unrecordedTrainingOptions)[number]>;

export interface TrainingInputs {
  student: Student;
  data: Dataset;
  /** The data set as its dev split counts. */
  dev: Dataset;
  examples: Examples;
  losses: readonly WeightedLoss[];
  /** Vectors of documents and of queries that the losses match or that are searched. */
  documents?: Embeddings;
  queries?: Embeddings;
  extra?: NonNullable<BatchSource['extra']>;
  /** General spans with the embeddings of the encoder as it was. */
  kept?: EmbeddedTexts;
  teacher?: OpenedTeacher;
  embedder?: OpenedTeacher;
  /** Scores of the examples' candidates by further teachers, when asked for. */
  ensemble?: () => Promise<Float32Array[]>;
  /** Scores by earlier checkpoints of the teacher, which teach the first share of the steps. */
  earlier?: { scores: readonly Float32Array[]; share: number };
  /** DAFT's scores, which steps learn in turn in place of the examples' own. */
  robust?: RobustScores;
  /** FRR's layer behind the encoder, which is not trained any more. */
  head?: Tensor<'float32'>;
  /** Weights to begin with, in place of the student's own. */
  start?: Weights;
}

/** A training under way. */
export interface Fit extends Tools {
  options: TrainingOptions;
  inputs: TrainingInputs;
  /** Of this student: the second of two that are taught together has another. */
  seed: number;
}

export interface Trained extends TrainResult {
  /** Weights before the first step. */
  initial: Weights;
  steps: number;
  /** Share of the trained weights in a mean with the initial ones, chosen on dev; absent where they stand alone. */
  average?: number;
}

/** What gives new examples before a step; the same ones where nothing changes. @param weights of the current student */
export type Renewal = (step: number, weights: () => Promise<Weights>, examples: Examples) => Promise<Examples>;

/** Documents that the student does not encode. */
export const frozenOf = ({ options, inputs }: Pick<Fit, 'options' | 'inputs'>): Embeddings | undefined =>
  options.student.towers === 'query' ? inputs.documents : undefined;

/** What the loop of a training reads of the run's options. @param evaluates whether dev is measured meanwhile */
export const loopOptions = (
  settings: Options<'train'>['train'],
  totalSteps: number,
  evaluates: boolean,
): Omit<TrainOptions, 'terms'> => ({
  schedule: {
    learningRate: settings.learningRate,
    warmupSteps: settings.warmupSteps,
    totalSteps,
    finalShare: settings.finalLearningRate,
  },
  evaluateEvery: evaluates ? (settings.evaluateEvery ?? undefined) : undefined,
  saveEvery: settings.saveEvery,
  accumulate: settings.accumulate,
  onNonFinite: settings.onNonFinite,
});

/** Says how many steps were left out. */
export function warnOfSkipped(skipped: number, totalSteps: number, warn: Tools['warn']): void {
  if (skipped)
    warn('train.skipped', `${skipped} of ${totalSteps} steps are left out: their loss or gradient was not finite`);
}
