/** @file Fits the weight of the lexical channel on judged queries that were not used for training. */
import { bootstrapMean, type Interval, mean } from '../math/resampling.ts';
import { best, type ChannelScores, fuse, type HybridWeight, reciprocalRankFusion } from '../retrieval/hybrid.ts';
import { evaluateRun, type Found } from './metrics/evaluate.ts';

export interface HybridFit extends HybridWeight {
  /** Mean of the metric with the weight minus the mean without, on the fitting queries, with a bootstrap interval. */
  gain: Interval;
  /** Means of the metric on the fitting queries: dense alone, the fitted weight, reciprocal-rank fusion. */
  dense: number;
  fused: number;
  rrf: number;
  /** Mean of the metric by weight. */
  curve: { lambda: number; value: number }[];
  /** Fitting queries. */
  queries: number;
  /** The weight was given, not fitted. */
  fixed?: true;
}

/** Grid of weights. On six data sets trained students used 0 to 0.3, encoders before distillation 0.05 to 0.6. */
const LAMBDAS = [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2];
/**
 * The weight where no real query can be fitted to: the middle of what trained students had on five sets (0.15 to 0.3). Generated
 * queries repeat the words of their documents, and ask for ten times as much.
 */
export const USUAL_LAMBDA = 0.2;
/** Documents per query that the metric considers. */
const DEPTH = 100;

/**
 * Chooses the weight with the best mean of a metric. The weight is 0 if no positive weight is better.
 * @param lists both channels' scores, one list per query, in the order of `queryIds`
 * @param documentId the id of a position
 * @param given a weight that is not fitted; the figures are then of it
 */
export function fitHybrid(
  lists: readonly ChannelScores[],
  queryIds: readonly string[],
  documentId: (position: number) => string,
  qrels: ReadonlyMap<string, ReadonlyMap<string, number>>,
  metric = 'ndcg@10',
  given?: number,
): HybridFit {
  const scale = mean(lists.map((l) => l.lexical.reduce((a, b) => Math.max(a, b), 0))) || 1;
  const judged = new Map(queryIds.map((id) => [id, qrels.get(id) ?? new Map<string, number>()]));
  const evaluate = (score: (list: ChannelScores) => Float32Array): Float64Array => {
    const run = new Map<string, Found>();
    for (const [i, list] of lists.entries()) {
      const scores = score(list);
      const top = best(list, scores, DEPTH);
      run.set(queryIds[i], {
        ids: top.map((at) => documentId(list.documents[at])),
        scores: top.map((at) => scores[at]),
      });
    }
    return evaluateRun(run, judged, [metric]).perQuery[metric];
  };
  const lambdas = given === undefined || LAMBDAS.includes(given) ? LAMBDAS : [...LAMBDAS, given];
  const byLambda = lambdas.map((lambda) => evaluate((list) => fuse(list, { lambda, scale })));
  const means = byLambda.map(mean);
  const highest = means.indexOf(means.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY));
  const chosen = given === undefined ? highest : lambdas.indexOf(given);
  const gain = bootstrapMean(byLambda[chosen].map((v, i) => v - byLambda[0][i]));
  return {
    lambda: lambdas[chosen],
    scale,
    gain,
    dense: means[0],
    fused: means[chosen],
    rrf: mean(evaluate((list) => reciprocalRankFusion(list))),
    curve: LAMBDAS.map((lambda, i) => ({ lambda, value: means[i] })),
    queries: queryIds.length,
    ...(given !== undefined && { fixed: true as const }),
  };
}
