/** @file How many texts of a step are computed at once under a memory limit. */

import type { Student } from '../../students/student.ts';
import type { Job } from '../run/context.ts';
import { trainedAtATime } from '../run/memory-budget.ts';

/**
 * Texts that a training step may encode at a time; undefined where all of them fit or nothing limits it.
 * @param texts of a step
 */
export async function stepChunk(
  { config, watch, note }: Job,
  student: Student,
  texts: number,
): Promise<number | undefined> {
  if (watch.memory === undefined) return undefined;
  const chunk = await trainedAtATime(
    student.graph,
    config.train.documentTokens ?? config.student.documentTokens,
    watch.memory,
  );
  if (texts <= chunk) return undefined;
  note(
    `memory: the ${texts} texts of a step are encoded ${chunk} at a time, twice (GradCache), with the same gradients`,
  );
  return chunk;
}
