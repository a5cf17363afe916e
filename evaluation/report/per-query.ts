/** @file The values of single queries in a report: of all, or of a sample where there are many. */
import { Random } from '../../math/random.ts';
import type { RunEvaluation } from '../metrics/evaluate.ts';
import type { Figures } from './figures.ts';

/** Queries whose values a report holds; of more it holds a sample of as many. Means, intervals and tests are always of all. */
export const REPORTED_QUERIES = 50_000;

/** The queries of a report by position, in order; undefined for all. The same for equal counts, so that reports can be compared. */
function reported(count: number): Int32Array | undefined {
  if (count <= REPORTED_QUERIES) return undefined;
  const all = new Int32Array(count);
  for (let i = 0; i < count; i++) all[i] = i;
  return Random.of(0, 'reported queries').shuffle(all).slice(0, REPORTED_QUERIES).sort();
}

/** Values by metric as a report keeps them. */
export function reportedValues(perQuery: RunEvaluation['perQuery']): Record<string, number[]> {
  const round = (v: number): number => Number(v.toFixed(6));
  return Object.fromEntries(
    Object.entries(perQuery).map(([metric, values]) => {
      const some = reported(values.length);
      return [metric, some ? Array.from(some, (i) => round(values[i])) : Array.from(values, round)];
    }),
  );
}

/** @param systems values as `reportedValues` gives them, by system */
export function perQueryFigures(
  queryIds: readonly string[],
  systems: Record<string, Record<string, number[]>>,
): NonNullable<Figures['perQuery']> {
  const some = reported(queryIds.length);
  return some
    ? { queryIds: Array.from(some, (i) => queryIds[i]), of: queryIds.length, systems }
    : { queryIds: [...queryIds], systems };
}

/** Says that values of single queries are those of a sample, where they are. */
export const sampleNotes = (count: number): string[] =>
  count > REPORTED_QUERIES
    ? [
        `values of single queries are of ${REPORTED_QUERIES.toLocaleString('en')} drawn of ${count.toLocaleString('en')}; means, intervals and tests are of all`,
      ]
    : [];
