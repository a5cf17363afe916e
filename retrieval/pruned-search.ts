/**
 * @file The best documents of posting lists without adding up every posting: MaxScore over windows of documents, with the results
 * of the plain sum to the bit.
 */
import { Best, type Top } from './top-k.ts';

/** Numbers of postings: weights as they are, or whole numbers. */
export type ListImpacts = Float32Array | Uint8Array | Uint16Array | Uint32Array;

/** Documents that have a term, ascending, and the impact of each, above 0. It stays as it is. */
export class RankedList {
  readonly places: Int32Array | Uint32Array;
  readonly impacts: ListImpacts;
  /** Its windows, from the first search of it on, where it is long enough. */
  windows: Windows | undefined;

  constructor(places: RankedList['places'], impacts: ListImpacts) {
    this.places = places;
    this.impacts = impacts;
  }
}

/** Postings by term: `places` and `impacts` from `offsets[t]` to `offsets[t + 1]`, places ascending, impacts above 0. */
export interface PostingLists {
  readonly documents: number;
  readonly offsets: ArrayLike<number>;
  readonly places: Int32Array | Uint32Array;
  readonly impacts: Float32Array;
}

/** The list of a term, the same value each time. */
export function rankedLists({ offsets, places, impacts }: PostingLists): (term: number) => RankedList {
  const known = new Map<number, RankedList>();
  return (term) => {
    const [from, end] = [offsets[term], offsets[term + 1]];
    let list = known.get(term);
    if (!list) {
      list = new RankedList(places.subarray(from, end), impacts.subarray(from, end));
      known.set(term, list);
    }
    return list;
  };
}

/** Documents of a window: their sums fit into a core's first cache. */
const WINDOW_BITS = 12;
const WINDOW = 1 << WINDOW_BITS;
/** A list has a table of windows where it has this many postings a window: the tables are a fifth of the postings at most. */
const POSTINGS_A_WINDOW = 8;
/** Bounds are sums in another order than scores: they are raised by this share of all lists' largest impacts, far more than rounding takes. */
const RAISED = 1e-9;

/** A term of a query: its first occurrence stands for all. */
interface Term {
  readonly list: RankedList;
  /** Sum of its weights. */
  weight: number;
}

/** Where a list's postings of each window begin, and the largest impact of each. */
interface Windows {
  readonly starts: Int32Array;
  readonly largest: Float64Array;
}

