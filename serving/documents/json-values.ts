/** @file Values of JSON that what reads them cannot read: nested so deep that recursion ends with a stack overflow, or with a field `__proto__`. */

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

/** Whether an object of a value, which is not too deep, has a field `__proto__`: schemas leave it out, as if it were not there. */
export function hasPrototypeField(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  return Object.hasOwn(value, '__proto__') || Object.values(value).some(hasPrototypeField);
}
