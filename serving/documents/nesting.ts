/** @file How deep a value of JSON is nested: what walks values by recursion ends with a stack overflow where one is too deep. */

/** Levels of lists and objects that a value may have. */
export const MOST_LEVELS = 200;

/** Whether a value has more levels than `MOST_LEVELS`. */
export function nestsTooDeep(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; depth <= MOST_LEVELS; depth++) {
    const next: unknown[] = [];
    for (const v of level) if (v !== null && typeof v === 'object') for (const own of Object.values(v)) next.push(own);
    if (!next.length) return false;
    level = next;
  }
  return level.some((v) => v !== null && typeof v === 'object');
}
