/** @file Which two tokens are joined to which, and the joining of a word's tokens. */
import { hash } from '../base/trie.ts';

export class MergeTable {
  /** Places hold 1 + the merge's number; open addressing. */
  private readonly table: Int32Array;
  private readonly left: Int32Array;
  private readonly right: Int32Array;
  private readonly result: Int32Array;
  private readonly rank: Int32Array;
  private count = 0;

  constructor(merges: number) {
    let size = 16;
    while (size < merges * 2) size *= 2;
    this.table = new Int32Array(size);
    [this.left, this.right, this.result, this.rank] = Array.from({ length: 4 }, () => new Int32Array(merges));
  }

  /** @param rank its place in the order; of equal pairs the last one counts */
  set(left: number, right: number, rank: number, result: number): void {
    let merge = this.find(left, right);
    if (merge < 0) {
      merge = this.count++;
      this.left[merge] = left;
      this.right[merge] = right;
      const mask = this.table.length - 1;
      let at = hash(left, right) & mask;
      while (this.table[at]) at = (at + 1) & mask;
      this.table[at] = merge + 1;
    }
    this.rank[merge] = rank;
    this.result[merge] = result;
  }

  private find(left: number, right: number): number {
    const mask = this.table.length - 1;
    for (let at = hash(left, right) & mask; ; at = (at + 1) & mask) {
      const merge = this.table[at] - 1;
      if (merge < 0 || (this.left[merge] === left && this.right[merge] === right)) return merge;
    }
  }

  /**
   * Joins tokens, of all pairs the one first in the order, of equals the leftmost, until none is left.
   * @source models/bpe/word.rs, merge_all, of Hugging Face's tokenizers: an entry counts while its pair gives its result
   * @param places begin and end of each symbol, and `spans` gets those of the tokens
   */
  join(symbols: readonly number[], out: number[], places?: readonly number[], spans?: number[]): void {
    const n = symbols.length;
    if (n < 2) {
      if (n) out.push(symbols[0]);
      if (n && places) spans?.push(places[0], places[1]);
      return;
    }
    const ids = Int32Array.from(symbols);
    const next = Int32Array.from(symbols, (_, i) => (i + 1 < n ? i + 1 : -1));
    const previous = Int32Array.from(symbols, (_, i) => i - 1);
    const queue = new Queue(n);
    const offer = (at: number): void => {
      const merge = this.find(ids[at], ids[next[at]]);
      if (merge >= 0) queue.push(this.rank[merge], at, this.result[merge]);
    };
    for (let i = 0; i + 1 < n; i++) offer(i);
    while (queue.pop()) {
      const { at, result } = queue;
      const after = next[at];
      if (ids[at] < 0 || after < 0) continue;
      const merge = this.find(ids[at], ids[after]);
      if (merge < 0 || this.result[merge] !== result) continue;
      ids[at] = result;
      ids[after] = -1;
      next[at] = next[after];
      if (next[at] >= 0) {
        previous[next[at]] = at;
      }
      if (previous[at] >= 0) offer(previous[at]);
      if (next[at] >= 0) offer(at);
    }
    for (let i = 0; i >= 0; i = next[i]) {
      out.push(ids[i]);
      if (places && spans) spans.push(places[2 * i], places[2 * (next[i] < 0 ? n : next[i]) - 1]);
    }
  }
}

/** A binary heap of merges that may be made, by rank and then place. */
class Queue {
  /** Rank and place in one number: both stay below 2^26. */
  private keys: Float64Array;
  private results: Int32Array;
  private size = 0;
  at = 0;
  result = 0;

  constructor(capacity: number) {
    this.keys = new Float64Array(capacity);
    this.results = new Int32Array(capacity);
  }

  push(rank: number, at: number, result: number): void {
    if (this.size === this.keys.length) {
      const keys = new Float64Array(this.size * 2);
      keys.set(this.keys);
      const results = new Int32Array(this.size * 2);
      results.set(this.results);
      [this.keys, this.results] = [keys, results];
    }
    const { keys, results } = this;
    const key = rank * PLACES + at;
    let i = this.size++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (keys[parent] <= key) break;
      keys[i] = keys[parent];
      results[i] = results[parent];
      i = parent;
    }
    keys[i] = key;
    results[i] = result;
  }

  /** Takes the first one into `at` and `result`. @returns false where none is left */
  pop(): boolean {
    if (!this.size) return false;
    const { keys, results } = this;
    this.at = keys[0] % PLACES;
    this.result = results[0];
    const last = --this.size;
    const key = keys[last];
    const result = results[last];
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= last) break;
      if (child + 1 < last && keys[child + 1] < keys[child]) child++;
      if (keys[child] >= key) break;
      keys[i] = keys[child];
      results[i] = results[child];
      i = child;
    }
    keys[i] = key;
    results[i] = result;
    return true;
  }
}

const PLACES = 2 ** 28;
