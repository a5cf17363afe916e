/** @file How fast models are here: a few texts of the data, timed. */
import { setTimeout } from 'node:timers/promises';
import type { Config } from '../../config/config.ts';
import { localModel } from '../../config/models.ts';
import { startFolder } from '../../config/student.ts';
import { type Dataset, textsAt } from '../../data/dataset.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { openModel } from '../../teachers/open-model.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';

/** Seconds of timing a model, at most but for its first items, and items that say enough. */
const SECONDS = 2;
const ITEMS = 128;
/** Items at first: they load what is loaded at the first call, and say how many more fit. */
const FIRST = 4;

/** Seconds of an item; undefined where it cannot be timed, with the reason. */
export type Rate = { seconds: number } | { seconds?: undefined; why: string };

/** Times work on items of the data, drawn with a seed. @param work on so many items, from a place on */
async function timed(items: number, work: (from: number, count: number) => Promise<unknown>): Promise<Rate> {
  const first = Math.min(FIRST, items);
  if (!first) return { why: 'there is nothing to time it on' };
  await work(0, Math.min(2, first));
  let started = performance.now();
  await work(0, first);
  const rough = (performance.now() - started) / 1000 / first;
  const more = Math.min(ITEMS, items, Math.floor(SECONDS / rough));
  if (more <= first) return { seconds: rough };
  // Others of this process get their turn.
  await setTimeout(0);
  started = performance.now();
  await work(0, more);
  return { seconds: (performance.now() - started) / 1000 / more };
}

const drawn = (n: number, name: string, table: { length: number }): number[] => {
  const random = Random.of(0, name);
  return Array.from({ length: Math.min(n, table.length) }, () => random.integer(table.length));
};

/** Seconds of a pair of the teacher. */
export async function teacherRate(config: Config, dataset: Dataset): Promise<Rate> {
  const { teacher: spec } = config;
  if (!spec || spec.kind === 'scores') return { why: 'its scores are given' };
  if (spec.kind === 'http') return { why: 'a service is not asked to be timed' };
  const documents = drawn(ITEMS, 'timed documents', dataset.documents);
  const queries = drawn(ITEMS, 'timed queries', dataset.queries);
  const pairs = documents.map((d, i): Pair => {
    const q = queries[i % queries.length];
    return {
      queryId: dataset.queries.ids[q],
      documentId: dataset.documents.ids[d],
      query: dataset.queries.text(q),
      document: dataset.documents.text(d),
    };
  });
  const model = await openModel(spec, await computeOn(config.train));
  try {
    return await timed(queries.length ? pairs.length : 0, (from, count) =>
      model.score(pairs.slice(from, from + count)),
    );
  } finally {
    await model.dispose();
  }
}

/** Seconds of a document of the embedder. */
export async function embedderRate(config: Config, dataset: Dataset): Promise<Rate> {
  const { embedder: spec } = config;
  if (!spec || !localModel(spec) || !('queryTokens' in spec)) return { why: 'a service is not asked to be timed' };
  const model: Teacher = await openModel({ ...spec, kind: 'dual-encoder' }, await computeOn(config.train));
  const { embed } = model;
  const documents = drawn(ITEMS, 'timed documents', dataset.documents);
  try {
    if (!embed) return { why: 'it does not embed' };
    return await timed(documents.length, (from, count) =>
      embed(
        documents.slice(from, from + count).map((d) => dataset.documents.text(d)),
        'document',
      ),
    );
  } finally {
    await model.dispose();
  }
}

/** Seconds of a query and of a document of the student, as it is before training. */
export async function studentRates(config: Config, dataset: Dataset): Promise<{ query: Rate; document: Rate }> {
  const folder = startFolder(config.student);
  if (config.student.kind !== 'model' || !folder) {
    const why = 'the student is yet to be made';
    return { query: { why }, document: { why } };
  }
  const { pooling, normalize, prompts, queryTokens, documentTokens } = config.student;
  const session = await computeOn(config.train);
  const encoder = await Encoder.load(folder, { pooling, normalize, prompts, session, comparable: true });
  const queries = textsAt(dataset, drawn(ITEMS, 'timed queries', dataset.queries));
  const documents = drawn(ITEMS, 'timed documents', dataset.documents);
  try {
    return {
      query: await timed(queries.length, (from, length) =>
        encoder.encode({ length, text: (i) => queries.text(from + i) }, { maxLength: queryTokens, role: 'query' }),
      ),
      document: await timed(documents.length, (from, length) =>
        encoder.encode(
          { length, text: (i) => dataset.documents.text(documents[from + i]) },
          { maxLength: documentTokens, role: 'document' },
        ),
      ),
    };
  } finally {
    await encoder.dispose();
  }
}
