/**
 * @file Distils teacher scores and embeddings into a dual-encoder. One function serves three pipelines; the options say which
 * towers train:
 *
 * - `cross-to-dual`, the main one: a cross-encoder's scores into both towers.
 * - `dual-to-dual`, EmbedDistill between dual-encoders: scores and embeddings come out of one model and one cache
 *   (Kim, Rawat, Zaheer et al. 2023, arXiv 2301.12005).
 * - `inherit-documents`: a query tower over the documents of a dual-encoder, which stay as they are. The larger model's index
 *   serves on and only the queries get cheaper. Where the widths differ, a learned projection takes queries into the
 *   documents' space; it is saved inside the graph, behind the token vectors.
 * - `static-queries`: the same query tower without a transformer, a table trained on the embedder's vectors of queries and of
 *   spans of documents. Labels and a cross-encoder's scores are optional.
 */

import type { RunContext } from '../run/context.ts';
import { derive } from '../run/stages/stage.ts';
import { measureTeacherOnDev } from './fit/teacher-on-dev.ts';
import { trainStudent } from './fit/train-student.ts';
import { adversarial } from './prepare/adversarial-scores.ts';
import { linearHead } from './prepare/linear-head.ts';
import { openStudent } from './prepare/open-student.ts';
import { annotate, gather, trainingSet } from './prepare/training-set.ts';
import { publish } from './publish/publish.ts';
import type { Published } from './publish/report-stage.ts';
import { publishSparse } from './publish/sparse/publish-sparse.ts';

/** @param more.serves whether later runs search the student's documents, so that what it makes of other sets is kept for them */
export async function crossToDual(run: RunContext, more: { serves?: boolean } = {}): Promise<Published> {
  const student = await openStudent(run);

  // The candidates of each query, and the teacher's scores of them.
  const gathered = await gather(run, student);
  const asked = await annotate(run, student, gathered);
  const losses = await measureTeacherOnDev(run, student);

  // Selection, weights and embeddings (frozen documents among them) make of it what training reads.
  const set = await trainingSet(run, student, gathered, asked);
  const robust = await adversarial(run, set);
  const head = await linearHead(run, set, robust);
  const trained = await trainStudent(run, set, { losses, robust, head });

  // The folder that is saved is what is measured.
  if (run.config.student.kind === 'sparse') return publishSparse(run, set, trained);
  const { annotated } = asked;
  const count = run.config.querySelection && derive({ annotated }, (v) => v.annotated.indices.length);
  return publish(run, set, trained, count, more);
}
