/** @file Measures a system: embeds a split, searches it exactly, and gives the run and its metrics. */
import { InputError } from '../../common/errors.ts';
import type { RunControl } from '../../common/progress.ts';
import { type Dataset, judgedQueries, type Texts, textsAt } from '../../data/dataset.ts';
import { Column } from '../../data/table/columns.ts';
import { listOnDemand } from '../../data/table/ids.ts';
import type { Random } from '../../math/random.ts';
import type { Encoder } from '../../models/encoder.ts';
import { cutTo, search } from '../../retrieval/exact-search.ts';
import type { Embeddings, Pair, Teacher } from '../../teachers/teacher.ts';
import { evaluateRun, type Run } from '../metrics/evaluate.ts';
import { lazyRun, runOnDemand } from '../metrics/run-on-demand.ts';

export type Embed = (texts: Texts, watch: RunControl) => Promise<Embeddings>;

/** The measured system: anything that embeds queries, over documents that it embeds or whose embeddings are given. */
export interface Searcher {
  queries: Embed;
  /** A table of all documents of the data set; if it is wider than the queries, its prefix is searched. */
  documents: Embed | Embeddings;
}

/** The data set. */
export interface Split {
  dataset: Dataset;
  /** Judgements, whose queries are searched. */
  split: string;
  /** Documents found for each query. */
  depth: number;
  /** A part of both, by position; all judged queries and all documents by default. */
  sample?: Sample;
}

export interface Sample {
  queries: readonly number[];
  documents: Int32Array;
}

/** Embeddings of queries [n, dimensions] and documents [m, dimensions], row-major. */
export interface Vectors {
  /** Positions of the queries, and of the documents if they are a sample. */
  positions: readonly number[];
  sample?: Int32Array;
  dimensions: number;
  queries: Float32Array;
  documents: Float32Array;
}

/**
 * @param limits truncation of texts; that of the model's folder by default
 * @param documents the table that is searched, if the encoder embeds queries only
 */
export function encoderSearcher(
  encoder: Pick<Encoder, 'dimensions' | 'encode'>,
  limits: { queryTokens?: number; documentTokens?: number },
  documents?: Searcher['documents'],
): Searcher {
  const { dimensions } = encoder;
  const side =
    (role: 'query' | 'document', stage: string, maxLength: number | undefined): Embed =>
    async (texts, watch) => ({ dimensions, data: await encoder.encode(texts, { ...watch, maxLength, role, stage }) });
  return {
    queries: side('query', 'encode queries', limits.queryTokens),
    documents: documents ?? side('document', 'encode documents', limits.documentTokens),
  };
}

/** @param documents the teacher's embeddings of all documents, where they are known */
export const teacherSearcher = (embed: NonNullable<Teacher['embed']>, documents?: Embeddings): Searcher => ({
  queries: (texts, watch) => embed(texts, 'query', watch),
  documents: documents ?? ((texts, watch) => embed(texts, 'document', watch)),
});

/** The best documents for each query by exact search. @throws InputError where documents are narrower than queries */
export async function retrieve(
  searcher: Searcher,
  { dataset, split, depth, sample }: Split,
  watch: RunControl,
): Promise<{ run: Run; vectors: Vectors }> {
  const positions = sample?.queries ?? judgedQueries(dataset, split);
  const queries = await searcher.queries(textsAt(dataset, positions), watch);
  const { dimensions } = queries;
  const documents =
    typeof searcher.documents === 'function'
      ? await searcher.documents(documentsAt(dataset, sample?.documents), watch)
      : rowsAt(searcher.documents, sample?.documents);
  if (documents.dimensions < dimensions)
    throw new InputError({
      code: 'evaluate.dimensions',
      subject: `the documents that are searched have ${documents.dimensions} dimensions`,
      expected: `at least ${dimensions}, as the queries`,
      remedy: 'search the documents of the dual-encoder that the student was trained on (--documents)',
    });
  const vectors: Vectors = {
    positions,
    sample: sample?.documents,
    dimensions,
    queries: queries.data,
    documents: cutTo(dimensions, documents),
  };
  return { run: await searchVectors(vectors, dataset, depth, watch), vectors };
}

const documentsAt = ({ documents }: Dataset, at?: Int32Array): Texts =>
  at ? { length: at.length, text: (i) => documents.text(at[i]) } : documents;

function rowsAt({ dimensions, data }: Embeddings, at?: Int32Array): Embeddings {
  if (!at) return { dimensions, data };
  const rows = new Float32Array(at.length * dimensions);
  for (const [i, row] of at.entries())
    rows.set(data.subarray(row * dimensions, (row + 1) * dimensions), i * dimensions);
  return { dimensions, data: rows };
}

/**
 * The run of given vectors, without documents that are the query itself.
 * @param width number of leading dimensions used; all by default
 */
