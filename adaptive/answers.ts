/** @file When a new query may take the answer of an earlier one: a similarity with a certified mean loss. */
import { mean } from '../math/resampling.ts';
import { learnThenTest, type RiskOptions } from './calibration/learn-then-test.ts';

/** A query that arrived, with the most similar one whose answer is kept. */
export interface Arrival {
  /** Cosine of the two; -Infinity where none was found. */
  readonly similarity: number;
  /** What the query would lose by taking that answer, in [0, 1]. */
  readonly loss: number;
}

/** From no answer taken to many: cosines, fixed before any query is seen. Infinity: only of a query with the same text. */
export const SIMILARITIES: readonly number[] = [
  Number.POSITIVE_INFINITY,
  ...[0.999, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.91, 0.9, 0.88, 0.86, 0.84, 0.82, 0.8],
];

export interface AnswerPoint {
  threshold: number;
  /** Share of arrivals that take an earlier answer, and the mean loss over all arrivals and over these. */
  hits: number;
  risk: number;
  lossOfHits: number;
}

const lossesAt = (arrivals: readonly Arrival[], threshold: number): Float64Array =>
  Float64Array.from(arrivals, ({ similarity, loss }) => (similarity >= threshold ? loss : 0));

/** Hits and loss at every threshold. */
export const answerCurve = (arrivals: readonly Arrival[]): AnswerPoint[] =>
  SIMILARITIES.map((threshold) => {
    const hits = arrivals.filter((a) => a.similarity >= threshold);
    return {
      threshold,
      hits: arrivals.length ? hits.length / arrivals.length : 0,
      risk: mean(lossesAt(arrivals, threshold)),
      lossOfHits: hits.length ? mean(hits.map((a) => a.loss)) : 0,
    };
  });

/** The lowest similarity at which the mean loss over all arrivals is at most alpha with confidence 1 - delta. */
export function certifyAnswers(arrivals: readonly Arrival[], options: RiskOptions) {
  const curve = answerCurve(arrivals);
  const { at, needed } = learnThenTest(
    SIMILARITIES.map((threshold) => lossesAt(arrivals, threshold)),
    options,
  );
  const { threshold, hits, risk } = curve[Math.max(0, at)];
  const { alpha, delta } = options;
  return {
    curve,
    threshold,
    guarantee: { alpha, delta, queries: arrivals.length, needed, certified: at >= 0, risk, hits },
  };
}
