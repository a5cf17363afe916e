/**
 * @file Rounds under a budget: choose queries with the student of the moment, ask the teacher about them, train on all that
 * it has said so far.
 */

import { listsAt } from '../data/lists.ts';
import type { Config } from './config/config.ts';
import { trainStudent } from './fit/train-student.ts';
import { embedTargets } from './prepare/embeddings.ts';
import { type Asked, chooseQueries } from './prepare/query-selection.ts';
import { extraTexts, gather, openStudent, prepare, score } from './prepare/training-set.ts';
import type { Trained } from './prepare/types.ts';
import { finish, type RunReport } from './publish/run-report.ts';
import type { Job } from './run/context.ts';

export async function active(job: Job): Promise<RunReport> {
  const { config } = job;
  const { rounds, restart } = config.active as NonNullable<Config['active']>;
  const budget = (config.querySelection as NonNullable<Config['querySelection']>).budget;
  const student = await openStudent(job);
  const { dataset, lists } = await gather(job, student);
  const total = Math.min(budget, lists.queries.length);
  const targets = await embedTargets(job, dataset, lists.queries);
  const pool = { student, dataset, lists, frozen: job.frozenDocuments ? targets.documents : undefined };
  const extra = await extraTexts(job, student);

  const asked: Asked = { indices: [], weights: [], scored: listsAt(lists, []) };
  let trained: Trained | undefined;
  for (let round = 0; round < rounds && asked.indices.length < total; round++) {
    // Each round asks about its share of what is left, as the student of the moment sees it.
    const share = Math.ceil((total - asked.indices.length) / (rounds - round));
    const { indices, weights } = await chooseQueries(job, pool, trained?.weights ?? new Map(), share, asked);
    asked.indices.push(...indices);
    asked.weights.push(...(weights ?? indices.map(() => 1)));
    asked.scored = await score(job, dataset, listsAt(lists, asked.indices));
    job.note(`round ${round + 1} of ${rounds}: the teacher has been asked about ${asked.indices.length} queries`);

    const known = { weights: Float32Array.from(asked.weights), targets, extra };
    const lesson = await prepare(job, student, dataset, asked.scored, known);
    const start = restart ? undefined : trained?.weights;
    trained = await trainStudent(job, lesson, { name: `round-${round + 1}`, start });
  }
  return finish(job, student, trained as Trained, targets, { asked: asked.indices.length });
}
