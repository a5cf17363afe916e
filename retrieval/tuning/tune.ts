/**
 * @file Settings of an index that meet a recall, or a time, found by a measured search: the ways that are slower are given up by
 * halving on more and more queries, and the number that trades time for recall is found by bisection, since both rise with it.
 */
import { InputError } from '../../common/errors.ts';
import type { RunControl } from '../../common/progress.ts';
import { Random } from '../../math/random.ts';
import type { Vectors } from '../codecs/index.ts';
import { usearchIsHere } from '../graph/usearch.ts';
import { binsFor } from '../top-k.ts';
import type { Point, Tuned, TuningGoal } from '../tuned.ts';
import { defaultSettings, type IndexSettings } from '../vector-index.ts';
import { type Arm, armsFor, graphArms } from './arms.ts';
import { exactOf, type Truth, TuningBench } from './bench.ts';

/** What recall counts, and what is tried. */
export interface TuneOptions extends RunControl {
  /** Documents a query that recall counts; 10 by default. */
  k?: number;
  seed?: number;
  /** Whether graphs alone are tried. */
  graph?: boolean;
  /** What is tried; `armsFor` by default. */
  arms?: readonly Arm[];
}

/** Fewer queries than these say little of a recall. */
export const LEAST_QUERIES = 40;
/** Queries of each half at most, and of the first round. */
const [MOST, FIRST] = [1000, 32];
/** Points of the curve. */
const CURVE = 9;
/** What bins must save to be used. */
const WORTH = 0.95;

/**
 * Settings for documents and queries like these. Half of the queries find them; the other half is held out and measures them.
 * @param queries [n, dimensions] row-major
 * @throws InputError where there are too few queries, the goal is no share or no time, or nothing is as fast as it asks
 */
export async function tuneIndex(
  documents: Vectors,
  queries: Float32Array,
  goal: TuningGoal,
  options: TuneOptions = {},
): Promise<Tuned> {
  checkGoal(goal);
  const { seed = 0, onProgress, signal } = options;
  const D = documents.dimensions;
  const n = documents.data.length / D;
  checkQueries(queries.length / D);
  const order = Random.of(seed, 'tuning').shuffle(Int32Array.from({ length: queries.length / D }, (_, i) => i));
  const half = Math.min(MOST, order.length >> 1);
  const [own, others] = [order.subarray(0, half), order.subarray(half, 2 * half)];
  onProgress?.({ stage: 'tune: exact search', done: 0, total: 2 * half, unit: 'queries' });
  const truth = await exactOf(queries, documents, options.k ?? 10);
  const bench = new TuningBench(documents, seed);
  let done = 0;
  const measure = async (settings: IndexSettings, rows: ArrayLike<number>): Promise<Point> => {
    signal?.throwIfAborted();
    const point = await bench.measure(settings, queries, truth, rows);
    done += rows.length;
    onProgress?.({ stage: 'tune', done, unit: 'searches' });
    return point;
  };
  let arms = [
    ...(options.arms ?? (options.graph ? graphArms(n, truth.k) : armsFor(n, D, truth.k, await usearchIsHere()))),
  ];
  const tried: { arm: Arm; point: Point }[] = [];
  const cost = ({ point }: { point: Point }): number => ('recall' in goal ? point.ms : -point.recall);
  /** The best of those given up that meets the goal: those that were kept can do so on few queries alone. */
  const rescued = async (): Promise<{ arm: Arm; point: Point } | undefined> => {
    for (const { arm } of [...tried].sort((a, b) => cost(a) - cost(b))) {
      const point = await bisect(arm, goal, (s) => measure(s, own), true);
      if (point) return { arm, point };
    }
    return undefined;
  };
  let best: { arm: Arm; point: Point } | undefined;
  for (let size = Math.min(FIRST, half); ; size = Math.min(half, arms.length > 1 ? 2 * size : half)) {
    const last = size === half;
    const found: { arm: Arm; point: Point }[] = [];
    for (const arm of arms) {
      const point = await bisect(arm, goal, (s) => measure(s, own.subarray(0, size)), last);
      if (point) found.push({ arm, point });
      if (!point || last)
        bench.keep([...arms.slice(arms.indexOf(arm) + 1), ...found.map((f) => f.arm)].map((a) => a.ladder[0]));
    }
    if (!found.length) {
      best = await rescued();
      if (!best) throw nothingMeets(goal);
      break;
    }
    found.sort((a, b) => cost(a) - cost(b));
    const kept = last ? 1 : Math.ceil(found.length / 2);
    for (const { arm, point } of found.slice(last ? 0 : kept)) tried.push({ arm, point });
    arms = found.slice(0, kept).map((f) => f.arm);
    bench.keep(arms.map((a) => a.ladder[0]));
    best = found[0];
    if (last) break;
  }
  const { arm } = best as { arm: Arm; point: Point };
  const chosen = await withBins(best.point, goal, truth, (s) => measure(s, own));
  const points = await along(arm, chosen.settings, (s) => measure(s, others));
  bench.keep([defaultSettings, arm.ladder[0]]);
  return {
    goal,
    k: truth.k,
    documents: n,
    settings: chosen.settings,
    tuning: chosen,
    heldOut: await measure(chosen.settings, others),
    defaults: await measure(defaultSettings, others),
    exactMs: truth.ms,
    curve: points,
    tried: tried.map(({ arm, point }) => ({ name: arm.name, point })),
  };
}

