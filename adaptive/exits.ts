/** @file When a pair leaves a cross-encoder early: once more layers could not change its place among the query's documents. */
import { mean } from '../math/resampling.ts';
import { learnThenTest, type RiskOptions } from './calibration/learn-then-test.ts';
import { qualityOf } from './quality.ts';
import { servedOrder } from './rules/states.ts';

/** Documents whose places count: one that is surely below them is settled. */
const PLACES = 10;

/** What is known of the exits of a model. */
export interface ExitFacts {
  /** Layers run by each exit, ascending. */
  readonly layers: readonly number[];
  /** Standard deviation of each exit's logit about the whole model's. */
  readonly deviations: readonly number[];
}

/** What nDCG loses where the documents at places p and p + 1 are exchanged, p from 0, as a share of what it loses at the top. */
const WEIGHTS = Array.from(
  { length: PLACES },
  (_, p) => (1 / Math.log2(p + 2) - 1 / Math.log2(p + 3)) / (1 - 1 / Math.log2(3)),
);

/**
 * How settled the places of documents are, in standard deviations of the exit. Of the first ten: the distance to the next document
 * above and below, divided by what an exchange of the two would cost, so that lower places are settled sooner; of the others: what
 * is missing to the tenth. A document alone is not settled: there is nothing to compare it with.
 *
 * @param scores of all documents of the query so far
 * @param deviation of the exit that they were scored at
 */
export function settledness(scores: ArrayLike<number>, deviation: number): Float64Array {
  const n = scores.length;
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => scores[b] - scores[a]);
  const out = new Float64Array(n);
  for (const [place, i] of order.entries()) {
    const to = (other: number): number => Math.abs(scores[order[other]] - scores[i]);
    let distance = 0;
    if (place >= PLACES) distance = to(PLACES - 1);
    else if (n > 1) {
      const above = place > 0 ? to(place - 1) / WEIGHTS[place - 1] : Number.POSITIVE_INFINITY;
      const below = place < n - 1 ? to(place + 1) / WEIGHTS[place] : Number.POSITIVE_INFINITY;
      distance = Math.min(above, below);
    }
    out[i] = deviation > 0 ? distance / deviation : 0;
  }
  return out;
}

/** What leaving early gives. */
export interface Exited {
  /** [n] each document's score at its exit. */
  scores: Float32Array;
  /** [n] exit at which it left: position in `layers`. */
  exits: Uint8Array;
}

/**
 * The walk of one query's documents through the exits: after each one the documents that are settled keep its score, the others go
 * on. It asks for scores by yielding which documents are at which exit.
 *
 * @param threshold a document goes on while it is settled by less than this; Infinity: all layers
 * @param before scores of documents of the same query that are known already: places are among all of them
 */
function* walk(
  { layers, deviations }: ExitFacts,
  n: number,
  threshold: number,
  before: ArrayLike<number>,
): Generator<{ exit: number; documents: readonly number[] }, Exited, ArrayLike<number>> {
  const known = before.length;
  const all = new Float32Array(known + n);
  all.set(before);
  const exits = new Uint8Array(n);
  let documents = Array.from({ length: n }, (_, i) => i);
  for (let exit = 0; exit < layers.length && documents.length; exit++) {
    const found = yield { exit, documents };
    for (const [k, i] of documents.entries()) {
      all[known + i] = found[k];
      exits[i] = exit;
    }
    if (exit === layers.length - 1 || threshold === Number.POSITIVE_INFINITY) continue;
    const settled = settledness(all, deviations[exit]);
    documents = documents.filter((i) => settled[known + i] < threshold);
  }
  return { scores: all.slice(known), exits };
}

/** Runs the exits of one query's documents. @param score the scores at an exit of the documents at these positions */
export async function throughExits(
  facts: ExitFacts,
  n: number,
  threshold: number,
  score: (exit: number, documents: readonly number[]) => Promise<ArrayLike<number>>,
  before: ArrayLike<number> = [],
): Promise<Exited> {
  const steps = walk(facts, n, threshold, before);
  for (let step = steps.next(); ; ) {
    if (step.done) return step.value;
    step = steps.next(await score(step.value.exit, step.value.documents));
  }
}

