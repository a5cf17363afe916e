/** @file Teacher-guided selection without a generator: real queries nearest to perturbed embeddings. */
import { dotRows, type Rows, squaredDistance } from '../math/numbers.ts';
import { Random } from '../math/random.ts';
import { quantile } from '../math/resampling.ts';
import { defineQuerySelection, type QuerySelection } from './selection.ts';

export interface TgtOptions {
  /** Size of the perturbation relative to the embedding; the cosine to the start is about 1 / sqrt(1 + sigma^2). */
  sigma?: number;
  /** Quantile of nearest-query distances beyond which a nearest query is rejected as too far. */
  within?: number;
}

/** Draws that estimate the usual distance to the nearest real query. */
const PILOT = 100;

/** e' = normalise(e + sigma ||e|| xi / sqrt(D)), xi standard normal. */
export function perturb(e: ArrayLike<number>, sigma: number, random: Random): Float64Array {
  const norm = Math.hypot(...Array.from(e));
  const moved = Float64Array.from(e, (v) => v + ((sigma * norm) / Math.sqrt(e.length)) * random.normal());
  const length = Math.hypot(...moved);
  return length ? moved.map((v) => v / length) : moved;
}

/**
 * Takes the pool's nearest query to each perturbed embedding of the chosen queries, each once.
 *
 * The paper decodes perturbed embeddings into new inputs; without a decoder, real unlabelled queries take their place: this
 * selects and does not generate. If too few are near enough, the nearest of the rest fill the budget and are flagged.
 *
 * @source after Zaheer et al. 2022 (arXiv 2208.06825); the form without a decoder is ours
 */
export function tgt({ sigma = 0.5, within = 0.95 }: TgtOptions = {}): QuerySelection {
  return defineQuerySelection('tgt', ['embeddings', 'chosen'], ({ embeddings, chosen = [] }, pool, budget, seed) => {
    const rows = embeddings as Rows;
    const random = Random.of(seed, 'select tgt');
    const anchors = random.shuffle(Int32Array.from(Array.from(chosen)));
    if (!anchors.length) return { indices: random.shuffle(pool).slice(0, budget), flagged: pool.slice(0, budget) };
    const left = new Set(pool);
    const draw = (k: number): { at: number; distance: number } => {
      const a = anchors[k % anchors.length] * rows.dimensions;
      const start = Array.from({ length: rows.dimensions }, (_, i) => rows.data[a + i]);
      return nearestOf({ dimensions: rows.dimensions, data: perturb(start, sigma, random) }, 0, rows, left);
    };
    const pilot = Array.from({ length: PILOT }, (_, k) => draw(k).distance);
    const limit = quantile(pilot, within);
    const [taken, far]: number[][] = [[], []];
    for (let k = PILOT; taken.length < budget && k < PILOT + 4 * budget; k++) {
      const { at, distance } = draw(k);
      if (distance > limit) continue;
      left.delete(at);
      taken.push(at);
    }
    while (taken.length < budget) {
      const { at } = nearestOf(rows, anchors[taken.length % anchors.length], rows, left);
      left.delete(at);
      far.push(at);
      taken.push(at);
    }
    return { indices: Int32Array.from(taken), ...(far.length && { flagged: Int32Array.from(far) }) };
  });
}

/** The pool member of the largest cosine (ties by the lower position) and its squared distance. */
function nearestOf(from: Rows, i: number, rows: Rows, pool: Iterable<number>): { at: number; distance: number } {
  let [at, best] = [-1, Number.NEGATIVE_INFINITY];
  for (const j of pool) {
    const cosine = dotRows(from, i, rows, j) / Math.sqrt(dotRows(rows, j, rows, j) || 1);
    if (cosine > best || (cosine === best && j < at)) [at, best] = [j, cosine];
  }
  return { at, distance: at < 0 ? 0 : squaredDistance(from, i, rows, at) };
}
