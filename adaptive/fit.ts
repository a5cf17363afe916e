/** @file Fits a cascade: fusion and rule on one half of the queries, the threshold with a guarantee on the other. */
import { InputError } from '../common/errors.ts';
import { mean, quantile } from '../math/resampling.ts';
import { learnThenTest, type RiskOptions } from './calibration/learn-then-test.ts';
import { EXIT_THRESHOLDS, type ExitFacts } from './exits.ts';
import { leavingEarly } from './layers.ts';
import { needsOf, type Policy, stopAt } from './policy.ts';
import { type Calibrated, fullQuality, joinedQuality, statesOf } from './quality.ts';
import { type RuleName, rules } from './rules/index.ts';
import { FEATURES, type Fusion } from './rules/states.ts';

export { type Calibrated, fullQuality, qualityOf } from './quality.ts';

export interface FitOptions extends RiskOptions {
  depths?: readonly number[];
  /** `auto` takes the rule whose curve of quality against pairs is the highest, cross-fitted. */
  rule?: RuleName | 'auto';
  /** `auto` takes the weight of the student's score with the best quality over whole lists, of those that leave risk to spend. */
  fusion?: Fusion | 'auto';
  /** The exits of the teacher that `atExits` of the queries are of: then the policy may leave layers out too. */
  exits?: ExitFacts;
  /** Clipped: a query that the cascade serves better than the teacher counts 0. Signed: it makes up for others. */
  loss?: 'clipped' | 'signed';
}

export interface Guarantee {
  alpha: number;
  delta: number;
  bound: string;
  loss: 'clipped' | 'signed';
  /** The reference of the loss. */
  against: 'labels' | "the teacher's order";
  /** Queries that the threshold was certified on, and the fewest that can certify anything. */
  queries: number;
  needed: number;
  /** False: nothing could be certified, and the policy asks the teacher about everything. */
  certified: boolean;
  /** Mean loss and documents scored a query on these queries. */
  risk: number;
  pairs: number;
  /** Layers of the teacher that a pair went through, where the teacher has exits. */
  layers?: number;
}

export interface FittedCascade {
  policy: Policy;
  guarantee: Guarantee;
  /** Needs of the calibration queries before deferral, ascending: the reference for drift. */
  needs: number[];
  /** Share of the calibration queries about which the teacher is asked. */
  deferred: number;
}

export const DEPTHS = [5, 10, 20, 50, 100] as const;
/** Weights of the student's score; cosines times 20 are of the size of logits. */
const FUSIONS = [0, 5, 10, 20, 40, 80];
/** Number of settings between deferring everything and nothing. */
const SETTINGS = 60;
const FOLDS = 5;
/** Share of the risk that the fitting half's loss may take where settings are chosen on it. */
const HOPED = 0.5;

/**
 * @param queries in an order that does not depend on them (shuffled by a seed): the first half is fitted on, the second certifies
 * @throws InputError where fewer than four queries are given, or where only some have grades
 */
