/** @file The order of arrival of a stream: examples sorted by their place in the file, by a field of the queries, or by topic. */
import { InputError } from '../../common/errors.ts';
import { type Dataset, textsAt } from '../../data/dataset.ts';
import type { RunContext } from '../../run/context.ts';
import { defineStage, type Result } from '../../run/stages/stage.ts';
import { kMeans } from '../../selection/index.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { embed } from '../../teachers/teacher.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { examplesAt } from '../../training/batches/examples.ts';

/** The examples in the order of arrival, where training takes them as a stream. */
export async function inOrderOfArrival(
  run: RunContext,
  data: Result<Dataset>,
  examples: Result<Examples>,
): Promise<Result<Examples>> {
  const { order, stream } = run.config.train;
  if (order !== 'stream') return examples;
  const topics = typeof stream?.by === 'object';
  return run.stage(arrival, { data, examples, embedder: topics ? run.embedder : undefined });
}

const arrival = defineStage({
  name: 'order of arrival',
  options: ['train.stream', 'seed'],
  async make(
    { train: { stream }, seed },
    { data, examples, embedder }: { data: Dataset; examples: Examples; embedder?: OpenedTeacher },
    { time, note, watch },
  ): Promise<Examples> {
    const { queries } = examples;
    const by = stream?.by;
    if (typeof by === 'object') {
      const texts = textsAt(data, Array.from(queries));
      const rows = await time('embed', () => embed(embedder?.teacher)(texts, 'query', watch));
      const clusters = Math.min(by.topics, queries.length);
      const { assignment } = await time('cluster', () => kMeans(rows, { clusters, seed }));
      note(`the stream: ${queries.length} examples, one topic after another (${clusters} topics)`);
      return examplesAt(
        examples,
        sorted(queries, (i) => assignment[i]),
      );
    }
    if (data.queries.unordered)
      throw new InputError({
        code: 'train.stream-unordered',
        subject:
          "'train.order: stream' follows the order of the queries, and those of files of rows are not kept in it",
        remedy: "use a BEIR folder with the queries in order in queries.jsonl, or 'train.stream.by.topics'",
      });
    if (by === undefined) {
      note(`the stream: ${queries.length} examples in the order of the file of queries`);
      return examplesAt(
        examples,
        sorted(queries, () => 0),
      );
    }
    const { keys, how } = sortKeys(
      Array.from(queries, (q) => fieldOf(data, q, by)),
      by,
      data,
    );
    note(`the stream: ${queries.length} examples by the field '${by}' (${how}), equal ones in the order of the file`);
    return examplesAt(
      examples,
      sorted(queries, (i) => keys[i]),
    );
  },
});

/** Positions of examples by a key, equal ones by their place in the file of queries. */
function sorted(queries: Int32Array, key: (i: number) => number): Int32Array {
  return Int32Array.from(queries.keys()).sort((a, b) => key(a) - key(b) || queries[a] - queries[b]);
}

function fieldOf({ queries }: Dataset, query: number, field: string): unknown {
  const all = queries.metadata?.(query) as Record<string, unknown> | undefined;
  return all?.[field] ?? undefined;
}

const ISO = /^\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?$/;
/** Day and month, or month and day: which of them is first cannot be seen. */
const AMBIGUOUS = /^\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}/;

/**
 * A number for each value, in its order: numbers by size, dates in ISO form by time, other texts by the order of their first
 * occurrence, so that those of one topic follow each other.
 * @throws InputError for missing values, values of several types, and dates of an unknown order
 */
export function sortKeys(
  values: readonly unknown[],
  field: string,
  { queries, name }: Pick<Dataset, 'queries' | 'name'>,
): { keys: Float64Array; how: string } {
  const bad = (subject: string, remedy: string): InputError =>
    new InputError({ code: 'train.stream-field', subject, remedy });
  const absent = values.filter((v) => v === undefined).length;
  if (absent)
    throw bad(
      `${absent} of the ${values.length} training queries of ${name} have no field '${field}', by which the stream is ordered`,
      queries.metadata
        ? 'add it to each line of queries.jsonl, or name another field'
        : 'add it to each line of queries.jsonl of a BEIR folder: fields of other data are not read',
    );
  if (values.every((v) => typeof v === 'number'))
    return { keys: Float64Array.from(values as number[]), how: 'numbers' };
  if (!values.every((v) => typeof v === 'string'))
    throw bad(
      `the field '${field}' of the training queries of ${name} holds values of several types`,
      'write numbers alone, dates such as 2024-03-31, or names of topics',
    );
  const texts = values as string[];
  const dates = texts.filter((t) => ISO.test(t)).length;
  if (dates === texts.length) {
    const keys = Float64Array.from(texts, (t) => Date.parse(utc(t)));
    const wrong = keys.findIndex(Number.isNaN);
    if (wrong >= 0) throw bad(`the field '${field}' holds '${texts[wrong]}', which is no date`, 'correct it');
    return { keys, how: 'dates' };
  }
  const odd = texts.find((t) => AMBIGUOUS.test(t)) ?? (dates ? texts.find((t) => !ISO.test(t)) : undefined);
  if (odd !== undefined)
    throw bad(
      `the field '${field}' holds '${odd}', a date whose order is not known`,
      'write all dates as 2024-03-31 or 2024-03-31T12:00:00Z',
    );
  const topics = new Map<string, number>();
  for (const t of texts) if (!topics.has(t)) topics.set(t, topics.size);
  return {
    keys: Float64Array.from(texts, (t) => topics.get(t) as number),
    how: `${topics.size} topics in the order of their first occurrence`,
  };
}

/** A date without a time zone is in UTC: the order must not depend on the machine. */
function utc(text: string): string {
  const iso = text.replace(' ', 'T');
  return iso.includes('T') && !/(Z|[+-]\d{2}:?\d{2})$/.test(iso) ? `${iso}Z` : iso;
}
