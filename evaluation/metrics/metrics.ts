/** @file The table of metrics, as trec_eval computes them: linear gain, all judged documents in the ideal ranking. */
import { InputError, nearest } from '../../common/errors.ts';

/** Input of a metric for one query. */
export interface Ranked {
  /** Grades of the retrieved documents, best first; 0 if not judged or negative. */
  grades: readonly number[];
  /** Positive grades of all judged documents of the query, highest first. */
  ideal: readonly number[];
}

/** A metric: one value per query. `k` is Infinity where the name has no cutoff. */
export interface MetricDefinition {
  /** The metric of one query. @param k the cutoff; Infinity without one @returns from 0 to 1 */
  value(ranked: Ranked, k: number): number;
  /** Whether the name needs a cutoff, as in `precision@10`. */
  needsCut?: boolean;
  /** Formula in words, for docs and help. */
  formula: string;
  /** Its name in trec_eval; absent if trec_eval lacks it. */
  trecEval?: string;
}

const sum = (n: number, term: (i: number) => number): number => {
  let s = 0;
  for (let i = 0; i < n; i++) s += term(i);
  return s;
};
const dcg = (grades: readonly number[], k: number, gain: (grade: number) => number): number =>
  sum(Math.min(k, grades.length), (i) => gain(grades[i]) / Math.log2(i + 2));
const over = (a: number, b: number): number => (b > 0 ? a / b : 0);
const hits = ({ grades }: Ranked, k: number): number => sum(Math.min(k, grades.length), (i) => Number(grades[i] > 0));
const linear = (grade: number): number => grade;
const exponential = (grade: number): number => 2 ** grade - 1;

function averagePrecision({ grades, ideal }: Ranked, k: number): number {
  let found = 0;
  const total = sum(Math.min(k, grades.length), (i) => (grades[i] > 0 ? ++found / (i + 1) : 0));
  return over(total, ideal.length);
}

function reciprocalRank({ grades }: Ranked, k: number): number {
  const at = grades.findIndex((g) => g > 0);
  return at >= 0 && at < k ? 1 / (at + 1) : 0;
}

/** Every metric by its name before the `@`, alphabetical. */
export const metrics = {
  map: {
    value: averagePrecision,
    formula: 'sum over relevant documents found in the first k of the precision at their rank, over all relevant',
    trecEval: 'map, map_cut',
  },
  mrr: {
    value: reciprocalRank,
    formula: '1 / rank of the first relevant document in the first k',
    trecEval: 'recip_rank',
  },
  ndcg: {
    value: (r, k) => over(dcg(r.grades, k, linear), dcg(r.ideal, k, linear)),
    formula: 'DCG / ideal DCG, DCG = sum of grade / log2(rank + 1) over the first k (Järvelin and Kekäläinen 2002)',
    trecEval: 'ndcg, ndcg_cut',
  },
  'ndcg-exp': {
    value: (r, k) => over(dcg(r.grades, k, exponential), dcg(r.ideal, k, exponential)),
    formula: 'like ndcg, with the gain 2^grade - 1 (Burges et al. 2005)',
  },
  precision: {
    value: (r, k) => hits(r, k) / k,
    needsCut: true,
    formula: 'relevant documents in the first k / k',
    trecEval: 'P',
  },
  'r-cap': {
    value: (r, k) => over(hits(r, k), Math.min(k, r.ideal.length)),
    formula: 'relevant documents in the first k / min(k, all relevant) (BEIR)',
  },
  'r-precision': {
    value: (r) => over(hits(r, r.ideal.length), r.ideal.length),
    formula: 'precision at as many documents as are relevant',
    trecEval: 'Rprec',
  },
  recall: {
    value: (r, k) => over(hits(r, k), r.ideal.length),
    formula: 'relevant documents in the first k / all relevant',
    trecEval: 'recall',
  },
  success: {
    value: (r, k) => Number(hits(r, k) > 0),
    formula: '1 where the first k hold a relevant document, else 0',
    trecEval: 'success',
  },
} satisfies Record<string, MetricDefinition>;

/** Names of metrics before the `@`. */
export type MetricKind = keyof typeof metrics;

/** The default metrics. */
export const defaultMetrics: readonly string[] = ['ndcg@10', 'mrr@10', 'recall@10', 'recall@100', 'map', 'success@10'];

/**
 * The metric for a name such as `ndcg@10` or `map`.
 * @throws InputError for an unknown name, with the nearest known one
 */
export function parseMetric(name: string): { name: string; k: number; value(ranked: Ranked): number } {
  const [, kind, cut] = /^([a-z-]+)(?:@(\d+))?$/.exec(name) ?? [];
  const known = Object.keys(metrics);
  const near = nearest(name.split('@')[0], known);
  if (!kind || !Object.hasOwn(metrics, kind))
    throw new InputError({
      code: 'metric.unknown',
      subject: `no metric is called '${name}'`,
      expected: `one of ${known.join(', ')}, most with a cutoff as in ndcg@10`,
      remedy: near ? `did you mean '${near}${name.includes('@') ? `@${name.split('@')[1]}` : ''}'?` : undefined,
    });
  const definition: MetricDefinition = metrics[kind as MetricKind];
  const k = cut === undefined ? Number.POSITIVE_INFINITY : Number(cut);
  if (k === 0 || (definition.needsCut && cut === undefined))
    throw new InputError({
      code: 'metric.cut',
      subject: `the metric '${name}' needs a cutoff of at least 1`,
      expected: `a name such as ${kind}@10`,
      remedy: 'add it',
    });
  return { name, k, value: (ranked) => definition.value(ranked, k) };
}
