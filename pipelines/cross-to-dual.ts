/** @file The main pipeline: what a cross-encoder says of pairs, into both towers of a dual-encoder. */
import type { Job } from './stages/job.ts';
import { ask, gather, openStudent, prepare } from './stages/lesson.ts';
import { finish, type RunReport } from './stages/report.ts';
import { trainStudent } from './stages/train.ts';

export async function crossToDual(job: Job): Promise<RunReport> {
  const student = await openStudent(job);

  // Which documents stand for which query, and what the teacher says of each.
  const { dataset, lists } = await gather(job, student);
  const { scored, weights, asked } = await ask(job, student, dataset, lists);

  // Selection, weights and embeddings make of it what training reads.
  const lesson = await prepare(job, student, dataset, scored, { weights });
  const trained = await trainStudent(job, lesson);

  // The folder that is saved is what is measured.
  return finish(job, student, trained, lesson.targets, { asked });
}
