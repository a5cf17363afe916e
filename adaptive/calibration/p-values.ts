/** @file P-values for "the mean loss is above alpha", from losses in [0, 1]; smaller values are stronger evidence against it. */
import { mean } from '../../math/resampling.ts';

/**
 * A p-value of the hypothesis that the mean of the distribution that the losses were drawn from is above `alpha`.
 * @param losses one a query, each in [0, 1], independent draws in an order that does not depend on them
 * @param delta the level that the caller compares with; used only by the betting bound to choose its bets
 */
export type PValue = (losses: Float64Array, alpha: number, delta: number) => number;

/** exp(-2 n max(0, alpha - mean)^2): the simple form that CALM uses. @source Schuster et al., NeurIPS 2022 */
export const hoeffding: PValue = (losses, alpha) =>
  Math.exp(-2 * losses.length * Math.max(0, alpha - mean(losses)) ** 2);

/**
 * min(exp(-n h1(min(mean, alpha), alpha)), e P[Bin(n, alpha) <= ceil(n mean)]). For losses of 0 and 1 it is the usual choice.
 * @source Bates et al., "Distribution-free, risk-controlling prediction sets", J. ACM 2021
 */
export const hoeffdingBentkus: PValue = (losses, alpha) => {
  const n = losses.length;
  const risk = mean(losses);
  if (n === 0 || risk >= alpha) return 1;
  // The small term keeps 15 of 100, which is 14.999... in floating point, at 15.
  const bentkus = Math.E * binomialCdf(Math.ceil(n * risk - 1e-9), n, alpha);
  return Math.min(1, Math.exp(-n * relativeEntropy(risk, alpha)), bentkus);
};

/** P[Bin(n, alpha) <= number of losses]: exact for losses of 0 and 1 alone. */
export const binomial: PValue = (losses, alpha) => {
  if (!losses.every((l) => l === 0 || l === 1)) return hoeffdingBentkus(losses, alpha, 0);
  return losses.length
    ? binomialCdf(
        losses.reduce((a, b) => a + b, 0),
        losses.length,
        alpha,
      )
    : 1;
};

/**
 * The betting bound: 1 / max_i of the wealth of a gambler who bets that the mean is below alpha,
 *
 *     K_i = prod_{j <= i} (1 - nu_j (L_j - alpha)),  nu_j = min(1, sqrt(2 ln(1 / delta) / (n s2_{j-1}))).
 *
 * Far tighter than the others where the losses are not 0 or 1 and vary little.
 * @source Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024
 */
export const betting: PValue = (losses, alpha, delta) => {
  const n = losses.length;
  let [wealth, most] = [1, 1];
  let [sum, squares, variance] = [0.5, 0.25, 0.25];
  for (let i = 0; i < n; i++) {
    const bet = Math.min(1, Math.sqrt((2 * Math.log(1 / delta)) / (n * variance)));
    wealth *= 1 - bet * (losses[i] - alpha);
    most = Math.max(most, wealth);
    sum += losses[i];
    squares += (losses[i] - sum / (i + 2)) ** 2;
    variance = squares / (i + 2);
  }
  return Math.min(1, 1 / most);
};

/** Every p-value by name. */
export const pValues = { betting, binomial, hoeffding, 'hoeffding-bentkus': hoeffdingBentkus } as const;

/** The fewest queries that can certify a mean loss of at most alpha: all of them without loss, by the bound that is used. */
export function queriesNeeded(alpha: number, delta: number, bound: keyof typeof pValues = 'binomial'): number {
  const enough = (n: number): boolean => pValues[bound](new Float64Array(n), alpha, delta) <= delta;
  let high = Math.max(1, Math.ceil(Math.log(delta) / Math.log1p(-alpha) - 1e-9));
  if (enough(high) && (high === 1 || !enough(high - 1))) return high;
  while (!enough(high)) high *= 2;
  let low = 0;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (enough(middle)) high = middle;
    else low = middle;
  }
  return high;
}

/** a ln(a / b) + (1 - a) ln((1 - a) / (1 - b)) with 0 ln 0 = 0. */
function relativeEntropy(a: number, b: number): number {
  const term = (x: number, y: number): number => (x === 0 ? 0 : x * Math.log(x / y));
  return term(a, b) + term(1 - a, 1 - b);
}

function binomialCdf(k: number, n: number, p: number): number {
  if (k >= n) return 1;
  let log = n * Math.log1p(-p);
  let sum = Math.exp(log);
  for (let i = 1; i <= k; i++) {
    log += Math.log((n - i + 1) / i) + Math.log(p) - Math.log1p(-p);
    sum += Math.exp(log);
  }
  return Math.min(1, sum);
}
