/** @file The third axis of a cascade: how many of the teacher's layers a pair goes through. */
import { type ExitFacts, exitsOf, layersRun } from './exits.ts';
import { depthsOf } from './policy.ts';
import type { Calibrated } from './quality.ts';

/**
 * A query as a cascade sees it that leaves the teacher's layers early: chunk after chunk, each document's logit at its exit.
 *
 * @param exits of the teacher; absent: every pair goes through all layers
 * @param threshold as in `throughExits`; Infinity: all layers
 * @returns the query, and the work after each chunk in pairs that go through all layers: work[0] is 0
 */
export function leavingEarly(
  query: Calibrated,
  depths: readonly number[],
  exits: ExitFacts | undefined,
  threshold: number,
): { query: Calibrated; work: number[] } {
  const ends = depthsOf(depths, query.student.length);
  const { atExits } = query;
  if (!exits || !atExits || threshold === Number.POSITIVE_INFINITY) return { query, work: [0, ...ends] };
  const teacher = new Float32Array(query.student.length);
  const work = [0];
  let from = 0;
  for (const to of ends) {
    const chunk = atExits.map((logits) => logits.subarray(from, to));
    const left = exitsOf(exits, chunk, threshold, teacher.subarray(0, from));
    teacher.set(left.scores, from);
    work.push(work[work.length - 1] + layersRun(exits, left.exits) / exits.layers[exits.layers.length - 1]);
    from = to;
  }
  return { query: { ...query, teacher, whole: query.whole ?? query.teacher }, work };
}
