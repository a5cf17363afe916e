/**
 * @file The best documents of posting lists without adding up every posting: MaxScore over windows of documents, with the results
 * of the plain sum to the bit.
 */
import { Best, type Top } from './top-k.ts';

/** Postings by term: `places` and `impacts` from `offsets[t]` to `offsets[t + 1]`, places ascending, impacts above 0. */
export interface PostingLists {
  readonly documents: number;
  readonly offsets: ArrayLike<number>;
  readonly places: Int32Array | Uint32Array;
  readonly impacts: Float32Array | Uint8Array;
}

/** Documents of a window: their sums fit into a core's first cache. */
const WINDOW_BITS = 12;
const WINDOW = 1 << WINDOW_BITS;
/** A list has a table of windows where it has this many postings a window: the tables are an eighth of the postings at most. */
const POSTINGS_A_WINDOW = 8;
/** Bounds are sums in another order than scores: they are raised by far more than rounding can take from them. */
const RAISED = 1 + 1e-9;

/** A term of a query: its first occurrence stands for all. */
interface Term {
  /** Position of its list. */
  readonly list: number;
  /** Sum of its weights. */
  readonly weight: number;
}

/** Where a list's postings of each window begin, and the largest impact of each. */
interface Windows {
  readonly starts: Int32Array | Float64Array;
  readonly largest: Float32Array;
}

/**
 * Search over posting lists that stay as they are.
 *
 * Windows of documents are visited from the highest bound (the sum of each list's largest impact there) down, until a bound is
 * below the k-th best score. In a window the lists with the smallest largest impacts, as long as their sum is below that score,
 * cannot bring a document among the best by themselves: only the other lists are added up, and what these are worth is looked up
 * for the documents that can still get there.
 *
 * @source Turtle and Flood, "Query evaluation: strategies and optimizations", 1995 (MaxScore); Ding and Suel, "Faster top-k document
 * retrieval using block-max indexes", SIGIR 2011 (bounds by blocks)
 */
export class PrunedSearch {
  private readonly lists: PostingLists;
  private readonly count: number;
  private readonly windows = new Map<number, Windows>();
  private readonly sums = new Float64Array(WINDOW);
  private readonly touched = new Int32Array(WINDOW);
  /** For `scoresOf` of many documents; made where it is needed. */
  private all: Float64Array | undefined;

  constructor(lists: PostingLists) {
    this.lists = lists;
    this.count = Math.ceil(lists.documents / WINDOW);
  }

  /**
   * The k best documents with a posting in a list, best first; of equal scores the lower position first. A score is the sum of weight
   * x impact in the order of the lists, in double precision.
   * @param lists positions of lists, which may repeat
   * @param weights above 0, one a list
   */
  search(lists: readonly number[], weights: readonly number[], k: number): Top {
    const best = new Best(k);
    const terms = termsOf(lists, weights);
    const n = terms.length;
    if (!k || !n) return best.sorted();
    const { count } = this;
    const { places, impacts } = this.lists;
    // [n, windows] bounds, and where the postings of each begin.
    const bounds = new Float64Array(n * count);
    const starts = new Float64Array(n * (count + 1));
    const total = new Float64Array(count);
    for (let i = 0; i < n; i++) {
      this.layOut(terms[i], bounds.subarray(i * count, (i + 1) * count), starts.subarray(i * (count + 1)));
      for (let w = 0; w < count; w++) total[w] += bounds[i * count + w];
    }
    const order = Int32Array.from(total.keys()).sort((a, b) => total[b] - total[a] || a - b);
    const { sums, touched } = this;
    const byBound = new Int32Array(n);
    /** By term: whether its list is only looked up. */
    const aside = new Uint8Array(n);
    for (const w of order) {
      if (!(total[w] > 0) || total[w] * RAISED < best.least) break;
      const base = w * WINDOW;
      for (let i = 0; i < n; i++) byBound[i] = i;
      byBound.sort((a, b) => bounds[a * count + w] - bounds[b * count + w]);
      let [left, skipped] = [0, 0];
      aside.fill(0);
      for (; skipped < n; skipped++) {
        const more = left + bounds[byBound[skipped] * count + w];
        if (!(more * RAISED < best.least)) break;
        left = more;
        aside[byBound[skipped]] = 1;
      }
      let found = 0;
      for (let q = 0; q < lists.length; q++) {
        const i = terms.findIndex((t) => t.list === lists[q]);
        if (aside[i]) continue;
        const weight = weights[q];
        const end = starts[i * (count + 1) + w + 1];
        for (let at = starts[i * (count + 1) + w]; at < end; at++) {
          const d = places[at] - base;
          if (sums[d] === 0) touched[found++] = d;
          sums[d] += weight * impacts[at];
        }
      }
      const empty = left === 0;
      for (let f = 0; f < found; f++) {
        const d = touched[f];
        const sum = sums[d];
        sums[d] = 0;
        // All lists that have the window were added up in their order: this is the score.
        if (empty) {
          if (sum >= best.least) best.offer(base + d, sum);
          continue;
        }
        let bound = left;
        let partial = sum;
        let s = skipped - 1;
        for (; s >= 0 && (partial + bound) * RAISED >= best.least; s--) {
          const i = byBound[s];
          bound -= bounds[i * count + w];
          const at = this.find(base + d, starts[i * (count + 1) + w], starts[i * (count + 1) + w + 1]);
          if (at >= 0) partial += terms[i].weight * impacts[at];
        }
        if (s >= 0 || partial * RAISED < best.least) continue;
        let score = 0;
        for (let q = 0; q < lists.length; q++) {
          const i = terms.findIndex((t) => t.list === lists[q]);
          const at = this.find(base + d, starts[i * (count + 1) + w], starts[i * (count + 1) + w + 1]);
          if (at >= 0) score += weights[q] * impacts[at];
        }
        best.offer(base + d, score);
      }
    }
    return best.sorted();
  }

