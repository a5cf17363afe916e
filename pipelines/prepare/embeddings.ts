/** @file The embedder's vectors that a run matches or inherits. */
import { FaultError } from '../../common/errors.ts';
import { type Dataset, textsAt } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import { allFinite } from '../../math/finite.ts';
import { Encoder } from '../../models/encoder.ts';
import type { RunContext } from '../../run/context.ts';
import { encoderFolder } from '../../run/data.ts';
import { defineStage, type Result, type Tools } from '../../run/stages/stage.ts';
import { specialTokens } from '../../students/static-encoder.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { type Embeddings, embed, type Teacher } from '../../teachers/teacher.ts';

/** Vectors of all documents, where losses match them or they are what is searched. */
const documentEmbeddings = defineStage({
  name: 'embeddings',
  options: [],
  unrecorded: ['student.towers'],
  async make({ student }, { data, embedder }: { data: Dataset; embedder: OpenedTeacher }, tools): Promise<Embeddings> {
    const { documents } = data;
    const table = await tools.time('embed', () => embed(embedder.teacher)(documents, 'document', tools.watch));
    const rows = countBad(table);
    // A document that is searched cannot be left out as a step can.
    if (rows && student.towers === 'query')
      throw new FaultError({
        code: 'teacher.not-finite',
        subject: `the embeddings of ${rows} of ${documents.length} documents are not finite, and the student searches them`,
        remedy: 'fix the embedder, or remove these documents',
      });
    warnOfBad(rows, 'documents', tools);
    return table;
  },
  async cached(_, { data, embedder }, cache) {
    if (!data || !embedder) return undefined;
    if (embedder.given) return 'they are given';
    const { documents } = data;
    const count = cache ? cache.missingEmbeddings(embedder.key, 'document', documents) : documents.length;
    return { count, of: documents.length, unit: 'texts' };
  },
});

/** Vectors of the queries trained on, by position in the query table; other rows are 0. */
const queryEmbeddings = defineStage({
  name: 'embeddings',
  options: [],
  async make(
    _,
    { data, queries, embedder }: { data: Dataset; lists: CandidateLists; queries: Int32Array; embedder: OpenedTeacher },
    tools,
  ): Promise<Embeddings> {
    const texts = textsAt(data, Array.from(queries));
    const found = await tools.time('embed', () => embed(embedder.teacher)(texts, 'query', tools.watch));
    const table = spread(found, queries, data.queries.length);
    warnOfBad(countBad(table), 'queries', tools);
    return table;
  },
  async cached(_, { data, lists, embedder }, cache) {
    if (!data || !lists || !embedder) return undefined;
    if (embedder.given) return 'they are given';
    const asked = [...lists.queries].filter((_, i) => lists.offsets[i + 1] > lists.offsets[i]);
    const texts = textsAt(data, asked);
    const count = cache ? cache.missingEmbeddings(embedder.key, 'query', texts) : texts.length;
    return { count, of: texts.length, unit: 'texts' };
  },
});

/** Vectors of the queries by the checkpoint that a query tower goes on from: over frozen documents there is no other embedder. */
const checkpointEmbeddings = defineStage({
  name: 'embeddings',
  options: ['student.queryTokens'],
  unrecorded: ['train.provider', 'train.threads'],
  async make(
    { student, train },
    { data, queries, folder }: { data: Dataset; lists: CandidateLists; queries: Int32Array; folder: string },
    tools,
  ): Promise<Embeddings> {
    const encoder = await Encoder.load(folder, { session: await computeOn(train), comparable: true });
    try {
      const asked = { ...tools.watch, maxLength: student.queryTokens, role: 'query' as const };
      const vectors = await tools.time('embed', () => encoder.encode(textsAt(data, Array.from(queries)), asked));
      return spread({ dimensions: encoder.dimensions, data: vectors }, queries, data.queries.length);
    } finally {
      await encoder.dispose();
    }
  },
});

/** What the losses match and what is searched. */
export interface Targets {
  documents?: Result<Embeddings>;
  queries?: Result<Embeddings>;
}

export async function embedDocuments(run: RunContext): Promise<Result<Embeddings> | undefined> {
  const { embedder, frozenDocuments, needs, data } = run;
  if (!embedder || !(frozenDocuments || needs.has('teacherDocuments'))) return undefined;
  return run.stage(documentEmbeddings, { data: data.documents, embedder });
}

/** @param lists what is known of the queries before they are */
export async function embedQueries(
  run: RunContext,
  inputs: { data: Result<Dataset>; lists: Result<CandidateLists>; queries: Result<Int32Array> },
): Promise<Result<Embeddings> | undefined> {
  const { embedder, needs, config } = run;
  if (!needs.has('teacherQueries')) return undefined;
  if (config.continue?.target === 'checkpoint' && run.frozenDocuments)
    return run.stage(checkpointEmbeddings, { ...inputs, folder: await encoderFolder(config.continue.from) });
  return embedder && run.stage(queryEmbeddings, { ...inputs, embedder });
}

function warnOfBad(rows: number, name: string, { warn }: Tools): void {
  if (rows)
    warn(
      `teacher.not-finite-${name}`,
      `the embeddings of ${rows} ${name} are not finite; steps that read them are left out`,
    );
}

/** Rows with a number that is not finite. */
function countBad({ dimensions, data }: Embeddings): number {
  if (allFinite(data)) return 0;
  let rows = 0;
  for (let at = 0; at < data.length; at += dimensions) rows += Number(!allFinite(data.subarray(at, at + dimensions)));
  return rows;
}

/** Embeddings of some rows, by position in the whole table. */
function spread({ dimensions, data }: Embeddings, rows: Int32Array, length: number): Embeddings {
  const all = new Float32Array(length * dimensions);
  for (const [i, r] of rows.entries()) all.set(data.subarray(i * dimensions, (i + 1) * dimensions), r * dimensions);
  return { dimensions, data: all };
}

/** What the embedder makes of each token of its vocabulary alone, between special tokens; 0 for the special tokens themselves. */
export async function tokenVectors(embedder: Teacher | undefined, folder: string, { time, watch }: Tools) {
  const { embedTokens } = embedder ?? {};
  if (!embedTokens)
    throw new FaultError({ code: 'run.no-embedder', subject: 'nothing embeds tokens', remedy: "add an 'embedder'" });
  const tokenizer = await TextTokenizer.load(folder);
  const special = await specialTokens(folder, tokenizer);
  const ids = Array.from({ length: tokenizer.vocabularySize }, (_, id) => id).filter((id) => !special.has(id));
  const found = await time('embed', () =>
    embedTokens(
      ids.map((id) => [id]),
      watch,
    ),
  );
  return spread(found, Int32Array.from(ids), tokenizer.vocabularySize);
}
