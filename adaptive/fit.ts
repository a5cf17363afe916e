/** @file Fits a cascade: fusion and rule on one half of the queries, the threshold with a guarantee on the other. */
import { InputError } from '../common/errors.ts';
import { mean, quantile } from '../math/resampling.ts';
import { learnThenTest, type RiskOptions } from './calibration/learn-then-test.ts';
import { depthsOf, needsOf, type Policy, stopAt } from './policy.ts';
import { type RuleName, rules } from './rules/index.ts';
import { FEATURES, type Fusion, features, type Query, servedOrder, TOP } from './rules/states.ts';

/** A query whose list the teacher has scored completely. */
export interface Calibrated extends Query {
  /** Grades of the list's documents; undefined where there are no labels: then the teacher's order is the truth. */
  readonly grades?: ArrayLike<number>;
  /** Grades over 0 of all judged documents of the query, highest first. */
  readonly ideal?: readonly number[];
}

export interface FitOptions extends RiskOptions {
  depths?: readonly number[];
  /** `auto` takes the rule whose curve of quality against pairs is the highest, cross-fitted. */
  rule?: RuleName | 'auto';
  /** `auto` takes the weight of the student's score with the best quality over whole lists. */
  fusion?: Fusion | 'auto';
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
  const quality = (query: Calibrated, scored: number, fusion: Fusion): number =>
    qualityOf(query, servedOrder(query, scored, fusion));

  // Without labels the teacher's order is the truth, and joining scores could only lose.
  const fusion =
    options.fusion === undefined || options.fusion === 'auto'
      ? labelled
        ? argmax(FUSIONS, (f) => meanOf(fitting, (q) => quality(q, q.student.length, f)))
        : 0
      : options.fusion;
  const names =
    options.rule === undefined || options.rule === 'auto' ? (Object.keys(rules) as RuleName[]) : [options.rule];
  const rule = names.length === 1 ? names[0] : argmax(names, (name) => area(fitting, { depths, fusion, rule: name }));
  const parameters = rules[rule].fit(examples(fitting, depths, fusion));
  const base = { depths: [...depths], fusion, rule, parameters };

  // The sequence of settings is fixed by the fitting half only.
  const seen = fitting.flatMap((q) => [...needsOf(q, base)]);
  const path = [
    Number.NEGATIVE_INFINITY,
    ...new Set(Array.from({ length: SETTINGS }, (_, i) => quantile(seen, (i + 0.5) / SETTINGS))),
    Number.POSITIVE_INFINITY,
  ];
  const states = certifying.map((q) => {
    const scored = [0, ...depthsOf(depths, q.student.length)];
    return { needs: needsOf(q, base), scored, quality: scored.map((k) => quality(q, k, fusion)), full: fullQuality(q) };
  });
  const losses = path.map((threshold) =>
    Float64Array.from(states, (s) => {
      const gap = s.full - s.quality[stopAt(s.needs, threshold)];
      return loss === 'clipped' ? Math.max(0, gap) : (gap + 1) / 2;
    }),
  );
  const { alpha, delta, bound = 'betting' } = options;
  const certified = learnThenTest(losses, { alpha: loss === 'clipped' ? alpha : (alpha + 1) / 2, delta, bound });
  const holds = certified.at >= 0;
  const at = Math.max(0, certified.at);
  const threshold = path[at];
  const stops = states.map((s) => s.scored[stopAt(s.needs, threshold)]);
  const risk = loss === 'clipped' ? mean(losses[at]) : 2 * mean(losses[at]) - 1;
  return {
    // If nothing is certified, the teacher's order over the full list is served, which loses nothing.
    policy: { ...base, fusion: holds ? fusion : 0, threshold },
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
      pairs: mean(stops),
    },
    needs: states.map((s) => s.needs[0]).sort((a, b) => a - b),
    deferred: mean(stops.map((k) => Number(k > 0))),
  };
}

/** Quality of the teacher over the whole list, nothing joined: what losses are measured against. */
export const fullQuality = (query: Calibrated): number => qualityOf(query, servedOrder(query, query.student.length, 0));

/**
 * nDCG of the first ten served: by grades where there are any, else with the gains 10, 9, ..., 1 for the teacher's first ten.
 */
export function qualityOf(query: Calibrated, order: Int32Array): number {
  const { grades, ideal } = query.grades ? { grades: query.grades, ideal: query.ideal ?? [] } : byTeacher(query);
  const dcg = (at: (i: number) => number, n: number): number => {
    let s = 0;
    for (let i = 0; i < Math.min(TOP, n); i++) s += Math.max(0, at(i)) / Math.log2(i + 2);
    return s;
  };
  const best = dcg((i) => ideal[i], ideal.length);
  return best > 0 ? dcg((i) => grades[order[i]], order.length) / best : 0;
}

function byTeacher(query: Query): { grades: Float64Array; ideal: number[] } {
  const order = servedOrder(query, query.student.length, 0);
  const grades = new Float64Array(order.length);
  for (let i = 0; i < Math.min(TOP, order.length); i++) grades[order[i]] = TOP - i;
  return { grades, ideal: Array.from({ length: Math.min(TOP, order.length) }, (_, i) => TOP - i) };
}

function examples(queries: readonly Calibrated[], depths: readonly number[], fusion: Fusion) {
  const rows: Float64Array[] = [];
  const gains: number[] = [];
  const wrong: number[] = [];
  for (const q of queries) {
    const whole = servedOrder(q, q.student.length, fusion);
    const full = qualityOf(q, whole);
    const states = [0, ...depthsOf(depths, q.student.length).slice(0, -1)];
    for (const [j, scored] of states.entries()) {
      const order = servedOrder(q, scored, fusion);
      rows.push(features(q, scored, states[j - 1] ?? 0, fusion));
      gains.push(full - qualityOf(q, order));
      wrong.push(Number(order[0] !== whole[0]));
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
    const scored = [0, ...depthsOf(base.depths, q.student.length)];
    return {
      needs: needsOf(q, { ...base, parameters: parameters[i % folds] }),
      scored,
      quality: scored.map((k) => qualityOf(q, servedOrder(q, k, base.fusion))),
    };
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
