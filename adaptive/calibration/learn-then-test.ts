/** @file Learn-then-Test: the cheapest setting of a fixed sequence whose mean loss is at most alpha, with confidence. */
import { InputError } from '../../common/errors.ts';
import { pValues, queriesNeeded } from './p-values.ts';

export interface RiskOptions {
  /** The mean loss that is allowed. */
  alpha: number;
  /** The chance that the promise does not hold over draws of calibration queries: 1 - confidence. */
  delta: number;
  bound?: keyof typeof pValues;
}

export interface Certified {
  /** Position of the last setting accepted; -1 where not even the first one was. */
  at: number;
  /** P-values up to the first that failed. */
  pValues: number[];
  /** Mean loss of the accepted setting on the calibration queries; 0 where none was accepted. */
  risk: number;
  /** The fewest calibration queries with which anything can be certified. */
  needed: number;
}

/**
 * Walks settings from the safest to the riskiest and stops at the first whose p-value is above delta. Since the order is fixed
 * beforehand, no correction for the number of settings is needed: the chance that the returned setting has a mean loss above
 * alpha is at most delta, for any models and any distribution of queries, if calibration and later queries are drawn alike.
 *
 * @param losses [settings][queries] in [0, 1]. The order of the settings must not depend on these queries.
 * @throws InputError where a loss is outside [0, 1], or alpha or delta outside (0, 1)
 * @source Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then Test", 2021 (arXiv 2110.01052), fixed-sequence testing
 */
export function learnThenTest(
  losses: readonly Float64Array[],
  { alpha, delta, bound = 'betting' }: RiskOptions,
): Certified {
  for (const [name, value] of Object.entries({ alpha, delta }))
    if (!(value > 0 && value < 1))
      throw new InputError({
        code: 'risk.range',
        subject: `${name} is ${value}`,
        expected: 'a number above 0 and below 1',
        remedy: 'choose for instance a risk of 0.01 with a confidence of 0.9',
      });
  const found: number[] = [];
  let at = -1;
  for (const own of losses) {
    const outside = own.findIndex((l) => !(l >= 0 && l <= 1));
    if (outside >= 0)
      throw new InputError({
        code: 'risk.loss',
        subject: `a loss is ${own[outside]}`,
        expected: 'losses from 0 to 1',
        remedy: 'clip or scale the loss',
      });
    const p = pValues[bound](own, alpha, delta);
    found.push(p);
    if (!(p <= delta)) break;
    at++;
  }
  const accepted = losses[at];
  const risk = accepted ? accepted.reduce((a, b) => a + b, 0) / Math.max(1, accepted.length) : 0;
  return { at, pValues: found, risk, needed: queriesNeeded(alpha, delta, bound) };
}
