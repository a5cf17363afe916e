/** @file The k largest of many scores: exact, or by bins with a recall that a formula gives. */

/** Positions and values, best first; of equal values the lower position first. */
export interface Top {
  readonly indices: Int32Array;
  readonly scores: Float32Array;
}

/** Whether item a ranks below item b. */
type Worse = (a: number, b: number) => boolean;

/** Moves the item at `from` down a heap of `end` items whose root is the worst. */
function sink(heap: Int32Array, from: number, end: number, worse: Worse): void {
  const item = heap[from];
  let at = from;
  for (let child = 2 * at + 1; child < end; child = 2 * at + 1) {
    if (child + 1 < end && worse(heap[child + 1], heap[child])) child++;
    if (!worse(heap[child], item)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = item;
}

function heapify(heap: Int32Array, worse: Worse): void {
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sink(heap, i, heap.length, worse);
}

/** Sorts a heap in place, best first. */
function sortHeap(heap: Int32Array, worse: Worse): void {
  for (let end = heap.length - 1; end > 0; end--) {
    const worst = heap[0];
    heap[0] = heap[end];
    heap[end] = worst;
    sink(heap, 0, end, worse);
  }
}

const worseBy =
  (values: Float32Array | Float64Array): Worse =>
  (a, b) =>
    values[a] < values[b] || (values[a] === values[b] && a > b);

/** The exact k largest, by a heap whose root is the worst kept. */
export function topK(scores: Float32Array, k: number, n = scores.length): Top {
  const size = Math.min(k, n);
  const heap = Int32Array.from({ length: size }, (_, i) => i);
  if (!size) return { indices: heap, scores: new Float32Array(0) };
  const worse = worseBy(scores);
  heapify(heap, worse);
  let least = scores[heap[0]];
  for (let i = size; i < n; i++)
    if (scores[i] > least) {
      heap[0] = i;
      sink(heap, 0, size, worse);
      least = scores[heap[0]];
    }
  sortHeap(heap, worse);
  return { indices: heap, scores: Float32Array.from(heap, (i) => scores[i]) };
}

/**
 * The k of some positions, in any order, that have the largest values.
 * @param positions each once
 */
export function topKAmong(positions: readonly number[], values: Float64Array, k: number): Top {
  const heap = Int32Array.from(positions.slice(0, k));
  const worse = worseBy(values);
  heapify(heap, worse);
  for (let i = heap.length; heap.length && i < positions.length; i++)
    if (worse(heap[0], positions[i])) {
      heap[0] = positions[i];
      sink(heap, 0, heap.length, worse);
    }
  sortHeap(heap, worse);
  return { indices: heap, scores: Float32Array.from(heap, (i) => values[i]) };
}

/** The best k of positions that come one by one, each once. */
export class Best {
  private readonly k: number;
  private readonly positions: Int32Array;
  private readonly values: Float64Array;
  private readonly heap: Int32Array;
  private readonly worse: Worse;
  private count = 0;
  /** The worst value that is kept; minus infinity as long as there are fewer than k. A lower one has no place. */
  least = Number.NEGATIVE_INFINITY;

  constructor(k: number) {
    this.k = k;
    this.positions = new Int32Array(k);
    this.values = new Float64Array(k);
    this.heap = new Int32Array(k);
    const { positions, values } = this;
    this.worse = (a, b) => values[a] < values[b] || (values[a] === values[b] && positions[a] > positions[b]);
  }

  offer(position: number, value: number): void {
    const { k, heap, positions, values, worse } = this;
    if (this.count === k) {
      if (!k || value < this.least || (value === this.least && position > positions[heap[0]])) return;
      [positions[heap[0]], values[heap[0]]] = [position, value];
      sink(heap, 0, k, worse);
    } else {
      [heap[this.count], positions[this.count], values[this.count]] = [this.count, position, value];
      if (++this.count === k) heapify(heap, worse);
    }
    if (this.count === k) this.least = values[heap[0]];
  }

  sorted(): Top {
    const heap = this.heap.slice(0, this.count);
    heapify(heap, this.worse);
    sortHeap(heap, this.worse);
    return {
      indices: heap.map((slot) => this.positions[slot]),
      scores: Float32Array.from(heap, (slot) => this.values[slot]),
    };
  }
}

/**
 * The largest of each of L bins, then the exact k largest of these. Rows i, i + L, i + 2L, ... share a bin, so neighbours, which
 * are alike in many corpora, do not.
 * @source Chern et al., "TPU-KNN", NeurIPS 2022 (arXiv 2206.14286), PartialReduce
 */
export function topKByBins(scores: Float32Array, k: number, bins: number, n = scores.length): Top {
  const L = Math.min(bins, n);
  if (L >= n) return topK(scores, k, n);
  const best = scores.slice(0, L);
  const at = Int32Array.from({ length: L }, (_, i) => i);
  for (let from = L; from < n; from += L) {
    const end = Math.min(L, n - from);
    for (let b = 0; b < end; b++)
      if (scores[from + b] > best[b]) {
        best[b] = scores[from + b];
        at[b] = from + b;
      }
  }
  const found = topK(best, k);
  return { indices: Int32Array.from(found.indices, (b) => at[b]), scores: found.scores };
}

/** Expected share of the k largest that L bins keep, if rows are in random order: L (1 - (1 - 1 / L)^k) / k. */
export const expectedRecall = (bins: number, k: number): number => (bins * (1 - (1 - 1 / bins) ** k)) / k;

/** The fewest bins with the expected recall asked for, by the bound (1 - 1 / L)^(k - 1): floor((1 - k) / ln(recall)). */
export function binsFor(recall: number, k: number): number {
  if (!(recall > 0 && recall < 1)) throw new RangeError(`recall is ${recall}, expected a number above 0 and below 1`);
  return Math.max(k, 1, Math.floor((1 - k) / Math.log(recall)));
}
