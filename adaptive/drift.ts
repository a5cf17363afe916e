/** @file Detects drift: whether served queries still resemble those that a guarantee was certified on. */

export interface Drift {
  /** Two-sample Kolmogorov-Smirnov distance of the needs, and its p-value. */
  distance: number;
  pValue: number;
  /** Share of queries deferred in the stream and in calibration. */
  deferred: number;
  expected: number;
  /** True if the stream differs, so that the guarantee no longer applies. */
  drifted: boolean;
}

/**
 * Compares the rule's needs of served queries with those of calibration.
 * @param calibration needs, ascending
 * @param stream needs in any order
 * @param level chance of a false alarm for one look; a caller that looks often divides it
 * @source Kolmogorov-Smirnov, with Stephens' correction of the asymptotic p-value
 */
export function drift(
  calibration: ArrayLike<number>,
  stream: ArrayLike<number>,
  threshold: number,
  level = 0.01,
): Drift {
  const a = Float64Array.from(calibration).sort();
  const b = Float64Array.from(stream).sort();
  let [i, j, distance] = [0, 0, 0];
  while (i < a.length && j < b.length) {
    const v = Math.min(a[i], b[j]);
    while (i < a.length && a[i] <= v) i++;
    while (j < b.length && b[j] <= v) j++;
    distance = Math.max(distance, Math.abs(i / a.length - j / b.length));
  }
  const n = Math.sqrt((a.length * b.length) / (a.length + b.length));
  const pValue = a.length && b.length ? kolmogorov((n + 0.12 + 0.11 / n) * distance) : 1;
  const share = (x: Float64Array): number => x.reduce((s, v) => s + Number(v >= threshold), 0) / Math.max(1, x.length);
  return { distance, pValue, deferred: share(b), expected: share(a), drifted: pValue < level };
}

/** P[K > x] of Kolmogorov's distribution. */
function kolmogorov(x: number): number {
  if (x < 0.2) return 1;
  let sum = 0;
  for (let k = 1; k <= 100; k++) sum += 2 * (-1) ** (k - 1) * Math.exp(-2 * k * k * x * x);
  return Math.min(1, Math.max(0, sum));
}
