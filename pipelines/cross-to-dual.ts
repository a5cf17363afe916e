/**
 * @file What a teacher says of pairs, into a dual-encoder. One way serves three pipelines; the config says which towers train:
 *
 * - `cross-to-dual`, the main one: a cross-encoder's scores into both towers.
 * - `dual-to-dual`, EmbedDistill between dual-encoders: scores and embeddings come out of one model and one cache
 *   (Kim, Rawat, Zaheer et al. 2023, arXiv 2301.12005).
 * - `inherit-documents`: a query tower over the documents of a dual-encoder, which stay as they are. The larger model's index
 *   serves on and only the queries get cheaper. Where the widths differ, a learned projection takes queries into the
 *   documents' space; it is saved inside the graph, behind the token vectors.
 */

import { trainStudent } from './fit/train-student.ts';
import { ask, gather, openStudent, prepare } from './prepare/training-set.ts';
import { finish, type RunReport } from './publish/run-report.ts';
import type { Job } from './run/context.ts';

export async function crossToDual(job: Job): Promise<RunReport> {
  const student = await openStudent(job);

  // Which documents stand for which query, and what the teacher says of each.
  const { dataset, lists } = await gather(job, student);
  const { scored, weights, asked } = await ask(job, student, dataset, lists);

  // Selection, weights and embeddings (frozen documents among them) make of it what training reads.
  const lesson = await prepare(job, student, dataset, scored, { weights });
  const trained = await trainStudent(job, lesson);

  // The folder that is saved is what is measured.
  return finish(job, student, trained, lesson.targets, { asked });
}
