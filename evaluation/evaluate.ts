/** @file Metrics of a run as trec_eval computes them: scores as float32, ties by document id descending, linear gain. */
import type { Qrels } from '../data/dataset.ts';

/** What a system found for each query, in any order. */
export type Run = ReadonlyMap<string, { ids: readonly string[]; scores: ArrayLike<number> }>;

export interface RunEvaluation {
  /** Queries with at least one relevant document, in the order of the judgements. */
  queryIds: string[];
  /** One value a query, by metric. */
  perQuery: Record<string, Float64Array>;
  /** Mean over these queries; a query that the run lacks counts 0. */
  means: Record<string, number>;
}

/** @param metrics names such as `ndcg@10`, `mrr@10`, `recall@100` */
export function evaluateRun(run: Run, qrels: Qrels, metrics: readonly string[]): RunEvaluation {
  const judged = [...qrels].filter(([, grades]) => [...grades.values()].some((g) => g > 0));
  const perQuery = Object.fromEntries(metrics.map((m) => [m, new Float64Array(judged.length)]));
  for (const [i, [query, grades]] of judged.entries()) {
    const ranked = rank(run.get(query), query);
    for (const m of metrics) perQuery[m][i] = metric(m, ranked, grades);
  }
  const mean = (v: Float64Array): number => v.reduce((a, b) => a + b, 0) / Math.max(1, v.length);
  return {
    queryIds: judged.map(([q]) => q),
    perQuery,
    means: Object.fromEntries(metrics.map((m) => [m, mean(perQuery[m])])),
  };
}

function rank(found: { ids: readonly string[]; scores: ArrayLike<number> } | undefined, query: string): string[] {
  if (!found) return [];
  const order = found.ids.map((id, i) => ({ id, score: Math.fround(found.scores[i]) }));
  order.sort((a, b) => b.score - a.score || (a.id < b.id ? 1 : a.id > b.id ? -1 : 0));
  return order.map((o) => o.id).filter((id) => id !== query);
}

function metric(name: string, ranked: readonly string[], grades: ReadonlyMap<string, number>): number {
  const [kind, cut] = name.split('@');
  const k = Number(cut);
  const gain = (id: string): number => Math.max(0, grades.get(id) ?? 0);
  const relevant = [...grades.values()].filter((g) => g > 0);
  const top = ranked.slice(0, k);
  if (kind === 'recall') return top.filter((id) => gain(id) > 0).length / relevant.length;
  if (kind === 'mrr') {
    const at = top.findIndex((id) => gain(id) > 0);
    return at < 0 ? 0 : 1 / (at + 1);
  }
  if (kind !== 'ndcg') throw new Error(`no metric is called ${name}`);
  const discounted = (gains: readonly number[]): number =>
    gains.slice(0, k).reduce((s, g, i) => s + g / Math.log2(i + 2), 0);
  return discounted(top.map(gain)) / discounted(relevant.sort((a, b) => b - a));
}
