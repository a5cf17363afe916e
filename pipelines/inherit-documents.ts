/**
 * @file A query tower over the documents of a dual-encoder, which stay as they are.
 *
 * The index of the larger model serves on and only the queries get cheaper. Where the widths differ, a learned projection
 * takes queries into the documents' space; it is saved inside the graph, behind the token vectors.
 */
import type { Job } from './stages/job.ts';
import { ask, gather, openStudent, prepare } from './stages/lesson.ts';
import { finish, type RunReport } from './stages/report.ts';
import { trainStudent } from './stages/train.ts';

export async function inheritDocuments(job: Job): Promise<RunReport> {
  const student = await openStudent(job);
  const { dataset, lists } = await gather(job, student);
  const { scored, weights, asked } = await ask(job, student, dataset, lists);

  // The targets hold the frozen documents; batches take rows of them and encode queries alone.
  const lesson = await prepare(job, student, dataset, scored, { weights });
  const trained = await trainStudent(job, lesson);
  return finish(job, student, trained, lesson.targets, { asked });
}