export async function searchVectors(
  vectors: Vectors,
  dataset: Dataset,
  depth: number,
  watch: RunControl,
  width = vectors.dimensions,
): Promise<Run> {
  const { positions, sample, dimensions } = vectors;
  const [q, d] = [vectors.queries, vectors.documents].map((data) => cutTo(width, { dimensions, data }));
  // One more than is kept, since the query itself may be among them.
  return runOnDemand(await search(q, d, width, depth + 1, watch), positions, dataset, depth, sample);
}

/**
 * Samples judged queries and documents of a split: the relevant documents of these queries, and random others.
 * @param documents total number, as a function of the number of relevant ones
 * @param first documents that are taken before random ones, best first
 * @param queries number of judged queries; all by default, without sampling
 */
export function drawSample(
  dataset: Dataset,
  split: string,
  random: Random,
  documents: (relevant: number) => number,
  queries = Number.POSITIVE_INFINITY,
  first: Iterable<number> = [],
): Sample {
  const judged = judgedQueries(dataset, split);
  const some = queries === Number.POSITIVE_INFINITY ? judged : random.shuffle(judged).slice(0, queries);
  const chosen = new Set<number>();
  for (const q of some)
    for (const [id, grade] of dataset.qrels(split).get(dataset.queries.ids[q]) ?? []) {
      const at = dataset.documents.indexOf(id);
      if (grade > 0 && at !== undefined) chosen.add(at);
    }
  const total = documents(chosen.size);
  for (const d of first) {
    if (chosen.size >= total) break;
    chosen.add(d);
  }
  for (const d of random.shuffle(Int32Array.from({ length: dataset.documents.length }, (_, i) => i))) {
    if (chosen.size >= total) break;
    chosen.add(d);
  }
  return { queries: some, documents: Int32Array.from(chosen) };
}

/** The same candidates in a teacher's order, without those that have no finite score. */
export async function rerank(
  dataset: Dataset,
  run: Run,
  teacher: Pick<Teacher, 'score'>,
  watch: RunControl,
): Promise<Run> {
  const { queries, documents } = dataset;
  const positionIn = (table: Dataset['queries'], id: string): number => {
    const position = table.indexOf(id);
    if (position === undefined) throw new Error(`the data has no text '${id}'`);
    return position;
  };
  // 8 bytes a pair; the texts of a pair are read when the teacher asks for it.
  const [asked, found, places, ends] = Array.from({ length: 4 }, () => new Column(Int32Array));
  for (const [queryId, { ids }] of run) {
    for (const id of ids) {
      found.push(positionIn(documents, id));
      places.push(asked.length);
    }
    asked.push(positionIn(queries, queryId));
    ends.push(found.length);
  }
  const pairs = listOnDemand(found.length, (at): Pair => {
    const [q, d] = [asked.at(places.at(at)), found.at(at)];
    return {
      queryId: queries.ids[q],
      documentId: documents.ids[d],
      query: queries.text(q),
      document: documents.text(d),
    };
  });
  const scores = await teacher.score(pairs, watch);
  return lazyRun(queries, asked.all, (place) => {
    const known: number[] = [];
    for (let at = place ? ends.at(place - 1) : 0; at < ends.at(place); at++)
      if (Number.isFinite(scores[at])) known.push(at);
    return {
      ids: known.map((at) => documents.ids[found.at(at)]),
      scores: Float32Array.from(known, (at) => scores[at]),
    };
  });
}

/** Means of the metrics over the judged queries of a split. */
export const means = (run: Run, dataset: Dataset, split: string, metrics: readonly string[]): Record<string, number> =>
  evaluateRun(run, dataset.qrels(split), metrics).means;

/** The metric used to choose weights and files. */
export const CHOICE_METRIC = 'ndcg@10';

/** Its mean over the queries of the run. */
export function choiceScore(run: Run, dataset: Dataset, split: string): number {
  const without = (query: string): boolean => !run.has(query);
  return evaluateRun(run, dataset.qrels(split), [CHOICE_METRIC], { without }).means[CHOICE_METRIC];
}

/**
 * The mean of a metric for each prefix width, in the order of the widths. @param whole the run of all dimensions
 */
export async function byPrefix(
  { run: whole, vectors }: { run: Run; vectors: Vectors },
  widths: readonly number[],
  { dataset, split, depth }: Split,
  metric: string,
  watch: RunControl,
): Promise<{ dimensions: number; value: number }[]> {
  const rows: { dimensions: number; value: number }[] = [];
  for (const dimensions of widths) {
    const run =
      dimensions < vectors.dimensions ? await searchVectors(vectors, dataset, depth, watch, dimensions) : whole;
    rows.push({ dimensions, value: means(run, dataset, split, [metric])[metric] });
  }
  return rows;
}