export function fitCascade(queries: readonly Calibrated[], options: FitOptions): FittedCascade {
  if (queries.length < 4)
    throw new InputError({
      code: 'cascade.queries',
      subject: `${queries.length} calibration queries`,
      expected: 'at least four',
      remedy: 'calibrate on a split with more queries',
    });
  const labelled = queries[0].grades !== undefined;
  if (queries.some((q) => (q.grades !== undefined) !== labelled))
    throw new InputError({
      code: 'cascade.grades',
      subject: 'some calibration queries have grades and others have none',
      remedy: 'give grades for all or for none',
    });
  const half = queries.length >> 1;
  const [fitting, certifying] = [queries.slice(0, half), queries.slice(half)];
  const { depths = DEPTHS, loss = 'clipped' } = options;

  // A joined order serves some queries worse than the teacher's: where these alone use up the risk, nothing could be certified.
  const lossOf = (gap: number): number => (loss === 'clipped' ? Math.max(0, gap) : gap);
  const promising = (f: Fusion): boolean =>
    f === 0 || meanOf(fitting, (q) => lossOf(fullQuality(q) - joinedQuality(q, f))) <= HOPED * options.alpha;
  // Without labels the teacher's order is the truth, and joining scores could only lose.
  const fusion =
    options.fusion === undefined || options.fusion === 'auto'
      ? labelled
        ? argmax(FUSIONS.filter(promising), (f) => meanOf(fitting, (q) => joinedQuality(q, f)))
        : 0
      : options.fusion;
  const names =
    options.rule === undefined || options.rule === 'auto'
      ? (Object.keys(rules) as RuleName[]).filter((name) => !('byName' in rules[name]))
      : [options.rule];
  const rule = names.length === 1 ? names[0] : argmax(names, (name) => area(fitting, { depths, fusion, rule: name }));
  const parameters = rules[rule].fit(examples(fitting, depths, fusion));
  const base = { depths: [...depths], fusion, rule, parameters };

  // The way from everything to nothing is fixed by the fitting half alone: first how many layers, then how deep.
  const { alpha, delta, bound = 'betting', exits } = options;
  const statesAt = (all: readonly Calibrated[], exit: number) =>
    all.map((q) => {
      const { query, work } = leavingEarly(q, depths, exits, exit);
      const { scored, features, quality } = statesOf(query, depths, fusion);
      return { needs: needsOf(query, base, features), scored, work, quality, full: fullQuality(query) };
    });
  const thresholdsOf = (states: readonly { needs: Float64Array }[]): number[] => {
    const seen = states.flatMap((s) => [...s.needs]);
    return [
      Number.NEGATIVE_INFINITY,
      ...new Set(Array.from({ length: SETTINGS }, (_, i) => quantile(seen, (i + 0.5) / SETTINGS))),
      Number.POSITIVE_INFINITY,
    ];
  };
  const gap = (s: ReturnType<typeof statesAt>[number], threshold: number): number =>
    s.full - s.quality[stopAt(s.needs, threshold)];
  const cheapest = (exit: number): { exit: number; work: number; thresholds: number[] } => {
    const states = statesAt(fitting, exit);
    const thresholds = thresholdsOf(states);
    const works = thresholds.flatMap((t) =>
      meanOf(states, (s) => lossOf(gap(s, t))) <= HOPED * alpha
        ? [meanOf(states, (s) => s.work[stopAt(s.needs, t)])]
        : [],
    );
    return { exit, thresholds, work: works.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY) };
  };
  const all = cheapest(Number.POSITIVE_INFINITY);
  const chosen = (exits ? EXIT_THRESHOLDS.filter(Number.isFinite) : [])
    .map(cheapest)
    .reduce((a, b) => (b.work < a.work ? b : a), all);
  const path = [
    { threshold: Number.NEGATIVE_INFINITY, early: false },
    ...chosen.thresholds.map((threshold) => ({ threshold, early: chosen !== all })),
  ].slice(chosen === all ? 1 : 0);
  const whole = statesAt(certifying, Number.POSITIVE_INFINITY);
  const early = chosen === all ? whole : statesAt(certifying, chosen.exit);
  const reached = (i: number) => (path[i].early ? early : whole);
  const losses = path.map(({ threshold }, i) =>
    Float64Array.from(reached(i), (s) =>
      loss === 'clipped' ? Math.max(0, gap(s, threshold)) : (gap(s, threshold) + 1) / 2,
    ),
  );
  const certified = learnThenTest(losses, { alpha: loss === 'clipped' ? alpha : (alpha + 1) / 2, delta, bound });
  const holds = certified.at >= 0;
  const at = Math.max(0, certified.at);
  const { threshold } = path[at];
  const stops = reached(at).map((s) => stopAt(s.needs, threshold));
  const pairs = mean(reached(at).map((s, i) => s.scored[stops[i]]));
  const work = mean(reached(at).map((s, i) => s.work[stops[i]]));
  const risk = loss === 'clipped' ? mean(losses[at]) : 2 * mean(losses[at]) - 1;
  return {
    // Where nothing is certified the teacher's own order over the whole list is served: it loses nothing.
    policy: { ...base, fusion: holds ? fusion : 0, threshold, ...(path[at].early && { exits: chosen.exit }) },
    guarantee: {
      alpha,
      delta,
      bound,
      loss,
      against: labelled ? 'labels' : "the teacher's order",
      queries: certifying.length,
      needed: certified.needed,
      certified: holds,
      risk: holds ? risk : 0,
      pairs,
      ...(exits && { layers: pairs > 0 ? (work / pairs) * exits.layers[exits.layers.length - 1] : 0 }),
    },
    needs: whole.map((s) => s.needs[0]).sort((a, b) => a - b),
    deferred: mean(stops.map((stop) => Number(stop > 0))),
  };
}

function examples(queries: readonly Calibrated[], depths: readonly number[], fusion: Fusion) {
  const rows: Float64Array[] = [];
  const gains: number[] = [];
  const wrong: number[] = [];
  for (const q of queries) {
    const { features, quality, first } = statesOf(q, depths, fusion);
    for (let j = 0; j < first.length - 1; j++) {
      rows.push(features[j]);
      gains.push(quality[quality.length - 1] - quality[j]);
      wrong.push(Number(first[j] !== first[first.length - 1]));
    }
  }
  const data = new Float64Array(rows.length * FEATURES);
  for (const [i, row] of rows.entries()) data.set(row, i * FEATURES);
  return { features: data, gains: Float64Array.from(gains), wrong: Uint8Array.from(wrong) };
}

/** Mean quality over thresholds spread evenly by pairs, with parameters fitted on the other folds. */
function area(queries: readonly Calibrated[], base: Omit<Policy, 'threshold' | 'parameters'>): number {
  const folds = Math.min(FOLDS, queries.length);
  const parameters = Array.from({ length: folds }, (_, f) =>
    rules[base.rule].fit(
      examples(
        queries.filter((_, i) => i % folds !== f),
        base.depths,
        base.fusion,
      ),
    ),
  );
  const states = queries.map((q, i) => {
    const { scored, features, quality } = statesOf(q, base.depths, base.fusion);
    return { needs: needsOf(q, { ...base, parameters: parameters[i % folds] }, features), scored, quality };
  });
  const seen = states.flatMap((s) => [...s.needs]);
  const points = Array.from({ length: SETTINGS }, (_, i) => {
    const threshold = quantile(seen, i / (SETTINGS - 1));
    const stops = states.map((s) => stopAt(s.needs, threshold));
    return {
      pairs: mean(states.map((s, i) => s.scored[stops[i]])),
      quality: mean(states.map((s, i) => s.quality[stops[i]])),
    };
  }).sort((a, b) => a.pairs - b.pairs);
  let [sum, width] = [0, 0];
  for (let i = 1; i < points.length; i++) {
    const step = points[i].pairs - points[i - 1].pairs;
    sum += (step * (points[i].quality + points[i - 1].quality)) / 2;
    width += step;
  }
  return width > 0 ? sum / width : Number.NEGATIVE_INFINITY;
}

function argmax<T>(items: readonly T[], value: (item: T) => number): T {
  const values = items.map(value);
  return items[values.indexOf(values.reduce((a, b) => Math.max(a, b)))];
}
const meanOf = <T>(items: readonly T[], value: (item: T) => number): number => mean(items.map(value));
