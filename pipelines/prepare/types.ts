/** @file What a training is given, and what it gives. */
import type { Dataset } from '../../data/dataset.ts';
import type { Student, Weights } from '../../students/student.ts';
import type { BatchSource, Examples } from '../../training/batches/dual-encoder-batch.ts';
import type { TrainResult } from '../../training/trainer.ts';
import type { Targets } from './embeddings.ts';

export interface Lesson {
  student: Student;
  /** The data set, with generated queries behind its own where there are some. */
  dataset: Dataset;
  examples: Examples;
  targets: Targets;
  /** Texts that only the embedder speaks for. */
  extra?: BatchSource['extra'];
}

export interface Trained extends TrainResult {
  /** Weights before the first step. */
  initial: Weights;
  steps: number;
}
