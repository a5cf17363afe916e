/** @file Queries that a language model writes of documents, judged with their documents, and filtered by the teacher's scores. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type CandidateLists, listsAt } from '../../data/lists.ts';
import { chatQueries } from '../../generation/chat.ts';
import { withQueries } from '../../generation/spans.ts';
import { askedDocuments } from '../../run/asked-documents.ts';
import { defineStage } from '../../run/stages/stage.ts';
import { defaultCache } from '../../teachers/cache/score-cache.ts';

export interface WrittenQueries {
  texts: string[];
  /** The position of the document that each was written of. */
  documents: number[];
}

/** Kept with the run: a second one must not ask further documents under the same budget. */
const FILE = join('stages', 'written-queries.json');

export const writtenQueries = defineStage({
  name: 'written queries',
  options: ['generate', 'seed'],
  unrecorded: ['cache', 'data'],
  async make({ generate, seed, cache, data: options }, { data }: { data: Dataset }, { note, time, watch }) {
    const { url, model } = generate ?? {};
    if (!generate || !url || !model) return { texts: [], documents: [] };
    const { documents } = data;
    const { documents: asked, examples } = askedDocuments(generate, { seed, data: options }, data);
    const found = await time('generate', () =>
      chatQueries(
        { length: asked.length, text: (i) => documents.text(asked[i]) },
        {
          ...watch,
          url,
          model,
          each: generate.each,
          prompt: generate.prompt,
          temperature: generate.temperature,
          budget: generate.budget,
          concurrency: generate.concurrency,
          examples: examples.map((q) => data.queries.text(q)),
          cache: join(cache ?? defaultCache(), 'written-queries.jsonl'),
        },
      ),
    );
    for (const text of found.notes) note(text);
    note(
      `${found.queries.length} queries of ${found.documents} documents were written by ${model}: ${found.calls} calls, ${found.tokens} tokens, ${found.cached} replies known before`,
    );
    return {
      texts: found.queries.map((q) => q.text),
      documents: found.queries.map((q) => asked[q.document]),
    };
  },
  keep: {
    alone: true,
    async save(written: WrittenQueries, _, { path }) {
      await writeWhole(path(FILE), JSON.stringify(written));
      return [FILE];
    },
    load: async (_, { path }): Promise<WrittenQueries> => JSON.parse(await readFile(path(FILE), 'utf8')),
  },
});

/** The data set with the written queries behind its own, each judged with its document in the training split. */
export function withWritten(dataset: Dataset, { texts, documents }: WrittenQueries, train: string): Dataset {
  if (!texts.length) return dataset;
  const more = withQueries(dataset, texts);
  const first = dataset.queries.length;
  const positions = new Map(texts.map((_, i) => [more.queries.ids[first + i], first + i]));
  const own = [...dataset.qrels(train)];
  const written = documents.map(
    (d, i) => [more.queries.ids[first + i], new Map([[dataset.documents.ids[d], 1]])] as const,
  );
  // Where a limit leaves queries out, asked ones stay before written ones, and written ones before those made of spans.
  const judged = new Map(dataset.made ? [...written, ...own] : [...own, ...written]);
  return {
    ...more,
    queries: { ...more.queries, indexOf: (id) => dataset.queries.indexOf(id) ?? positions.get(id) },
    qrels: (split) => (split === train ? judged : dataset.qrels(split)),
  };
}

/**
 * Which lists stay: those of asked queries, and of written ones those whose document is among the teacher's best.
 * @param first position of the first written query
 * @param best how many of the candidates count as best
 */
export function keptLists(lists: CandidateLists, written: WrittenQueries, first: number, best: number): number[] {
  return Array.from(lists.queries.keys()).filter((i) => {
    const source = written.documents[lists.queries[i] - first];
    if (source === undefined) return true;
    const [from, to] = [lists.offsets[i], lists.offsets[i + 1]];
    const at = lists.documents.subarray(from, to).indexOf(source);
    if (at < 0) return false;
    const own = lists.scores[from + at];
    let above = 0;
    for (let k = from; k < to; k++) above += Number(lists.scores[k] > own);
    return above < best;
  });
}

/** The lists that stay, and what a factor each has where a budget chose them. */
export function filterWritten(
  scored: CandidateLists,
  weights: Float32Array | undefined,
  written: WrittenQueries,
  first: number,
  best: number,
): { scored: CandidateLists; weights?: Float32Array; leftOut: number } {
  const kept = keptLists(scored, written, first, best);
  return {
    scored: listsAt(scored, kept),
    weights: weights && Float32Array.from(kept, (i) => weights[i]),
    leftOut: scored.queries.length - kept.length,
  };
}
