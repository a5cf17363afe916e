/** @file Checks before any costly work whether a folder is a teacher that scores pairs, and how it is read. */
import { InputError } from '../common/errors.ts';
import { crossEncoder } from './cross-encoder.ts';
import type { TeacherFacts } from './teacher.ts';

/**
 * Opens a re-ranker as `distill score` does, one pair read included.
 * @returns undefined where the model gives vectors and no scores
 * @throws InputError where scoring would refuse it
 */
export async function checkTeacher(folder: string): Promise<TeacherFacts | undefined> {
  try {
    const teacher = await crossEncoder(folder);
    await teacher.dispose();
    return teacher.facts;
  } catch (error) {
    if (error instanceof InputError && error.code === 'teacher.no-logits') return undefined;
    throw error;
  }
}
