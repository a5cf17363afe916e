/** @file Refreshes hard negatives with the current student. */
import { positionsOf } from '../math/ragged.ts';
import { Random } from '../math/random.ts';

export interface RefreshSchedule {
  /** Steps between two refreshes. */
  every: number;
  /** Steps before the first refresh: an untrained student finds poor negatives. */
  warmup?: number;
}

/** Whether negatives are refreshed before this step (0, 1, ...). */
export function refreshesAt(step: number, { every, warmup = 0 }: RefreshSchedule): boolean {
  return step >= warmup && (step - warmup) % every === 0;
}

export interface RefreshInputs {
  /** The student's current hits: k documents per query, best first (see retrieval/exact-search). */
  hits: { k: number; indices: ArrayLike<number> };
  /** Documents known to be relevant to query i: they never become negatives. */
  relevant(i: number): ReadonlySet<number>;
  /** The previous negatives, if some are to be kept: those of query i are documents[offsets[i] ..]. */
  previous?: { offsets: ArrayLike<number>; documents: ArrayLike<number> };
}

export interface RefreshOptions {
  /** Negatives a query. */
  count?: number;
  /** Number of top hits (without known positives) that they are drawn from; `count` by default. */
  depth?: number;
  /** Fraction of the previous negatives that stay, first ones first. */
  keep?: number;
  seed?: number;
}

/**
 * New negatives, drawn without replacement from the student's top hits without the known positives.
 *
 * @returns the lists, and the mean fraction of previous negatives among the new ones (NaN without previous ones)
 * @source Xiong et al., ICLR 2021 (arXiv 2007.00808)
 */
export function refreshNegatives(
  { hits, relevant, previous }: RefreshInputs,
  { count = 8, depth, keep = 0, seed = 0 }: RefreshOptions = {},
): { offsets: Int32Array; documents: Int32Array; overlap: number } {
  const n = hits.k ? hits.indices.length / hits.k : 0;
  const documents: number[] = [];
  const offsets = new Int32Array(n + 1);
  let [shared, compared] = [0, 0];
  for (let i = 0; i < n; i++) {
    const known = relevant(i);
    const before = previous ? positionsOf(previous.offsets, i).map((at) => previous.documents[at]) : [];
    const kept = before.filter((d) => !known.has(d)).slice(0, Math.round(keep * count));
    const found: number[] = [];
    for (let k = 0; k < hits.k && found.length < (depth ?? count + kept.length); k++) {
      const d = hits.indices[i * hits.k + k];
      if (d >= 0 && !known.has(d) && !kept.includes(d) && !found.includes(d)) found.push(d);
    }
    const wanted = count - kept.length;
    if (depth !== undefined) Random.of(seed, `refresh ${i}`).shuffle(found);
    const fresh = found.slice(0, wanted);
    documents.push(...kept, ...fresh);
    offsets[i + 1] = documents.length;
    if (before.length) {
      const now = new Set([...kept, ...fresh]);
      shared += before.filter((d) => now.has(d)).length / before.length;
      compared++;
    }
  }
  return { offsets, documents: Int32Array.from(documents), overlap: compared ? shared / compared : Number.NaN };
}

/** Mean overlap of the top k of two searches: near 1 once the student has converged. */
export function overlapAt(a: RefreshInputs['hits'], b: RefreshInputs['hits'], k: number): number {
  const n = a.indices.length / a.k;
  const depth = Math.min(k, a.k, b.k);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const first = new Set(Array.from({ length: depth }, (_, j) => a.indices[i * a.k + j]));
    for (let j = 0; j < depth; j++) sum += Number(first.has(b.indices[i * b.k + j]));
  }
  return n && depth ? sum / (n * depth) : Number.NaN;
}
