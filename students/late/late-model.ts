/** @file A trained scorer of late interaction: projections, the scorer's weights, and the weight of the cosine. */
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { Rows } from '../../math/numbers.ts';
import { type LateScorerName, lateScorers } from './members.ts';
import { principalStart, projected } from './projection.ts';
import type { LateScorer, LateSizes, LateWeights } from './scorer.ts';

/** Names of weights in training and in files; a scorer's own follow `scorer.`. */
export const LATE = {
  /** [width, dimensions] of queries and documents alike, or of documents where queries have their own. */
  projection: 'projection',
  queryProjection: 'projection.queries',
  /** [1] the weight of the cosine of the whole texts' vectors. */
  residual: 'residual',
  scorer: (name: string): string => `scorer.${name}`,
} as const;

/** What a scorer of late interaction is. */
export interface LateSettings extends LateSizes {
  scorer: LateScorerName;
}

/** A scorer with its weights, for one pair at a time. */
export interface LateModel {
  readonly settings: LateSettings;
  readonly weights: LateWeights;
  /** Token vectors of a query from the states of its encoder: [n, dimensions] at unit length. */
  query(states: Rows): Rows;
  /** The same of a document. */
  document(states: Rows): Rows;
  /**
   * The score of a pair. @param query token vectors @param document token vectors @param cosine product of the whole texts' vectors
   */
  score(query: Rows, document: Rows, cosine: number): number;
}

/** @param weights by their names in `LATE` */
export function lateModel(settings: LateSettings, weights: LateWeights): LateModel {
  const scorer: LateScorer = lateScorers[settings.scorer];
  const map = weights.get(LATE.projection) as Tensor<'float32'>;
  const queryMap = weights.get(LATE.queryProjection) ?? map;
  const own = new Map(
    [...weights].flatMap(([name, t]) =>
      name.startsWith('scorer.') ? [[name.slice('scorer.'.length), t] as const] : [],
    ),
  );
  const residual = weights.get(LATE.residual)?.data[0] ?? 0;
  const cut = ({ dimensions, data }: Rows, tokens: number): Rows => ({
    dimensions,
    data: (data as Float32Array).subarray(0, tokens * dimensions),
  });
  return {
    settings,
    weights,
    query: (states) => projected(cut(states, settings.queryTokens), queryMap),
    document: (states) => projected(cut(states, settings.documentTokens), map),
    score: (query, document, cosine) => scorer.score(query, document, own) + residual * cosine,
  };
}

/**
 * Weights before training: the principal components of the states, the cosine at weight 1, the scorer's own start.
 * @param samples states of documents, and of queries where their encoder is another one
 */
export function lateStart(
  settings: LateSettings,
  samples: { documents: Rows; queries?: Rows },
  { residual = true, seed = 0 }: { residual?: boolean; seed?: number } = {},
): LateWeights {
  const scorer: LateScorer = lateScorers[settings.scorer];
  const { dimensions } = settings;
  return new Map<string, Tensor<'float32'>>([
    [LATE.projection, principalStart(samples.documents, dimensions)],
    ...(samples.queries ? [[LATE.queryProjection, principalStart(samples.queries, dimensions)] as const] : []),
    ...(residual ? [[LATE.residual, { dtype: 'float32', dims: [1], data: Float32Array.of(1) }] as const] : []),
    ...Array.from(scorer.start(settings, seed), ([name, t]) => [LATE.scorer(name), t] as const),
  ]);
}
