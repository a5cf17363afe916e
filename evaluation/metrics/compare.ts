/** @file Compares two systems over the same queries: retention, significance, and the queries where they differ. */

import { holm, type Interval, mean, type Resampling, retentions, signFlip } from '../../math/resampling.ts';
import { Best } from '../../retrieval/top-k.ts';
import type { RunEvaluation } from './evaluate.ts';

/** One metric of two systems. */
export interface MetricComparison {
  metric: string;
  a: number;
  b: number;
  /** mean(a) / mean(b) with its bootstrap interval. */
  retention: Interval;
  /** Mean of a - b. */
  difference: number;
  /** p-value of the paired sign-flip test of the difference, and after Holm's correction over the metrics compared. */
  p: number;
  pHolm: number;
  /** Queries where a is higher, equal, lower. */
  wins: number;
  ties: number;
  losses: number;
}

/**
 * Compares two evaluations of the same queries, metric by metric.
 * @throws RangeError if their queries differ
 */
export function compareEvaluations(
  a: RunEvaluation,
  b: RunEvaluation,
  metrics: readonly string[] = Object.keys(a.means).filter((m) => m in b.means),
  options: Resampling = {},
): MetricComparison[] {
  if (a.queryIds.length !== b.queryIds.length || a.queryIds.some((q, i) => q !== b.queryIds[i]))
    throw new RangeError('two evaluations are compared over the same queries in the same order');
  const kept = retentions(
    metrics.map((m) => [a.perQuery[m], b.perQuery[m]]),
    options,
  );
  const rows = metrics.map((metric, m) => {
    const [x, y] = [a.perQuery[metric], b.perQuery[metric]];
    const d = Float64Array.from(x, (v, i) => v - y[i]);
    const wins = d.filter((v) => v > 0).length;
    const losses = d.filter((v) => v < 0).length;
    return {
      metric,
      a: mean(x),
      b: mean(y),
      retention: kept[m],
      difference: mean(d),
      p: signFlip(d, options).p,
      wins,
      ties: d.length - wins - losses,
      losses,
    };
  });
  const adjusted = holm(rows.map((r) => r.p));
  return rows.map((r, i) => ({ ...r, pHolm: adjusted[i] }));
}

/** E.g. `keeps 97.4 % [96.1, 98.6] of the teacher's ndcg@10`. */
export function retentionSentence(c: MetricComparison, of: string): string {
  const percent = (x: number): string => (Number.isFinite(x) ? (100 * x).toFixed(1) : 'n/a');
  return `keeps ${percent(c.retention.value)} % [${percent(c.retention.low)}, ${percent(c.retention.high)}] of ${of} ${c.metric}`;
}

/** One query whose metric differs between two systems. */
export interface QueryDifference {
  queryId: string;
  a: number;
  b: number;
}

/** Queries sorted by a - b: those where a gains most and those where it loses most, without ties. */
export function largestDifferences(
  a: RunEvaluation,
  b: RunEvaluation,
  metric: string,
  count: number,
): { best: QueryDifference[]; worst: QueryDifference[] } {
  const [x, y] = [a.perQuery[metric], b.perQuery[metric]];
  const [best, worst] = [new Best(count), new Best(count)];
  for (let i = 0; i < x.length; i++) {
    if (x[i] > y[i]) best.offer(i, x[i] - y[i]);
    // Of equal losses the last query first: both lists are the ends of one sorted list.
    else if (x[i] < y[i]) worst.offer(x.length - 1 - i, y[i] - x[i]);
  }
  const difference = (i: number): QueryDifference => ({ queryId: a.queryIds[i], a: x[i], b: y[i] });
  return {
    best: Array.from(best.sorted().indices, difference),
    worst: Array.from(worst.sorted().indices, (i) => difference(x.length - 1 - i)),
  };
}
