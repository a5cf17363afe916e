/** @file How good a served list is: nDCG@10 by labels, or by the teacher's own order where there are none. */
import { depthsOf } from './policy.ts';
import { type Fusion, features, type Query, servedOrder, TOP } from './rules/states.ts';

/** A query whose list the teacher has scored whole. */
export interface Calibrated extends Query {
  /** Grades of the list's documents; undefined where there are no labels: then the teacher's order is the truth. */
  readonly grades?: ArrayLike<number>;
  /** [exits][n] the teacher's logits at each of its exits, where it has some; the last are `teacher`. */
  readonly atExits?: readonly Float32Array[];
  /** The whole teacher's logits, where `teacher` holds those that leaving early gives. */
  readonly whole?: Float32Array;
  /** Grades over 0 of all judged documents of the query, highest first. */
  readonly ideal?: readonly number[];
}

/** Quality of the teacher over the whole list, nothing joined: what losses are measured against. */
export function fullQuality(query: Calibrated): number {
  const found = fully.get(query) ?? qualityOf(query, wholeOrder(query));
  fully.set(query, found);
  return found;
}

/** Fits ask for it again and again. */
const fully = new WeakMap<Calibrated, number>();

const wholeOrder = ({ student, teacher, whole = teacher }: Calibrated): Int32Array =>
  servedOrder({ student, teacher: whole }, student.length, 0);

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

function byTeacher(query: Calibrated): { grades: Float64Array; ideal: number[] } {
  const order = wholeOrder(query);
  const grades = new Float64Array(order.length);
  for (let i = 0; i < Math.min(TOP, order.length); i++) grades[order[i]] = TOP - i;
  return { grades, ideal: Array.from({ length: Math.min(TOP, order.length) }, (_, i) => TOP - i) };
}

/** What a query whose list the teacher has scored is after so many documents. */
interface State {
  features: Float64Array;
  /** Quality of what would be served, and its first document. */
  quality: number;
  first: number;
}

/** Fits ask for the same states again and again: for every rule, threshold and fold. */
const known = new WeakMap<Calibrated, Map<string, State>>();

/** @param scored documents that the teacher has scored, the last chunk of them from `before` on */
function stateOf(query: Calibrated, scored: number, before: number, fusion: Fusion): State {
  const own = known.get(query) ?? new Map<string, State>();
  known.set(query, own);
  const key = `${scored} ${before} ${fusion}`;
  const found = own.get(key);
  if (found) return found;
  const order = servedOrder(query, scored, fusion);
  const state = {
    features: features(query, scored, before, fusion),
    quality: qualityOf(query, order),
    first: order[0],
  };
  own.set(key, state);
  return state;
}

/** Quality where the teacher has scored the whole list and both scores are joined. */
export const joinedQuality = (query: Calibrated, fusion: Fusion): number =>
  stateOf(query, query.student.length, 0, fusion).quality;

/** The states of a query that a policy can be in, the student alone first. */
export function statesOf(query: Calibrated, depths: readonly number[], fusion: Fusion) {
  const scored = [0, ...depthsOf(depths, query.student.length)];
  const states = scored.map((k, j) => stateOf(query, k, scored[j - 1] ?? 0, fusion));
  return {
    scored,
    features: states.map((s) => s.features),
    quality: states.map((s) => s.quality),
    first: states.map((s) => s.first),
  };
}
