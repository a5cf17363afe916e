/** @file Selections of diverse queries. */
import { type Rows, type ScoreLists, squaredDistance } from '../math/numbers.ts';
import { drawFrom, Random } from '../math/random.ts';
import { defineQuerySelection, type QueryInputs, type QuerySelection } from './selection.ts';
import { listUncertainty } from './uncertainty.ts';

export interface DiversityOptions {
  /** Divides the student's scores, where they weight the draw: 0.05 for cosines, 1 for logits. */
  temperature?: number;
}

/** Squared distance of each pool member to the nearest chosen one, updated with each choice. */
class Nearest {
  readonly distances: Float64Array;
  private readonly rows: Rows;
  private readonly pool: Int32Array;

  constructor(rows: Rows, pool: Int32Array, chosen: ArrayLike<number> = []) {
    this.rows = rows;
    this.pool = pool;
    this.distances = new Float64Array(pool.length).fill(Number.POSITIVE_INFINITY);
    for (let k = 0; k < chosen.length; k++) this.add(chosen[k]);
  }

  add(point: number): void {
    for (let k = 0; k < this.pool.length; k++)
      if (this.distances[k] > 0)
        this.distances[k] = Math.min(this.distances[k], squaredDistance(this.rows, this.pool[k], this.rows, point));
  }
}

/**
 * Greedy k-centre: repeatedly takes the query farthest from all chosen ones; starts at the lowest position if none is chosen yet.
 * Cost: budget x n x D.
 *
 * @source Gonzalez 1985; used on embeddings by Sener and Savarese 2018 (arXiv 1708.00489)
 */
export function farthestFirst(): QuerySelection {
  return defineQuerySelection('farthest-first', ['embeddings'], ({ embeddings, chosen }, pool, budget) => {
    const nearest = new Nearest(embeddings as Rows, pool, chosen);
    const taken: number[] = [];
    const used = new Uint8Array(pool.length);
    while (taken.length < budget) {
      let best = -1;
      for (let k = 0; k < pool.length; k++)
        if (!used[k] && (best < 0 || nearest.distances[k] > nearest.distances[best])) best = k;
      used[best] = 1;
      taken.push(pool[best]);
      nearest.add(pool[best]);
    }
    return { indices: Int32Array.from(taken) };
  });
}

/**
 * k-means++ seeding: each next query is drawn in proportion to its squared distance from the chosen ones, times its squared
 * uncertainty if the student's scores are given (as in BADGE, whose gradient embeddings are long where the student is uncertain).
 * Cost: budget x n x D.
 *
 * @source Arthur and Vassilvitskii 2007; Ash et al. 2020 (arXiv 1906.03671) for the weighting by uncertainty
 */
export function diverse({ temperature = 1 }: DiversityOptions = {}): QuerySelection {
  return defineQuerySelection('diverse', ['embeddings'], (inputs, pool, budget, seed) => {
    const weight = uncertaintyWeights(inputs, temperature);
    const nearest = new Nearest(inputs.embeddings as Rows, pool, inputs.chosen);
    const random = Random.of(seed, 'select diverse');
    const used = new Uint8Array(pool.length);
    const taken: number[] = [];
    while (taken.length < budget) {
      const k = drawFrom(
        (j) => (used[j] ? 0 : weight[pool[j]] * distanceOr1(nearest.distances[j])),
        pool.length,
        random,
      );
      const at = k >= 0 ? k : used.indexOf(0);
      used[at] = 1;
      taken.push(pool[at]);
      nearest.add(pool[at]);
    }
    return { indices: Int32Array.from(taken) };
  });
}

const distanceOr1 = (d: number): number => (Number.isFinite(d) ? d : 1);

const uncertaintyWeights = ({ student, count }: QueryInputs, temperature: number): Float64Array =>
  student
    ? listUncertainty(student as ScoreLists, 'margin', temperature).map((u) => u * u)
    : new Float64Array(count).fill(1);
