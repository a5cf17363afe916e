/** @file The current student's scores of candidates. */
import type { RunControl } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import { textsAt } from '../data/dataset.ts';
import type { CandidateLists } from '../data/lists.ts';
import { type Computing, computeOn } from '../engine/runtime/provider.ts';
import type { SessionOptions } from '../engine/runtime/session.ts';
import { Encoder } from '../models/encoder.ts';
import { withUnit } from '../models/modules/head.ts';
import type { Student, Weights } from './student.ts';

/** How texts are cut and where they are encoded. */
export interface Encoding {
  queryTokens: number;
  documentTokens: number;
  session: SessionOptions;
}

/** How a run encodes with its student. @param options those of a config */
export async function encodingOf({
  student: { queryTokens, documentTokens },
  train,
}: {
  student: Pick<Encoding, 'queryTokens' | 'documentTokens'>;
  train: Computing;
}): Promise<Encoding> {
  return { queryTokens, documentTokens, session: await computeOn(train) };
}

/** The student with these weights, ready to encode. */
export async function encoderOf(student: Student, weights: Weights, options: Encoding): Promise<Encoder> {
  const { queryTokens, documentTokens } = options;
  return Encoder.of(await student.inferenceGraph(weights), {
    tokenizer: student.tokenizer,
    head: withUnit(student.headWith(weights), student.normalize),
    prompts: student.prompts,
    similarity: student.similarity,
    maxLength: Math.max(queryTokens, documentTokens),
    positions: student.positions,
    hash: '',
    name: 'the student',
    session: options.session,
  });
}

/** Lists of candidates, scored or not. */
export type Lists = Pick<CandidateLists, 'queries' | 'offsets' | 'documents'>;

export interface StudentScores {
  /** [all candidates] dot products. */
  scores: Float32Array;
  /** Of the lists' queries. */
  queries: { dimensions: number; data: Float32Array };
  /** The vector of a candidate, by its position in the document table. */
  document(position: number): Float32Array;
}

/** Encodes queries and each candidate once (or reads the frozen documents) and multiplies. */
export async function studentScores(
  options: Encoding,
  {
    student,
    data: dataset,
    frozen,
  }: { student: Student; data: Dataset; frozen?: { dimensions: number; data: Float32Array } },
  weights: Weights,
  lists: Lists,
  given: RunControl,
): Promise<StudentScores> {
  const { queryTokens, documentTokens } = options;
  const encoder = await encoderOf(student, weights, options);
  try {
    const watch = { ...given, onProgress: undefined };
    const queries = await encoder.encode(textsAt(dataset, Array.from(lists.queries)), {
      ...watch,
      maxLength: queryTokens,
      role: 'query',
    });
    const unique = frozen ? [] : [...new Set(lists.documents)];
    const texts = { length: unique.length, text: (i: number) => dataset.documents.text(unique[i]) };
    const documents =
      frozen?.data ?? (await encoder.encode(texts, { ...watch, maxLength: documentTokens, role: 'document' }));
    const row = new Map(unique.map((d, i) => [d, i]));
    const D = encoder.dimensions;
    const scores = new Float32Array(lists.documents.length);
    const document = (position: number): Float32Array => {
      const at = (row.get(position) ?? position) * D;
      return documents.subarray(at, at + D);
    };
    for (let i = 0; i < lists.queries.length; i++)
      for (let at = lists.offsets[i]; at < lists.offsets[i + 1]; at++) {
        const d = document(lists.documents[at]);
        let dot = 0;
        for (let k = 0; k < D; k++) dot += queries[i * D + k] * d[k];
        scores[at] = dot;
      }
    return { scores, queries: { dimensions: D, data: queries }, document };
  } finally {
    await encoder.dispose();
  }
}
