/** @file Agreement of two rankings of the same candidates. */
import { kendallTauB } from '../math/rank-correlation.ts';

/** max(0, tau-b); 0 where a list is constant. */
export const agreementOf = (x: ArrayLike<number>, y: ArrayLike<number>): number => Math.max(0, kendallTauB(x, y) || 0);
