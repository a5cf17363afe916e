/** @file The teacher's embeddings that a run matches or inherits. */
import { FaultError } from '../../common/errors.ts';
import type { Dataset } from '../../data/dataset.ts';
import { textsAt } from '../../data/dataset.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { allFinite } from '../../math/finite.ts';
import { specialTokens } from '../../students/static-encoder.ts';
import type { Embeddings, Teacher } from '../../teachers/teacher.ts';
import type { Job } from '../run/context.ts';

export interface Targets {
  /** Of the queries trained on, by position in the query table; other rows are 0. */
  queries?: Embeddings;
  /** Of all documents. */
  documents?: Embeddings;
}

/** Embeds what the losses match and what is searched, and nothing else. */
export async function embedTargets(job: Job, dataset: Dataset, queries: Int32Array): Promise<Targets> {
  const targets = await embedWanted(job, dataset, queries);
  for (const [name, table] of Object.entries(targets) as [string, Embeddings][]) {
    const rows = countBad(table);
    if (!rows) continue;
    // A document that is searched cannot be left out as a step can.
    if (job.frozenDocuments && name === 'documents')
      throw new FaultError({
        code: 'teacher.not-finite',
        subject: `the embeddings of ${rows} of ${dataset.documents.length} documents are not finite, and the student searches them`,
        remedy: 'mend the embedder, or remove these documents',
      });
    job.warn(
      `teacher.not-finite-${name}`,
      `the embeddings of ${rows} ${name} are not finite; steps that read them are left out`,
    );
  }
  return targets;
}

/** Rows with a number that is not finite. */
function countBad({ dimensions, data }: Embeddings): number {
  if (allFinite(data)) return 0;
  let rows = 0;
  for (let at = 0; at < data.length; at += dimensions) rows += Number(!allFinite(data.subarray(at, at + dimensions)));
  return rows;
}

async function embedWanted(job: Job, dataset: Dataset, queries: Int32Array): Promise<Targets> {
  const { frozenDocuments, needs, watch } = job;
  const targets: Targets = {};
  const before = job.asked();
  if (frozenDocuments || needs.has('teacherDocuments'))
    targets.documents = await job.stage('embed', () => embed(job.embedder)(dataset.documents, 'document', watch));
  if (needs.has('teacherQueries'))
    targets.queries = await job.stage('embed', async () =>
      spread(
        await embed(job.embedder)(textsAt(dataset, Array.from(queries)), 'query', watch),
        queries,
        dataset.queries.length,
      ),
    );
  if (targets.documents || targets.queries) job.did('embeddings', job.asked() > before);
  return targets;
}

/** The embedding side of a teacher that a config has been checked to have. */
export function embed(embedder: Teacher | undefined): NonNullable<Teacher['embed']> {
  if (!embedder?.embed)
    throw new FaultError({ code: 'run.no-embedder', subject: 'nothing embeds texts', remedy: "add an 'embedder'" });
  return embedder.embed;
}

/** Embeddings of some rows, by position in the whole table. */
function spread({ dimensions, data }: Embeddings, rows: Int32Array, length: number): Embeddings {
  const all = new Float32Array(length * dimensions);
  for (const [i, r] of rows.entries()) all.set(data.subarray(i * dimensions, (i + 1) * dimensions), r * dimensions);
  return { dimensions, data: all };
}

/** What the embedder makes of each token of its vocabulary alone, between special tokens; 0 for the special tokens themselves. */
export async function tokenVectors(job: Job, folder: string): Promise<Embeddings> {
  const { embedder, watch } = job;
  if (!embedder?.embedTokens)
    throw new FaultError({ code: 'run.no-embedder', subject: 'nothing embeds tokens', remedy: "add an 'embedder'" });
  const tokenizer = await TextTokenizer.load(folder);
  const special = await specialTokens(folder, tokenizer);
  const ids = Array.from({ length: tokenizer.vocabularySize }, (_, id) => id).filter((id) => !special.has(id));
  const found = await job.stage('embed', () =>
    (embedder.embedTokens as NonNullable<Teacher['embedTokens']>)(
      ids.map((id) => [id]),
      watch,
    ),
  );
  return spread(found, Int32Array.from(ids), tokenizer.vocabularySize);
}
