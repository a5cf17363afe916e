/** @file Encoders whose vectors are kept by text: what earlier runs, or the same one, encoded is not encoded again. */
import type { Options } from '../../config/options.ts';
import type { RunContext } from '../../run/context.ts';
import { embed } from '../../teachers/teacher.ts';
import { type Searcher, teacherSearcher } from '../systems/retrieve.ts';

/** A run that keeps vectors. */
export interface KeepingVectors {
  config: Options<'student'>;
  /** Opens an encoder behind the cache. */
  withTeacher: RunContext['withTeacher'];
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
