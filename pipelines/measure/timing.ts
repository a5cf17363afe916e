/** @file How long single pieces of work take. */

/** Queries that are embedded one at a time to be timed. */
export const TIMED_QUERIES = 60;

/** Median of single runs, the first ones left out. */
export async function medianMilliseconds<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (const item of items) {
    const started = performance.now();
    await work(item);
    times.push(performance.now() - started);
  }
  const counted = times.slice(Math.min(10, items.length >> 1)).sort((a, b) => a - b);
  return counted[counted.length >> 1] ?? Number.NaN;
}