  /** Scores of given documents; 0 where one has no posting in the lists. */
  scoresOf(
    lists: readonly number[],
    weights: readonly number[],
    wanted: ArrayLike<number> & Iterable<number>,
  ): Float32Array {
    const { offsets, places, impacts, documents } = this.lists;
    let postings = 0;
    for (const t of lists) postings += offsets[t + 1] - offsets[t];
    // A look-up takes about as long as twenty postings.
    if (20 * wanted.length * lists.length < postings)
      return Float32Array.from(wanted, (d) => {
        let score = 0;
        for (const [q, t] of lists.entries()) {
          const at = this.find(d, offsets[t], offsets[t + 1]);
          if (at >= 0) score += weights[q] * impacts[at];
        }
        return score;
      });
    this.all ??= new Float64Array(documents);
    const { all } = this;
    for (const [q, t] of lists.entries())
      for (let at = offsets[t]; at < offsets[t + 1]; at++) all[places[at]] += weights[q] * impacts[at];
    const scores = Float32Array.from(wanted, (d) => all[d]);
    for (const t of lists) for (let at = offsets[t]; at < offsets[t + 1]; at++) all[places[at]] = 0;
    return scores;
  }

  /** Where a document stands among postings; -1 where it does not. */
  private find(d: number, from: number, end: number): number {
    const { places } = this.lists;
    let [low, high] = [from, end];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (places[middle] < d) low = middle + 1;
      else high = middle;
    }
    return low < end && places[low] === d ? low : -1;
  }

  /** Writes the bound and the beginning of a term's postings by window. */
  private layOut({ list, weight }: Term, bounds: Float64Array, starts: Float64Array): void {
    const { offsets, places, impacts } = this.lists;
    const [from, end] = [offsets[list], offsets[list + 1]];
    const { count } = this;
    const known = this.windows.get(list);
    if (known) {
      for (let w = 0; w < count; w++) bounds[w] = weight * known.largest[w];
      starts.set(known.starts);
      return;
    }
    let w = 0;
    starts[0] = from;
    for (let at = from; at < end; at++) {
      const own = places[at] >>> WINDOW_BITS;
      while (w < own) starts[++w] = at;
      if (impacts[at] > bounds[w]) bounds[w] = impacts[at];
    }
    while (w < count) starts[++w] = end;
    if (end - from >= POSTINGS_A_WINDOW * count)
      this.windows.set(list, { starts: compact(starts.subarray(0, count + 1)), largest: Float32Array.from(bounds) });
    for (let i = 0; i < count; i++) bounds[i] *= weight;
  }
}

const compact = (starts: Float64Array): Windows['starts'] =>
  starts[starts.length - 1] < 2 ** 31 ? Int32Array.from(starts) : starts.slice();

/** Each list once, with the sum of its weights. */
function termsOf(lists: readonly number[], weights: readonly number[]): Term[] {
  const sums = new Map<number, number>();
  for (const [q, list] of lists.entries()) sums.set(list, (sums.get(list) ?? 0) + weights[q]);
  return Array.from(sums, ([list, weight]) => ({ list, weight }));
}
