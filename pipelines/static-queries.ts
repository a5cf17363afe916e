/**
 * @file A query tower without a transformer over the documents of a dual-encoder: a table, trained on that model's embeddings
 * of queries and of spans of documents. Labels and a cross-encoder's scores are optional.
 */
import { staticStudent } from '../students/static-encoder.ts';
import { trainStudent } from './fit/train-student.ts';
import { tokenVectors } from './prepare/embeddings.ts';
import { ask, gather, prepare } from './prepare/training-set.ts';
import { finish, type RunReport } from './publish/run-report.ts';
import type { Job } from './run/context.ts';

export async function staticQueries(job: Job): Promise<RunReport> {
  const { embedder, seed, student: options } = job.config;
  const folder = embedder?.model as string;

  // Each row starts as what the embedder makes of its token alone.
  const table = await tokenVectors(job, folder);
  const student = await staticStudent(folder, table, { ...(options.kind === 'static' && options.static), seed });

  const { dataset, lists } = await gather(job, student);
  const { scored, weights, asked } = await ask(job, student, dataset, lists);
  const lesson = await prepare(job, student, dataset, scored, { weights });
  const trained = await trainStudent(job, lesson);

  // What is saved is folded: tables and, with word order, a little arithmetic.
  return finish(job, student, trained, lesson.targets, { asked });
}
