/** @file Fidelity of a student to its teacher on the same candidates, independent of labels. */

import { kendallTauB, moments, spearman } from '../../math/rank-correlation.ts';
import { type Run, rank } from './evaluate.ts';

/** Documents in the top k of both lists, divided by k (or the length of the shorter list). */
export function overlapAt(a: readonly string[], b: readonly string[], k: number): number {
  const first = new Set(a.slice(0, k));
  return b.slice(0, k).filter((id) => first.has(id)).length / Math.min(k, Math.max(a.length, b.length));
}

/**
 * Rank-biased overlap, extrapolated beyond the end of the lists; weights fall by the factor p per rank (Webber, Moffat and Zobel
 * 2010, eq. 32 for lists of equal length). 1 for equal lists, 0 for disjoint ones.
 */
export function rbo(a: readonly string[], b: readonly string[], p = 0.9): number {
  const depth = Math.min(a.length, b.length);
  const [left, right] = [new Set<string>(), new Set<string>()];
  let [common, total] = [0, 0];
  for (let d = 0; d < depth; d++) {
    left.add(a[d]);
    if (right.has(a[d])) common++;
    right.add(b[d]);
    if (left.has(b[d])) common++;
    total += (common / (d + 1)) * p ** (d + 1);
  }
  return depth ? (common / depth) * p ** depth + ((1 - p) / p) * total : Number.NaN;
}

/**
 * KL(softmax(t / T) || softmax(s' / T)) in nats, where s' = a s + b is the student's list fitted to the teacher's by least
 * squares (b has no effect), so that differences in scale do not count.
 */
export function affineKl(teacher: ArrayLike<number>, student: ArrayLike<number>, temperature = 1): number {
  const { covariance, varianceX } = moments(student, teacher);
  const scale = covariance / varianceX;
  const p = logSoftmax(Array.from(teacher, (t) => t / temperature));
  const q = logSoftmax(Array.from(student, (s) => (scale * s) / temperature));
  return p.reduce((s, lp, i) => s + Math.exp(lp) * (lp - q[i]), 0);
}

function logSoftmax(x: readonly number[]): number[] {
  const top = x.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const log = top + Math.log(x.reduce((s, v) => s + Math.exp(v - top), 0));
  return x.map((v) => v - log);
}

/** Fraction of the pairs with a teacher difference above delta that the student orders alike; NaN if there is none. */
export function pairAgreement(teacher: ArrayLike<number>, student: ArrayLike<number>, delta: number): number {
  let [pairs, alike] = [0, 0];
  for (let i = 0; i < teacher.length; i++)
    for (let j = i + 1; j < teacher.length; j++) {
      const t = teacher[i] - teacher[j];
      if (Math.abs(t) <= delta) continue;
      pairs++;
      const s = student[i] - student[j];
      alike += s === 0 ? 0.5 : Number(Math.sign(s) === Math.sign(t));
    }
  return alike / pairs;
}

/** Agreement of a student's ranking with its teacher's: correlations and overlap, values per query and their means. */
export interface Fidelity {
  /** Queries compared, and queries skipped because of a constant list or fewer than two documents. */
  queries: number;
  skipped: number;
  kendallTau: number;
  spearman: number;
  overlap10: number;
  rbo: number;
  /** After an affine fit per query, at temperature 1. */
  kl: number;
  /** Over pairs whose teacher scores differ by more than one standard deviation within the list. */
  confidentPairs: number;
}

/** Means over queries of the agreement of two runs on the documents in both. */
export function fidelity(student: Run, teacher: Run): Fidelity {
  const sums = { kendallTau: 0, spearman: 0, overlap10: 0, rbo: 0, kl: 0, confidentPairs: 0 };
  const counts = { ...sums };
  const add = (key: keyof typeof sums, value: number): void => {
    if (Number.isNaN(value)) return;
    sums[key] += value;
    counts[key]++;
  };
  let [queries, skipped] = [0, 0];
  for (const [query, t] of teacher) {
    const own = student.get(query);
    const scores = new Map(own?.ids.map((id, i) => [id, Math.fround(own.scores[i])]));
    const ids = t.ids.filter((id) => scores.has(id));
    const byTeacher = new Map(t.ids.map((id, i) => [id, Math.fround(t.scores[i])]));
    const x = Float64Array.from(ids, (id) => byTeacher.get(id) as number);
    const y = Float64Array.from(ids, (id) => scores.get(id) as number);
    const { varianceX, varianceY } = moments(x, y);
    if (ids.length < 2 || !(varianceX > 0) || !(varianceY > 0)) {
      skipped++;
      continue;
    }
    const [rankedT, rankedS] = [rank({ ids, scores: x }).ids, rank({ ids, scores: y }).ids];
    queries++;
    add('kendallTau', kendallTauB(x, y));
    add('spearman', spearman(x, y));
    add('overlap10', overlapAt(rankedT, rankedS, 10));
    add('rbo', rbo(rankedT, rankedS));
    add('kl', affineKl(x, y));
    add('confidentPairs', pairAgreement(x, y, Math.sqrt(varianceX / ids.length)));
  }
  const column = (key: keyof typeof sums): number => sums[key] / Math.max(1, counts[key]);
  return {
    queries,
    skipped,
    kendallTau: column('kendallTau'),
    spearman: column('spearman'),
    overlap10: column('overlap10'),
    rbo: column('rbo'),
    kl: column('kl'),
    confidentPairs: column('confidentPairs'),
  };
}
