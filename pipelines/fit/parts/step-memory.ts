/** @file How many texts of a step are computed at once under a memory limit. */

import { trainedAtATime } from '../../../training/memory-budget.ts';
import type { Fit } from './fit.ts';

/**
 * Texts that a training step may encode at a time; undefined where all of them fit or nothing limits it.
 * @param texts of a step
 */
export async function stepChunk({ options, inputs, watch, note }: Fit, texts: number): Promise<number | undefined> {
  if (watch.memory === undefined) return undefined;
  const chunk = await trainedAtATime(
    inputs.student.graph,
    options.train.documentTokens ?? options.student.documentTokens,
    watch.memory,
  );
  if (texts <= chunk) return undefined;
  note(
    `memory: the ${texts} texts of a step are encoded ${chunk} at a time, twice (GradCache), with the same gradients`,
  );
  return chunk;
}
