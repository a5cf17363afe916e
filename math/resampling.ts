/** @file Significance of differences: bootstrap over queries, sign-flip randomisation, Holm's correction. */
import { Random } from './random.ts';

/** Number of resamples, seed and confidence level. */
export interface Resampling {
  /** Resamples or sign flips; 10,000 by default. */
  samples?: number;
  seed?: number;
  /** Confidence level; 0.95 by default. */
  confidence?: number;
}

/** A confidence interval. */
export interface Interval {
  value: number;
  low: number;
  high: number;
}

/** Arithmetic mean; 0 for an empty list. */
export const mean = (values: ArrayLike<number>): number => {
  let s = 0;
  for (let i = 0; i < values.length; i++) s += values[i];
  return s / Math.max(1, values.length);
};

/** Linear interpolation between order statistics (R's type 7, NumPy's default). */
export function quantile(values: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(values).sort();
  if (!sorted.length) return Number.NaN;
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

/**
 * Percentile bootstrap of a statistic over queries drawn with replacement (Efron 1979).
 * @param statistic of drawn positions, each in [0, n)
 */
export const bootstrap = (
  n: number,
  statistic: (positions: Int32Array) => number,
  options: Resampling = {},
): Interval => bootstraps(n, [statistic], options)[0];

/** Several statistics of the same draws: each interval is the one that `bootstrap` gives. */
function bootstraps(
  n: number,
  statistics: readonly ((positions: Int32Array) => number)[],
  { samples = 10_000, seed = 0, confidence = 0.95 }: Resampling,
): Interval[] {
  const positions = new Int32Array(n);
  for (let i = 0; i < n; i++) positions[i] = i;
  const values = statistics.map((statistic) => statistic(positions));
  const random = Random.of(seed, 'bootstrap');
  const drawn = statistics.map(() => new Float64Array(samples));
  for (let s = 0; s < samples; s++) {
    for (let i = 0; i < n; i++) positions[i] = random.integer(n);
    for (const [k, statistic] of statistics.entries()) drawn[k][s] = statistic(positions);
  }
  return values.map((value, k) => {
    const finite = drawn[k].filter(Number.isFinite);
    return { value, low: quantile(finite, (1 - confidence) / 2), high: quantile(finite, (1 + confidence) / 2) };
  });
}

/** Bootstrap interval of the mean of one value a query. */
export const bootstrapMean = (values: ArrayLike<number>, options?: Resampling): Interval =>
  bootstrap(
    values.length,
    (at) => {
      let s = 0;
      for (let i = 0; i < at.length; i++) s += values[at[i]];
      return s / at.length;
    },
    options,
  );

/**
 * The quality of one system relative to another: mean(a) / mean(b) over the same queries, with a bootstrap interval of the ratio.
 * 'Keeps at least 95 %' is shown by a lower end of at least 0.95, never by a difference that is not significant.
 */
export const retention = (a: ArrayLike<number>, b: ArrayLike<number>, options: Resampling = {}): Interval =>
  retentions([[a, b]], options)[0];

/** `retention` of several metrics of the same queries. @param pairs values of both systems, a metric each */
export const retentions = (
  pairs: readonly (readonly [ArrayLike<number>, ArrayLike<number>])[],
  options: Resampling = {},
): Interval[] =>
  bootstraps(
    pairs[0]?.[0].length ?? 0,
    pairs.map(([a, b]) => (at: Int32Array) => {
      let [x, y] = [0, 0];
      for (let i = 0; i < at.length; i++) {
        x += a[at[i]];
        y += b[at[i]];
      }
      return x / y;
    }),
    options,
  );

/** Number of queries up to which every sign pattern is tried. */
const EXACT = 20;

/**
 * Paired randomisation test: the p-value of the mean difference when each query's sign is flipped at random,
 * p = (1 + #{|mean(s d)| >= |mean d|}) / (1 + samples); exact, without the 1, up to 20 queries (Fisher; Smucker et al. 2007).
 * @param differences one a query
 */
export function signFlip(
  differences: ArrayLike<number>,
  { samples = 10_000, seed = 0 }: Resampling = {},
): { p: number; exact: boolean } {
  const d = Float64Array.from(differences).filter((x) => x !== 0);
  const n = d.length;
  const observed = Math.abs(d.reduce((a, b) => a + b, 0));
  // Sums that differ only by rounding are ties.
  const reached = observed - 1e-12 * Math.max(1, observed);
  if (n <= EXACT) {
    let extreme = 0;
    for (let signs = 0; signs < 2 ** n; signs++) {
      let s = 0;
      for (let i = 0; i < n; i++) s += (signs >> i) & 1 ? -d[i] : d[i];
      if (Math.abs(s) >= reached) extreme++;
    }
    return { p: extreme / 2 ** n, exact: true };
  }
  const random = Random.of(seed, 'sign-flip');
  let extreme = 0;
  for (let b = 0; b < samples; b++) {
    let s = 0;
    let bits = 0;
    for (let i = 0; i < n; i++) {
      if (i % 30 === 0) bits = random.integer(1 << 30);
      s += bits & 1 ? -d[i] : d[i];
      bits >>= 1;
    }
    if (Math.abs(s) >= reached) extreme++;
  }
  return { p: (1 + extreme) / (1 + samples), exact: false };
}

/** Holm's step-down correction: adj_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), in the order given (Holm 1979). */
export function holm(ps: readonly number[]): number[] {
  const order = ps.map((_, i) => i).sort((a, b) => ps[a] - ps[b]);
  const adjusted = new Array<number>(ps.length);
  let highest = 0;
  for (const [rank, i] of order.entries()) {
    highest = Math.max(highest, Math.min(1, (ps.length - rank) * ps[i]));
    adjusted[i] = highest;
  }
  return adjusted;
}
