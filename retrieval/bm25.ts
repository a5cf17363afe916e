/** @file BM25 as Lucene computes it, exact: the order and the scores of adding up every posting of every query term. */
import { setImmediate } from 'node:timers/promises';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { offsetsOf } from '../math/ragged.ts';
import { type Analyzer, type AnalyzerChoice, type AnalyzerSpec, openAnalyzer } from './analyzer.ts';
import { listSums, PrunedSearch, type RankedList, rankedLists } from './pruned-search.ts';

/** Parameters and language of a BM25 index, and the control of the work. */
export interface Bm25Options extends RunControl {
  /** Saturation of term frequency. */
  k1?: number;
  /** Strength of length normalisation, 0 to 1. */
  b?: number;
  /** How texts are split into terms; `auto`, the default, follows the documents' script and language. */
  analyzer?: AnalyzerChoice;
}

/** Statistics of the corpus: enough to weight the terms of a query elsewhere. */
export interface Bm25Statistics {
  k1: number;
  b: number;
  analyzer: AnalyzerSpec;
  /** Documents, and their mean length in terms. */
  documents: number;
  averageLength: number;
  /** Terms and their document frequencies. */
  terms: string[];
  frequencies: Int32Array;
}

/** An index over a corpus, in memory. */
export interface Bm25 {
  /** Positions of the best documents that share a word with the query, best first; of equal scores the lower first. */
  search(query: string, k: number): { indices: Int32Array; scores: Float32Array };
  /** Scores of given documents; 0 where one shares no word with the query. */
  scores(query: string, documents: ArrayLike<number> & Iterable<number>): Float32Array;
  readonly analyzer: Analyzer;
  /** Why the analyzer was chosen, where it was chosen by the documents. */
  readonly reason?: string;
  /** Statistics to weight a query elsewhere: document frequencies, lengths, analyzer, k1 and b. */
  statistics(): Bm25Statistics;
}

/** Places of postings are 32 bits. */
const MOST_POSTINGS = 2 ** 31 - 1;
/** Documents between checks of the abort signal. */
const YIELD_EVERY = 2048;

/**
 * Indexes documents.
 *
 *     score(q, d) = sum over t in q of ln(1 + (N - df + 0.5) / (df + 0.5)) tf / (tf + k1 (1 - b + b |d| / avg|d|))
 *
 * @throws InputError where there is no stemmer of that name, and for more postings than an index holds
 * @source Kamphuis et al., "Which BM25 do you mean?", ECIR 2020 (variant "Lucene (accurate)")
 */
export async function bm25(
  documents: { readonly length: number; text(i: number): string },
  options: Bm25Options = {},
): Promise<Bm25> {
  const { k1 = 0.9, b = 0.4 } = options;
  const { analyzer, reason } = openAnalyzer(options.analyzer === undefined ? 'auto' : options.analyzer, documents);
  const ids = new Map<string, number>();
  const analyze = (text: string): number[] => {
    const found: number[] = [];
    analyzer.each(text, (term) => {
      const id = ids.get(term);
      if (id !== undefined) found.push(id);
    });
    return found;
  };
  const N = documents.length;

  // One run of postings in document order; then sorted by term by counting.
  const terms = new Growing();
  const counts = new Growing();
  const ends = new Int32Array(N);
  const lengths = new Int32Array(N);
  const frequencies = new Growing();
  for (let d = 0; d < N; d++) {
    if (d % YIELD_EVERY === 0) {
      await setImmediate();
      options.signal?.throwIfAborted();
      options.onProgress?.({ stage: 'index', done: d, total: N, unit: 'documents' });
    }
    const own = new Map<number, number>();
    analyzer.each(documents.text(d), (term) => {
      let t = ids.get(term);
      if (t === undefined) {
        t = ids.size;
        ids.set(term, t);
      }
      own.set(t, (own.get(t) ?? 0) + 1);
      lengths[d]++;
    });
    for (const [t, tf] of own) {
      terms.push(t);
      counts.push(tf);
      frequencies.add(t, 1);
    }
    ends[d] = terms.length;
    if (terms.length > MOST_POSTINGS)
      throw new InputError({
        code: 'bm25.too-large',
        subject: `${N} documents have more than ${MOST_POSTINGS} different terms, each counted once a document`,
        expected: 'as many as one BM25 index holds',
        remedy: 'split the data into several folders, see docs/scale.md',
      });
  }
  options.onProgress?.({ stage: 'index', done: N, total: N, unit: 'documents' });

  const T = frequencies.length;
  const offsets = offsetsOf(frequencies.data.subarray(0, T));
  const next = offsets.slice(0, T);
  const postings = new Int32Array(terms.length);
  const impacts = new Float32Array(terms.length);
  const averageLength = lengths.reduce((n, l) => n + l, 0) / N || 1;
  for (let d = 0, at = 0; d < N; d++) {
    const saturation = k1 * (1 - b + (b * lengths[d]) / averageLength);
    for (; at < ends[d]; at++) {
      const t = terms.data[at];
      const [tf, df] = [counts.data[at], frequencies.data[t]];
      postings[next[t]] = d;
      impacts[next[t]++] = (Math.log1p((N - df + 0.5) / (df + 0.5)) * tf) / (tf + saturation);
    }
  }

  const lists = rankedLists({ documents: N, offsets, places: postings, impacts });
  const pruned = new PrunedSearch(N);
  const asked = (query: string): [RankedList[], number[]] => {
    const found = analyze(query);
    return [found.map(lists), new Array<number>(found.length).fill(1)];
  };
  return {
    search: (query, k) => pruned.search(...asked(query), k),
    scores: (query, wanted) => new Float32Array(listSums(...asked(query), wanted).sums),
    analyzer,
    reason,
    statistics: () => ({
      k1,
      b,
      analyzer: analyzer.spec,
      documents: N,
      averageLength,
      terms: [...ids.keys()],
      frequencies: frequencies.data.slice(0, T),
    }),
  };
}

/** An Int32Array that grows. */
class Growing {
  data = new Int32Array(1 << 12);
  length = 0;

  push(value: number): void {
    this.add(this.length, value);
  }

  add(at: number, value: number): void {
    if (at >= this.data.length) {
      const larger = new Int32Array(Math.max(at + 1, this.data.length * 2));
      larger.set(this.data);
      this.data = larger;
    }
    this.data[at] += value;
    this.length = Math.max(this.length, at + 1);
  }
}