/**
 * Search over posting lists of so many documents.
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
  private readonly count: number;
  private readonly sums = new Float64Array(WINDOW);
  private readonly marks = new Uint8Array(WINDOW);
  private readonly touched = new Int32Array(WINDOW);

  constructor(documents: number) {
    this.count = Math.ceil(documents / WINDOW);
  }

  /**
   * The k best documents with a posting in a list, best first; of equal scores the lower position first. A score is the sum of weight
   * x impact in the order of the lists, in double precision.
   * @param lists may repeat @param weights one a list; they may be below 0
   */
  search(lists: readonly RankedList[], weights: readonly number[], k: number): Top {
    const { terms, slots } = termsOf(lists, weights);
    const n = terms.length;
    // No more than can be found: room is taken for k.
    const most = terms.reduce((sum, t) => sum + t.list.places.length, 0);
    const best = new Best(Math.min(k, most));
    if (!k || !most) return best.sorted();
    const { count } = this;
    // [n, windows] bounds, and where the postings of each begin.
    const bounds = new Float64Array(n * count);
    const starts = new Int32Array(n * (count + 1));
    const total = new Float64Array(count);
    let slack = 0;
    for (const [i, term] of terms.entries()) {
      const own = bounds.subarray(i * count, (i + 1) * count);
      const largest = this.layOut(term.list, own, starts.subarray(i * (count + 1), (i + 1) * (count + 1)));
      for (const [q, slot] of slots.entries()) if (slot === i) slack += RAISED * Math.abs(weights[q]) * largest;
      // A document without the term has more than one with a weight below 0.
      const weight = Math.max(term.weight, 0);
      for (let w = 0; w < count; w++) {
        own[w] *= weight;
        total[w] += own[w];
      }
    }
    const order = Int32Array.from(total.keys()).sort((a, b) => total[b] - total[a] || a - b);
    const { sums, marks, touched } = this;
    const byBound = new Int32Array(n);
    /** By term: whether its list is only looked up. */
    const aside = new Uint8Array(n);
    for (const w of order) {
      if (total[w] + slack < best.least) break;
      const base = w * WINDOW;
      for (let i = 0; i < n; i++) byBound[i] = i;
      byBound.sort((a, b) => bounds[a * count + w] - bounds[b * count + w]);
      let [left, skipped] = [0, 0];
      aside.fill(0);
      for (; skipped < n; skipped++) {
        const more = left + bounds[byBound[skipped] * count + w];
        if (!(more + slack < best.least)) break;
        left = more;
        aside[byBound[skipped]] = 1;
      }
      let found = 0;
      for (let q = 0; q < slots.length; q++) {
        const i = slots[q];
        if (aside[i]) continue;
        const { places, impacts } = terms[i].list;
        const weight = weights[q];
        const end = starts[i * (count + 1) + w + 1];
        for (let at = starts[i * (count + 1) + w]; at < end; at++) {
          const d = places[at] - base;
          // Not by the sum: where weights are below 0, it can return to 0.
          if (marks[d] === 0) {
            marks[d] = 1;
            touched[found++] = d;
          }
          sums[d] += weight * impacts[at];
        }
      }
      for (let f = 0; f < found; f++) {
        const d = touched[f];
        const sum = sums[d];
        sums[d] = marks[d] = 0;
        // All lists that have the window were added up in their order: this is the score.
        if (skipped === 0) {
          if (sum >= best.least) best.offer(base + d, sum);
          continue;
        }
        let bound = left;
        let partial = sum;
        let s = skipped - 1;
        for (; s >= 0 && partial + bound + slack >= best.least; s--) {
          const i = byBound[s];
          bound -= bounds[i * count + w];
          const { list, weight } = terms[i];
          const at = find(list.places, base + d, starts[i * (count + 1) + w], starts[i * (count + 1) + w + 1]);
          if (at >= 0) partial += weight * list.impacts[at];
        }
        if (s >= 0 || partial + slack < best.least) continue;
        let score = 0;
        for (let q = 0; q < slots.length; q++) {
          const i = slots[q];
          const { places, impacts } = terms[i].list;
          const at = find(places, base + d, starts[i * (count + 1) + w], starts[i * (count + 1) + w + 1]);
          if (at >= 0) score += weights[q] * impacts[at];
        }
        best.offer(base + d, score);
      }
    }
    return best.sorted();
  }

  /** Writes the largest impact and the beginning of a list's postings by window. @returns the largest of all */
  private layOut(list: RankedList, largest: Float64Array, starts: Int32Array): number {
    const { places, impacts, windows } = list;
    const { count } = this;
    const end = places.length;
    if (windows) {
      largest.set(windows.largest);
      starts.set(windows.starts);
    } else {
      let w = 0;
      starts[0] = 0;
      for (let at = 0; at < end; at++) {
        const own = places[at] >>> WINDOW_BITS;
        while (w < own) starts[++w] = at;
        if (impacts[at] > largest[w]) largest[w] = impacts[at];
      }
      while (w < count) starts[++w] = end;
      if (end >= POSTINGS_A_WINDOW * count) list.windows = { starts: starts.slice(), largest: largest.slice() };
    }
    let most = 0;
    for (let w = 0; w < count; w++) most = Math.max(most, largest[w]);
    return most;
  }
}

/** Sums of weight x impact of given documents, in the order of the lists; 0 where one has no posting in them. */
export function listSums(
  lists: readonly RankedList[],
  weights: readonly number[],
  wanted: ArrayLike<number>,
): { sums: Float64Array; found: Uint8Array } {
  const n = wanted.length;
  const [sums, found] = [new Float64Array(n), new Uint8Array(n)];
  const order = Int32Array.from({ length: n }, (_, i) => i);
  let ascending = true;
  for (let i = 1; i < n && ascending; i++) ascending = wanted[i - 1] <= wanted[i];
  if (!ascending) order.sort((a, b) => wanted[a] - wanted[b]);
  for (const [q, { places, impacts }] of lists.entries()) {
    let from = 0;
    for (let i = 0; i < n && from < places.length; i++) {
      const d = wanted[order[i]];
      // In steps that double: what is near is found soon, and what is far in few.
      let step = 1;
      while (from + step < places.length && places[from + step] < d) step *= 2;
      from = lowest(places, d, from, Math.min(from + step + 1, places.length));
      if (from === places.length || places[from] !== d) continue;
      sums[order[i]] += weights[q] * impacts[from];
      found[order[i]] = 1;
    }
  }
  return { sums, found };
}

/** The first place from `from` to `end` that is not below d; `end` where all are. */
function lowest(places: RankedList['places'], d: number, from: number, end: number): number {
  let [low, high] = [from, end];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (places[middle] < d) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Where a document stands among postings; -1 where it does not. */
function find(places: RankedList['places'], d: number, from: number, end: number): number {
  const at = lowest(places, d, from, end);
  return at < end && places[at] === d ? at : -1;
}

/** Each list once, with the sum of its weights, and which of them each of the lists is. */
function termsOf(lists: readonly RankedList[], weights: readonly number[]): { terms: Term[]; slots: Int32Array } {
  const terms: Term[] = [];
  const slots = Int32Array.from(lists, (list, q) => {
    let slot = terms.findIndex((t) => t.list === list);
    if (slot < 0) slot = terms.push({ list, weight: 0 }) - 1;
    terms[slot].weight += weights[q];
    return slot;
  });
  return { terms, slots };
}
