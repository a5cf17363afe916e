/** @file Infers the meaning of numbers in rows: grades, labels of -1 and 1, or a teacher's scores. */
import { InputError } from '../common/errors.ts';
import type { Pairs } from './judged-lists.ts';

/** Whole numbers of a column called `score` up to this are grades. */
const HIGHEST_GRADE = 10;

/** What is known of the numbers of a column. */
export class Numbers {
  count = 0;
  whole = true;
  least = Number.POSITIVE_INFINITY;
  most = Number.NEGATIVE_INFINITY;

  add(n: number): void {
    this.count++;
    this.whole &&= Number.isInteger(n);
    if (n < this.least) this.least = n;
    if (n > this.most) this.most = n;
  }

  /** -1, 0 and 1 alone, -1 among them: as for a cosine embedding loss. */
  get signed(): boolean {
    return this.whole && this.least === -1 && this.most <= 1;
  }

  areGrades(most = Number.POSITIVE_INFINITY): boolean {
    return this.count > 0 && this.whole && this.least >= 0 && this.most <= most;
  }
}

/**
 * Turns labels and doubtful scores into grades or scores, for all splits alike. Whole numbers that are not negative are
 * grades (up to 10 in a column called score), -1 and 1 are labels, anything else is a teacher's scores.
 *
 * @returns the inferred meaning; undefined where there are no numbers
 * @throws InputError where labels are not grades and there are scores as well
 */
export function settle(
  all: readonly Pairs[],
  labels: Numbers,
  doubtful: Numbers,
  hasScores: boolean,
  name: string,
): string | undefined {
  if (labels.count) {
    const judges = labels.areGrades() || labels.signed;
    if (!judges && hasScores)
      throw new InputError({
        code: 'data.columns',
        subject: `the labels of ${name} are from ${labels.least} to ${labels.most} and not whole numbers, and it has scores as well`,
        expected: 'whole numbers from 0, or -1 and 1',
        remedy: 'say which column holds scores: data.columns: { scores: NAME, ignore: OTHER }',
      });
    for (const { grades, labels: own, scores } of all) move(judges ? grades.all : scores.all, own.all, judges);
    return describe('labels', labels, judges);
  }
  if (!doubtful.count) return undefined;
  const judges = doubtful.areGrades(HIGHEST_GRADE) || doubtful.signed;
  if (judges)
    for (const { grades, scores } of all) {
      const [g, s] = [grades.all, scores.all];
      for (let i = 0; i < g.length; i++) if (Number.isNaN(g[i])) [g[i], s[i]] = [Math.max(0, s[i]), Number.NaN];
    }
  return describe('scores', doubtful, judges);
}

function move(to: Float32Array, from: Float32Array, judges: boolean): void {
  for (let i = 0; i < from.length; i++) if (!Number.isNaN(from[i])) to[i] = judges ? Math.max(0, from[i]) : from[i];
}

const describe = (what: string, n: Numbers, judges: boolean): string =>
  `the ${what} are ${judges ? (n.signed ? 'read as relevant (1) or not (0, -1)' : `grades from ${n.least} to ${n.most}, above 0 relevant`) : `a teacher's scores from ${n.least} to ${n.most}`}`;
