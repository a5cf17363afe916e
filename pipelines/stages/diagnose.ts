/** @file What diagnostics say of a student beside its teacher. */
import type { Dataset, Qrels } from '../../data/dataset.ts';
import type { Run } from '../../evaluation/evaluate.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import type { Vectors } from './student-vectors.ts';

export interface DiagnoseInput {
  dataset: Dataset;
  qrels: Qrels;
  vectors: Vectors;
  /** Both over the same candidates. */
  student: Run;
  teacher: Run | undefined;
  seed: number;
}

export async function diagnose(_input: DiagnoseInput): Promise<Pick<Figures, 'calibration' | 'geometry'>> {
  return {};
}
