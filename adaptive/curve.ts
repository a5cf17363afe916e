/** @file Quality of a cascade on judged queries, and its full curve compared with random deferral and an oracle. */
import { bootstrapMean, type Interval, mean, quantile } from '../math/resampling.ts';
import type { ExitFacts } from './exits.ts';
import { leavingEarly } from './layers.ts';
import { needsOf, type Policy, stopAt } from './policy.ts';
import { type Calibrated, fullQuality, statesOf } from './quality.ts';

export interface CurvePoint {
  /** Documents per query that the teacher scored. */
  pairs: number;
  quality: number;
}

export interface CascadeFigures {
  queries: number;
  /** nDCG@10 of the cascade, of the student alone, of the teacher over the whole list. */
  quality: Interval;
  student: number;
  teacher: number;
  /** Quality of the cascade minus the teacher's, per query. */
  difference: Interval;
  /** Mean of max(0, teacher - cascade): the quantity that the guarantee bounds. */
  risk: number;
  /** Fraction of queries deferred to the teacher, and documents scored per query. */
  deferred: number;
  pairs: number;
  /** Layers of the teacher that a pair went through; absent where it has no exits. */
  layers?: number;
  /** The rule at every threshold, whole queries deferred at random, and by an oracle that knows each gain. */
  curve: CurvePoint[];
  random: CurvePoint[];
  oracle: CurvePoint[];
}

const POINTS = 41;

/** Figures of a policy on queries whose lists the teacher has scored whole. @param exits of the teacher, where it has some */
export function evaluateCascade(queries: readonly Calibrated[], policy: Policy, exits?: ExitFacts): CascadeFigures {
  const states = queries.map((given) => {
    const { query: q, work } = leavingEarly(given, policy.depths, exits, policy.exits ?? Number.POSITIVE_INFINITY);
    const { scored, features, quality } = statesOf(q, policy.depths, policy.fusion);
    return {
      scored,
      work,
      needs: needsOf(q, policy, features),
      quality,
      full: fullQuality(q),
    };
  });
  const at = (threshold: number) => states.map((s) => stopAt(s.needs, threshold));
  const point = (stops: readonly number[]): CurvePoint => ({
    pairs: mean(states.map((s, i) => s.scored[stops[i]])),
    quality: mean(states.map((s, i) => s.quality[stops[i]])),
  });
  const stops = at(policy.threshold);
  const served = states.map((s, i) => s.quality[stops[i]]);
  const seen = states.flatMap((s) => [...s.needs]);
  const thresholds = [
    Number.POSITIVE_INFINITY,
    ...Array.from({ length: POINTS - 2 }, (_, i) => quantile(seen, 1 - (i + 0.5) / (POINTS - 2))),
    Number.NEGATIVE_INFINITY,
  ];
  const last = states.map((s) => s.scored.length - 1);
  const [none, all] = [point(last.map(() => 0)), point(last)];
  const gains = states.map((s) => s.quality[s.quality.length - 1] - s.quality[0]);
  const byGain = Array.from(gains.keys()).sort((a, b) => gains[b] - gains[a]);
  const { pairs } = point(stops);
  const work = mean(states.map((s, i) => s.work[stops[i]]));
  return {
    queries: queries.length,
    quality: bootstrapMean(served),
    student: none.quality,
    teacher: mean(states.map((s) => s.full)),
    difference: bootstrapMean(served.map((v, i) => v - states[i].full)),
    risk: mean(served.map((v, i) => Math.max(0, states[i].full - v))),
    deferred: mean(stops.map((s) => Number(s > 0))),
    pairs,
    ...(exits && { layers: pairs > 0 ? (work / pairs) * exits.layers[exits.layers.length - 1] : 0 }),
    curve: thresholds.map((t) => point(at(t))),
    random: [none, all],
    oracle: Array.from({ length: POINTS }, (_, i) => {
      const chosen = new Set(byGain.slice(0, Math.round((i / (POINTS - 1)) * queries.length)));
      return point(last.map((l, q) => (chosen.has(q) ? l : 0)));
    }),
  };
}

/**
 * Area between a curve and random deferral, over that between the oracle's and random deferral: 0 is no better than random.
 * Both are evaluated at the same pairs per query.
 */
export function shareOfOracle({ curve, random, oracle }: CascadeFigures): number {
  const [none, all] = random;
  const above = (points: readonly CurvePoint[]): number => {
    const sorted = [...points].sort((a, b) => a.pairs - b.pairs);
    let sum = 0;
    for (let i = 1; i < sorted.length; i++) {
      const over = (p: CurvePoint): number =>
        p.quality - (none.quality + ((all.quality - none.quality) * (p.pairs - none.pairs)) / (all.pairs - none.pairs));
      sum += ((sorted[i].pairs - sorted[i - 1].pairs) * (over(sorted[i]) + over(sorted[i - 1]))) / 2;
    }
    return sum;
  };
  return above(curve) / above(oracle);
}
