/** @file A sparse student with given weights, ready to encode. */
import { SparseEncoder } from '../../models/sparse/sparse-encoder.ts';
import type { Student, Weights } from '../student.ts';
import type { Encoding } from '../student-scores.ts';
import { queryWeights } from './sparse-student.ts';

/** @param options how texts are cut and where they are encoded */
export async function sparseEncoderOf(student: Student, weights: Weights, options: Encoding): Promise<SparseEncoder> {
  return SparseEncoder.of(await student.inferenceGraph(weights), {
    tokenizer: student.tokenizer,
    queries: queryWeights(student, weights),
    prompts: student.prompts,
    maxLength: options.documentTokens,
    positions: student.positions,
    session: options.session,
    name: 'the student',
  });
}