/** The first of a ladder that meets a recall, or the last that meets a time; undefined where none does. */
async function bisect(
  { ladder }: Arm,
  goal: TuningGoal,
  measure: (settings: IndexSettings) => Promise<Point>,
  careful: boolean,
): Promise<Point | undefined> {
  // Among many settings one meets the goal by chance: at the end its recall must do so less its standard error.
  const meets = (p: Point): boolean =>
    'recall' in goal ? p.recall - (careful && p.recall < 1 ? p.error : 0) >= goal.recall : p.ms <= goal.ms;
  const wantsFirst = 'recall' in goal;
  let [low, high] = [0, ladder.length - 1];
  let found: Point | undefined;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const point = await measure(ladder[middle]);
    if (meets(point)) found = point;
    if (meets(point) === wantsFirst) high = middle - 1;
    else low = middle + 1;
  }
  return found;
}

/** The same with the best found by bins, where that is faster and still meets the goal. */
async function withBins(
  point: Point,
  goal: TuningGoal,
  { k }: Truth,
  measure: (settings: IndexSettings) => Promise<Point>,
): Promise<Point> {
  const wanted = Math.max(k, point.settings.rescore?.count ?? 0);
  if (wanted < 2) return point;
  const binned = await measure({ ...point.settings, bins: binsFor(0.99, wanted) });
  const enough = 'recall' in goal ? binned.recall - binned.error >= goal.recall : binned.recall >= point.recall;
  return enough && binned.ms < WORTH * point.ms ? binned : point;
}

/** Points along the ladder, the chosen settings among them. */
async function along(
  { ladder }: Arm,
  chosen: IndexSettings,
  measure: (settings: IndexSettings) => Promise<Point>,
): Promise<Point[]> {
  const at = new Set(
    Array.from({ length: Math.min(CURVE, ladder.length) }, (_, i) =>
      Math.round((i * (ladder.length - 1)) / Math.max(1, Math.min(CURVE, ladder.length) - 1)),
    ),
  );
  const { bins: _, ...plain } = chosen;
  at.add(
    Math.max(
      0,
      ladder.findIndex((s) => JSON.stringify(s) === JSON.stringify(plain)),
    ),
  );
  const points: Point[] = [];
  for (const i of [...at].sort((a, b) => a - b)) points.push(await measure(ladder[i]));
  return points;
}

/** @throws InputError where a goal is no share or no time */
export function checkGoal(goal: TuningGoal): void {
  if ('recall' in goal && !(goal.recall > 0 && goal.recall < 1))
    throw new InputError({
      code: 'tune.recall',
      subject: `a recall of ${goal.recall}`,
      expected: 'a number above 0 and below 1',
      remedy: 'give for instance 0.95; for all of the nearest, index with --codec float32',
    });
  if ('ms' in goal && !(goal.ms > 0 && Number.isFinite(goal.ms)))
    throw new InputError({ code: 'tune.ms', subject: `${goal.ms} ms a query`, expected: 'a number above 0' });
}

/** @throws InputError where there are too few queries to find settings with */
export function checkQueries(queries: number): void {
  if (queries < LEAST_QUERIES)
    throw new InputError({
      code: 'tune.queries',
      subject: `${queries} queries to find settings with`,
      expected: `at least ${LEAST_QUERIES}, half of which are held out`,
      remedy: 'give data with more queries, judged or not, or choose settings with --codec and --rescore',
    });
}

const nothingMeets = (goal: TuningGoal): InputError =>
  'ms' in goal
    ? new InputError({
        code: 'tune.ms',
        subject: `no settings answer a query within ${goal.ms} ms on this machine`,
        remedy: 'allow more time',
      })
    : new InputError({
        code: 'tune.recall',
        subject: `no settings that were tried reach a recall of ${(goal as { recall: number }).recall}`,
        remedy: 'ask for less, or index with --codec float32',
      });
