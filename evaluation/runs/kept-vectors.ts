/** @file Encoders whose vectors are kept by text: what earlier runs, or the same one, encoded is not encoded again. */
import type { Options } from '../../config/options.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import { Encoder } from '../../models/encoder.ts';
import type { RunContext } from '../../run/context.ts';
import { type Embeddings, embed } from '../../teachers/teacher.ts';
import { encoderSearcher, type Searcher, teacherSearcher } from '../systems/retrieve.ts';
import type { Saved } from './saved.ts';

/** A run that keeps vectors. */
export interface KeepingVectors {
  config: Options<'student' | 'train.provider' | 'train.threads'>;
  /** Opens an encoder behind the cache. */
  withTeacher: RunContext['withTeacher'];
  /** Whether later runs search the student's documents, so that its vectors are kept too. */
  serves?: boolean;
}

/**
 * Work with a saved student, as a searcher over given documents or over those that it embeds itself. The vectors of one whose
 * documents later runs search are kept for them.
 */
export async function withStudent<T>(
  job: KeepingVectors,
  saved: Saved,
  work: (over: (documents?: Embeddings) => Searcher) => Promise<T>,
): Promise<T> {
  const { student, train } = job.config;
  if (job.serves && student.towers !== 'query')
    return withKeptVectors(job, saved.folder, undefined, (own) => work(() => own));
  const encoder = await Encoder.load(saved.folder, { session: await computeOn(train), comparable: true });
  try {
    return await work((documents) => encoderSearcher(encoder, student, documents));
  } finally {
    await encoder.dispose();
  }
}

/** Work with an encoder in a folder, with the student's limits, behind the cache. */
export const withKeptVectors = <T>(
  { config: { student }, withTeacher }: KeepingVectors,
  model: string,
  prompts: KeepingVectors['config']['student']['prompts'],
  work: (searcher: Searcher) => Promise<T>,
): Promise<T> => {
  const { queryTokens, documentTokens } = student;
  return withTeacher({ kind: 'dual-encoder', model, queryTokens, documentTokens, prompts }, async (opened) =>
    work(teacherSearcher(embed((await opened.value()).teacher))),
  );
};
