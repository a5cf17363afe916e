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

/** Queries from which on resamples are drawn by weights: means of so many differ from drawn positions by less than their noise. */
export const MANY_QUERIES = 20_000;

/**
 * Poisson bootstrap of ratios of sums: in each resample a query counts as often as a Poisson variable of mean 1 says, so that
 * values are read in order, a block of queries at a time for all resamples. For many queries its intervals are those of drawn
 * positions (Hanley and MacGibbon 2006; Chamandy et al. 2012).
 * @param ratios numerators, and denominators; absent: the number of queries
 */
function poissonBootstraps(
  ratios: readonly (readonly [ArrayLike<number>, ArrayLike<number>?])[],
  { samples = 10_000, seed = 0, confidence = 0.95 }: Resampling,
): Interval[] {
  const n = ratios[0]?.[0].length ?? 0;
  const columns = ratios.flatMap(([a, b]) =>
    [a, b ?? ONES].map((x) => (x === ONES ? undefined : Float64Array.from(x))),
  );
  const sums = new Float64Array(samples * columns.length);
  const weights = new Float64Array(BLOCK);
  const random = Random.of(seed, 'bootstrap');
  // xorshift128 (Marsaglia 2003), of which each number gives two weights.
  let [x, y, z, w] = Array.from({ length: 4 }, () => random.integer(2 ** 32) | 1);
  for (let from = 0; from < n; from += BLOCK) {
    const count = Math.min(BLOCK, n - from);
    for (let s = 0; s < samples; s++) {
      for (let i = 0; i < count; i += 2) {
        const t = x ^ (x << 11);
        x = y;
        y = z;
        z = w;
        w = w ^ (w >>> 19) ^ t ^ (t >>> 8);
        weights[i] = POISSON[w & 0xffff];
        weights[i + 1] = POISSON[w >>> 16];
      }
      for (let c = 0, at = s * columns.length; c < columns.length; c++, at++)
        sums[at] += weighted(columns[c], weights, from, count);
    }
  }
  const drawn = new Float64Array(samples);
  return ratios.map((_, k) => {
    for (let s = 0; s < samples; s++) {
      const at = s * columns.length + 2 * k;
      drawn[s] = sums[at] / sums[at + 1];
    }
    const finite = drawn.filter(Number.isFinite);
    const [a, b] = [columns[2 * k] as Float64Array, columns[2 * k + 1]];
    const total = (of: Float64Array): number => of.reduce((sum, v) => sum + v, 0);
    return {
      value: total(a) / (b ? total(b) : n),
      low: quantile(finite, (1 - confidence) / 2),
      high: quantile(finite, (1 + confidence) / 2),
    };
  });
}

const ONES: ArrayLike<number> = [];
/** Queries that are read for all resamples at a time: their values stay in the cache. */
const BLOCK = 1024;

/** The weight of 16 random bits: quantiles of the Poisson distribution of mean 1. */
const POISSON = Uint8Array.from({ length: 1 << 16 }, (_, bits) => {
  let k = 0;
  for (let p = Math.exp(-1), below = p; (bits + 0.5) / (1 << 16) > below && k < 16; below += p) p /= ++k;
  return k;
});

/** Sum of some values by their weights; of the weights where there are no values. */
function weighted(values: Float64Array | undefined, weights: Float64Array, from: number, count: number): number {
  let s = 0;
  if (values) for (let i = 0; i < count; i++) s += weights[i] * values[from + i];
  else for (let i = 0; i < count; i++) s += weights[i];
  return s;
}

/** Bootstrap interval of the mean of one value a query. */
export const bootstrapMean = (values: ArrayLike<number>, options: Resampling = {}): Interval =>
  values.length >= MANY_QUERIES
    ? poissonBootstraps([[values]], options)[0]
    : bootstrap(
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
  (pairs[0]?.[0].length ?? 0) >= MANY_QUERIES ? poissonBootstraps(pairs, options) : drawnRetentions(pairs, options);

const drawnRetentions = (
  pairs: readonly (readonly [ArrayLike<number>, ArrayLike<number>])[],
  options: Resampling,
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
      // Without a branch, which would be guessed wrong half of the time.
      s += (1 - 2 * (bits & 1)) * d[i];
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