/** What leaving early gives, where the scores at every exit are known. @param logits [exits][n] */
export function exitsOf(
  facts: ExitFacts,
  logits: readonly ArrayLike<number>[],
  threshold: number,
  before: ArrayLike<number> = [],
): Exited {
  const steps = walk(facts, logits[0].length, threshold, before);
  for (let step = steps.next(); ; ) {
    if (step.done) return step.value;
    const { exit, documents } = step.value;
    step = steps.next(documents.map((i) => logits[exit][i]));
  }
}

/** Layers that documents went through in all. */
export const layersRun = ({ layers }: ExitFacts, exits: Uint8Array): number =>
  exits.reduce((sum, exit) => sum + layers[exit], 0);

/** One query whose documents were scored at every exit. */
export interface ExitQuery {
  /** [exits][n] logits; the last are the whole model's. */
  readonly logits: readonly Float32Array[];
  /** Grades of the documents, and of all judged ones over 0, highest first; absent: the whole model's order is the truth. */
  readonly grades?: ArrayLike<number>;
  readonly ideal?: readonly number[];
}

export interface ExitPoint {
  threshold: number;
  /** Mean quality, mean loss against the whole model, layers a pair, share of queries whose best document is the whole model's. */
  quality: number;
  risk: number;
  layers: number;
  sameBest: number;
}

/** From all layers to the first exit, in standard deviations of an exit's logit; fixed before any query is seen. */
export const EXIT_THRESHOLDS: readonly number[] = [
  Number.POSITIVE_INFINITY,
  ...[12, 10, 8, 6, 5, 4, 3.5, 3, 2.5, 2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0.1, 0],
];

/** Quality, loss and layers at every threshold. */
export function exitCurve(queries: readonly ExitQuery[], facts: ExitFacts): ExitPoint[] {
  return lossesOf(queries, facts).map(({ quality, losses, layers, same }, i) => ({
    threshold: EXIT_THRESHOLDS[i],
    quality: mean(quality),
    risk: mean(losses),
    layers,
    sameBest: mean(same),
  }));
}

/** The fewest layers whose mean loss of nDCG@10 against the whole model is at most alpha with confidence 1 - delta. */
export function certifyExits(queries: readonly ExitQuery[], facts: ExitFacts, options: RiskOptions) {
  const points = lossesOf(queries, facts);
  const { at, needed } = learnThenTest(
    points.map((p) => p.losses),
    options,
  );
  const certified = at >= 0;
  const chosen = points[Math.max(0, at)];
  return {
    threshold: EXIT_THRESHOLDS[Math.max(0, at)],
    guarantee: {
      alpha: options.alpha,
      delta: options.delta,
      against: queries.every((q) => q.grades) ? ('labels' as const) : ("the whole model's order" as const),
      queries: queries.length,
      needed,
      certified,
      risk: mean(chosen.losses),
      layers: chosen.layers,
    },
  };
}

function lossesOf(queries: readonly ExitQuery[], facts: ExitFacts) {
  const ranked = ({ logits, ...truth }: ExitQuery, scores: Float32Array) => {
    const none = new Float32Array(scores.length);
    const whole = { student: none, teacher: logits[logits.length - 1], ...truth };
    const order = servedOrder({ student: none, teacher: scores }, scores.length, 0);
    return { quality: qualityOf(whole, order), best: order[0] };
  };
  const full = queries.map((q) => ranked(q, q.logits[q.logits.length - 1]));
  const pairs = queries.reduce((n, q) => n + q.logits[0].length, 0);
  return EXIT_THRESHOLDS.map((threshold) => {
    let layers = 0;
    const served = queries.map((q) => {
      const { scores, exits } = exitsOf(facts, q.logits, threshold);
      layers += layersRun(facts, exits);
      return ranked(q, scores);
    });
    return {
      layers: layers / Math.max(1, pairs),
      quality: served.map((s) => s.quality),
      losses: Float64Array.from(served, (s, i) => Math.max(0, full[i].quality - s.quality)),
      same: served.map((s, i) => Number(s.best === full[i].best)),
    };
  });
}
