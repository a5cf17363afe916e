/** @file Metrics of a run as trec_eval computes them: scores as float32, ties by document id descending, missing queries as 0. */
import { InputError } from '../../common/errors.ts';
import type { Dataset, Qrels } from '../../data/dataset.ts';
import { Column } from '../../data/table/columns.ts';
import { IdColumn } from '../../data/table/ids.ts';
import { defaultMetrics, parseMetric, type Ranked } from './metrics.ts';

/** A system's results for one query, in any order. */
export interface Found {
  readonly ids: readonly string[];
  readonly scores: ArrayLike<number>;
}

/** A system's results by query id. */
export type Run = ReadonlyMap<string, Found>;

/** Metrics of one run: values per query and their means. */
export interface RunEvaluation {
  /** Judged queries in the order of the judgements, including those that the run lacks. */
  queryIds: readonly string[];
  /** One value per query, by metric. */
  perQuery: Record<string, Float64Array>;
  /** Mean over these queries. */
  means: Record<string, number>;
}

/** Which queries count. */
export interface EvaluateRunOptions {
  /**
   * Queries that are averaged over: all with judgements, as in `trec_eval -c` (without a relevant document a query counts 0), or
   * only those with a relevant document.
   */
  queries?: 'judged' | 'relevant';
  /** Queries that are left out; none by default. */
  without?: (query: string) => boolean;
}

/**
 * Evaluates a run against judgements, exactly as trec_eval -c: nothing is dropped (BEIR's rule for identical ids is
 * `dropIdenticalIds`); if a document is listed twice, the higher score counts.
 *
 * @param metrics names such as `ndcg@10`, `mrr@10`, `recall@100`, `map`
 * @throws InputError for an unknown metric or a NaN score
 */
export function evaluateRun(
  run: Run,
  qrels: Qrels,
  metrics: readonly string[] = defaultMetrics,
  options: EvaluateRunOptions = {},
): RunEvaluation {
  const parsed = metrics.map(parseMetric);
  const queryIds = new IdColumn();
  const columns = metrics.map(() => new Column(Float64Array));
  for (const [query, grades] of qrels) {
    const ideal = [...grades.values()].filter((g) => g > 0);
    if ((options.queries === 'relevant' && !ideal.length) || options.without?.(query)) continue;
    queryIds.push(query);
    const found = run.get(query);
    const ranked: Ranked | undefined = found && {
      grades: rank(found, query).ids.map((id) => Math.max(0, grades.get(id) ?? 0)),
      ideal: ideal.sort((a, b) => b - a),
    };
    for (const [m, { value }] of parsed.entries()) columns[m].push(ranked ? value(ranked) : 0);
  }
  const perQuery = Object.fromEntries(metrics.map((m, i) => [m, columns[i].all]));
  const mean = (v: Float64Array): number => v.reduce((a, b) => a + b, 0) / Math.max(1, v.length);
  return {
    queryIds: queryIds.all,
    perQuery,
    means: Object.fromEntries(metrics.map((m) => [m, mean(perQuery[m])])),
  };
}

/**
 * A query's documents in trec_eval's order: float32 scores descending, equal ones by the bytes of their ids descending; a
 * document listed twice once, at its higher score.
 */
export function rank(found: Found, query = ''): { ids: string[]; scores: Float32Array } {
  const order = found.ids.map((id, i) => ({ id, score: Math.fround(found.scores[i]) + 0 }));
  const bad = order.find((o) => Number.isNaN(o.score));
  if (bad)
    throw new InputError({
      code: 'run.not-a-number',
      subject: `the score of document '${bad.id}' for query '${query}' is not a number`,
      remedy: 'find out why the model returned it; it cannot be ranked',
    });
  order.sort((a, b) => b.score - a.score || compareBytes(b.id, a.id));
  const seen = new Set<string>();
  const kept = order.filter(({ id }) => !seen.has(id) && seen.add(id));
  return { ids: kept.map((o) => o.id), scores: Float32Array.from(kept, (o) => o.score) };
}

/** Like C's strcmp over UTF-8; the order of UTF-16 differs beyond the basic plane. */
function compareBytes(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * BEIR's rule: a document with the query's own id is not a result and is dropped before any cutoff. It is meant for sets whose
 * queries are documents of the corpus (ArguAna, Quora).
 *
 * @param same whether the two are the same text; by default equal ids are enough, as in BEIR. Where queries and documents just
 * use the same numbers (Cranfield), comparing texts keeps the real answers.
 */
export function dropIdenticalIds(run: Run, same: (query: string) => boolean = () => true): Run {
  return changedRun(run, (found, query) => {
    const at = found.ids.indexOf(query);
    if (at < 0 || !same(query)) return found;
    const keep = found.ids.flatMap((id, i) => (id === query ? [] : [i]));
    return { ids: keep.map((i) => found.ids[i]), scores: Float64Array.from(keep, (i) => found.scores[i]) };
  });
}

/** A run whose results are made of another's when they are asked for, so that millions of queries are not held twice. */
export function changedRun(run: Run, change: (found: Found, query: string) => Found): Run {
  function* values(): MapIterator<Found> {
    for (const [query, found] of run) yield change(found, query);
    return undefined;
  }
  function* entries(): MapIterator<[string, Found]> {
    for (const [query, found] of run) yield [query, change(found, query)];
    return undefined;
  }
  const changed: Run = {
    size: run.size,
    has: (query) => run.has(query),
    get(query) {
      const found = run.get(query);
      return found && change(found, query);
    },
    forEach(each) {
      for (const [query, found] of entries()) each(found, query, changed);
    },
    keys: () => run.keys(),
    values,
    entries,
    [Symbol.iterator]: entries,
  };
  return changed;
}

/** The best `depth` documents of each query, in trec_eval's order. */
export const cutRun = (run: Run, depth: number): Run =>
  changedRun(run, (found, query) => {
    const { ids, scores } = rank(found, query);
    return { ids: ids.slice(0, depth), scores: scores.subarray(0, depth) };
  });

/**
 * Whether the document with a query's id is that query: its text equals the query's, possibly after a title. For
 * `dropIdenticalIds`.
 */
export function isQueryItself(dataset: Pick<Dataset, 'queries' | 'documents'>): (query: string) => boolean {
  const plain = (text: string): string => text.replace(/\s+/g, ' ').trim().toLowerCase();
  return (id) => {
    const [q, d] = [dataset.queries.indexOf(id), dataset.documents.indexOf(id)];
    return (
      q !== undefined && d !== undefined && plain(dataset.documents.text(d)).endsWith(plain(dataset.queries.text(q)))
    );
  };
}
