/** @file Features of a candidate list that predict whether the teacher's best candidate is right. */

import type { Features } from '../math/logistic-regression.ts';
import { descending, listOf, mean, softmax, topTwo } from '../math/numbers.ts';
import { agreementOf } from './agreement.ts';
import { standardise } from './simple.ts';
import { confidenceOf, fittedTemperature, type WeightingInputs } from './weighting.ts';

/** Scores of teacher, second teacher and student, as far as given. */
function sourcesOf({ teacher, second, student }: WeightingInputs): ArrayLike<number>[] {
  return [teacher.scores, second, student].filter((s) => s !== undefined);
}

/** Ranks by score from 0, best first. */
function ranks(list: Float64Array): Float64Array {
  const out = new Float64Array(list.length);
  for (const [rank, k] of descending(list).entries()) out[k] = rank;
  return out;
}

/** Score at `at` minus the largest other score: how far it leads (or trails). */
function lead(list: Float64Array, at: number): number {
  let other = Number.NEGATIVE_INFINITY;
  for (let k = 0; k < list.length; k++) if (k !== at) other = Math.max(other, list[k]);
  return Number.isFinite(other) ? list[at] - other : 0;
}

/**
 * A row per query, standardised over all queries. Of the teacher: the probability of its best, its margin and entropy, its lead
 * over the second in units of the scores' spread, its standardised score within the list, and its score. Of each other source
 * (second teacher, student): whether its best candidate is the same, the lead and the rank of the teacher's best by its scores,
 * its own margin and entropy, the agreement of the two rankings, and the teacher's rank of its best candidate.
 */
export function listFeatures(inputs: WeightingInputs): Features & { names: string[] } {
  const { offsets } = inputs.teacher;
  const sources = sourcesOf(inputs);
  const temperatures = sources.map((scores) => fittedTemperature(inputs, scores));
  const names = ['top', 'margin', 'entropy', 'lead', 'deviation', 'score'];
  const others = [inputs.second && 'second', inputs.student && 'student'].filter(Boolean);
  for (const o of others)
    for (const f of ['same', 'lead', 'rank', 'margin', 'entropy', 'tau', 'rank-back']) names.push(`${o} ${f}`);
  const n = offsets.length - 1;
  const rows: (number[] | null)[] = [];
  for (let i = 0; i < n; i++) {
    const lists = sources.map((scores) => listOf({ offsets, scores }, i));
    const [teacher] = lists;
    if (!teacher.length) {
      rows.push(null);
      continue;
    }
    const { at } = topTwo(teacher);
    const sure = confidenceOf(teacher, temperatures[0]);
    const t = temperatures[0];
    const row = [sure.top, sure.margin, sure.entropy, lead(teacher, at) / t, standardise(teacher)[at], teacher[at] / t];
    const teacherRanks = ranks(teacher);
    for (let s = 1; s < lists.length; s++) {
      const own = lists[s];
      const best = topTwo(own).at;
      const ownSure = confidenceOf(own, temperatures[s]);
      row.push(
        Number(best === at || own[best] === own[at]),
        Math.max(-10, Math.min(10, lead(own, at) / temperatures[s])),
        Math.log2(1 + ranks(own)[at]),
        ownSure.margin,
        ownSure.entropy,
        agreementOf(teacher, own),
        Math.log2(1 + teacherRanks[best]),
      );
    }
    rows.push(row);
  }
  return { names, ...standardised(rows, names.length) };
}

/**
 * A row per candidate. For each source: its score minus the list's mean, in units of the fitted temperature; its softmax
 * probability; its lead over the best of the others; its standardised score; whether it is the best; the logarithm of its rank.
 * And whether it is the best for all sources.
 */
export function candidateFeatures(inputs: WeightingInputs): Features & { names: string[] } {
  const { offsets } = inputs.teacher;
  const sources = sourcesOf(inputs);
  const temperatures = sources.map((scores) => fittedTemperature(inputs, scores));
  const labels = ['teacher', inputs.second && 'second', inputs.student && 'student'].filter(Boolean);
  const names = labels.flatMap((l) => [
    `${l} score`,
    `${l} share`,
    `${l} lead`,
    `${l} deviation`,
    `${l} best`,
    `${l} rank`,
  ]);
  if (sources.length > 1) names.push('best of all');
  const rows: number[][] = [];
  for (let i = 0; i + 1 < offsets.length; i++) {
    const lists = sources.map((scores) => listOf({ offsets, scores }, i));
    const deviations = lists.map(standardise);
    const places = lists.map(ranks);
    const shares = lists.map((l, s) => softmax(l, temperatures[s]));
    const centres = lists.map((l) => mean(l));
    for (let k = 0; k < lists[0].length; k++) {
      const row = lists.flatMap((l, s) => [
        (l[k] - centres[s]) / temperatures[s],
        shares[s][k],
        Math.max(-10, Math.min(10, lead(l, k) / temperatures[s])),
        deviations[s][k],
        Number(places[s][k] === 0),
        Math.log2(1 + places[s][k]),
      ]);
      if (sources.length > 1) row.push(Number(places.every((p) => p[k] === 0)));
      rows.push(row);
    }
  }
  return { names, width: names.length, data: Float64Array.from(rows.flat()) };
}

/** Columns to mean 0 and variance 1; constant ones, and the rows of empty lists, to 0. */
function standardised(rows: readonly (readonly number[] | null)[], width: number): Features {
  const data = new Float64Array(rows.length * width);
  const filled = rows.flatMap((row, i) => (row ? [{ row, i }] : []));
  for (let k = 0; k < width; k++) {
    const column = standardise(Float64Array.from(filled, ({ row }) => row[k]));
    for (const [at, { i }] of filled.entries()) data[i * width + k] = column[at];
  }
  return { width, data };
}
