/** @file Random selection of queries: the baseline for every other selection. */
import { Random } from '../math/random.ts';
import { defineQuerySelection, type QuerySelection } from './selection.ts';

/** Uniform without replacement. */
export function random(): QuerySelection {
  return defineQuerySelection('random', [], (_, pool, budget, seed) => ({
    indices: Random.of(seed, 'select random').shuffle(pool).slice(0, budget),
  }));
}
