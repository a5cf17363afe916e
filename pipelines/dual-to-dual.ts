/**
 * @file EmbedDistill between dual-encoders: a large one's scores and embeddings into a small one.
 * @source Kim, Rawat, Zaheer et al. 2023 (arXiv 2301.12005)
 */
import type { Job } from './stages/job.ts';
import { ask, gather, openStudent, prepare } from './stages/lesson.ts';
import { finish, type RunReport } from './stages/report.ts';
import { trainStudent } from './stages/train.ts';

export async function dualToDual(job: Job): Promise<RunReport> {
  const student = await openStudent(job);
  const { dataset, lists } = await gather(job, student);

  // The teacher's scores are dot products of its embeddings: both come out of one model and one cache.
  const { scored, weights, asked } = await ask(job, student, dataset, lists);
  const lesson = await prepare(job, student, dataset, scored, { weights });
  const trained = await trainStudent(job, lesson);
  return finish(job, student, trained, lesson.targets, { asked });
}
