/** @file Search of a store by the postings of its parts: exact, with the documents, order and scores of adding up every posting. */
import { type Analyzer, type AnalyzerSpec, analyzer } from '../analyzer.ts';
import { listSums, PrunedSearch, RankedList } from '../pruned-search.ts';
import type { SparseVector } from '../sparse/impact-index.ts';
import { Best, type Top } from '../top-k.ts';
import { ListCache } from './list-cache.ts';
import type { PostingList, Postings, TermCounts } from './postings.ts';

/** The postings of a store as they are now. */
export interface TermView {
  /** Of each part in turn; positions are counted through all of them. */
  readonly parts: readonly Postings[];
  /** Positions that are not there any more. */
  readonly removed: ReadonlySet<number>;
  /** Documents that are there. */
  readonly size: number;
}

/** What a document has for a term: a number of its postings, or one that is made of it. @param df documents that have the term */
type Weigh = (df: number, of: { size: number; total: number }) => (value: number, length: number) => number;

/** What is derived of a view, until the store changes. */
interface Derived {
  view: TermView;
  /** [documents] 1 for one that is gone; undefined where none is. */
  gone?: Uint8Array;
  /** Sum of the lengths of those that are there. */
  total: number;
  pruned: PrunedSearch;
}

/** Posting lists of a store through all of its parts, without documents that are gone. */
class TermLists {
  private readonly store: { readonly terms: TermView };
  private readonly weigh: Weigh | undefined;
  private readonly cache = new ListCache();
  private derived: Derived | undefined;

  /** @param weigh what impacts are made of values by, in single precision; values as they are by default */
  constructor(store: { readonly terms: TermView }, weigh?: Weigh) {
    this.store = store;
    this.weigh = weigh;
  }

  search(terms: Iterable<readonly [term: string, weight: number]>, k: number): Top {
    return this.now().pruned.search(...this.asked(terms), k);
  }

  /** Sums of positions, and 1 for each that has one of the terms. */
  sums(terms: Iterable<readonly [term: string, weight: number]>, positions: ArrayLike<number>) {
    return listSums(...this.asked(terms), positions);
  }

  private asked(terms: Iterable<readonly [term: string, weight: number]>): [RankedList[], number[]] {
    const own = this.now();
    const [lists, weights]: [RankedList[], number[]] = [[], []];
    for (const [term, weight] of terms) {
      const list = this.list(term, own);
      if (!list || weight === 0) continue;
      lists.push(list);
      weights.push(weight);
    }
    return [lists, weights];
  }

  private list(term: string, own: Derived): RankedList | undefined {
    const known = this.cache.get(term);
    if (known) return known;
    const { parts } = own.view;
    const lists = parts.map((p) => p.find(term));
    if (lists.every((l) => !l)) return undefined;
    const list = this.joined(lists, own);
    this.cache.put(term, list);
    return list;
  }

  private joined(lists: readonly (PostingList | undefined)[], { view, gone, total }: Derived): RankedList {
    const df = gone ? thereIn(lists, view, gone) : lists.reduce((n, l) => n + (l?.places.length ?? 0), 0);
    const places = new Int32Array(df);
    const width = lists.reduce((most, l) => Math.max(most, l?.values.BYTES_PER_ELEMENT ?? 1), 1);
    const impacts = this.weigh
      ? new Float32Array(df)
      : new ({ 1: Uint8Array, 2: Uint16Array }[width] ?? Uint32Array)(df);
    const add = this.weigh?.(df, { size: view.size, total });
    let [first, n] = [0, 0];
    for (const [p, part] of view.parts.entries()) {
      const list = lists[p];
      const { lengths } = part.tables;
      if (list)
        for (let i = 0, { places: own, values } = list; i < own.length; i++) {
          const place = first + own[i];
          if (gone?.[place]) continue;
          places[n] = place;
          impacts[n++] = add ? add(values[i], lengths[own[i]]) : values[i];
        }
      first += part.documents;
    }
    return new RankedList(places, impacts);
  }

  private now(): Derived {
    const view = this.store.terms;
    if (this.derived?.view === view) return this.derived;
    this.cache.clear();
    const count = view.parts.reduce((n, p) => n + p.documents, 0);
    const gone = view.removed.size ? new Uint8Array(count) : undefined;
    let total = view.parts.reduce((n, p) => n + p.total, 0);
    if (gone) {
      for (const place of view.removed) gone[place] = 1;
      let first = 0;
      for (const { documents, tables } of view.parts) {
        for (let i = 0; i < documents; i++) if (gone[first + i]) total -= tables.lengths[i];
        first += documents;
      }
    }
    this.derived = { view, gone, total, pruned: new PrunedSearch(count) };
    return this.derived;
  }
}

function thereIn(lists: readonly (PostingList | undefined)[], { parts }: TermView, gone: Uint8Array): number {
  let [n, first] = [0, 0];
  for (const [p, part] of parts.entries()) {
    const places = lists[p]?.places;
    if (places) for (let i = 0; i < places.length; i++) n += 1 - gone[first + places[i]];
    first += part.documents;
  }
  return n;
}

/** What finds documents of a store by their terms. */
export interface TermChannel {
  /** The best documents that share a term with the query, as positions, best first; of equal scores the lower one. */
  search(query: string, k: number): Top;
  /** Scores of positions; 0 for one that is gone or shares no term with the query. */
  scores(query: string, positions: ArrayLike<number> & Iterable<number>): Float32Array;
}

/** Splits texts as an index keeps them: terms with their counts. */
export const countTerms = (analyzer: Analyzer, text: string): TermCounts => {
  const counts = new Map<string, number>();
  // One at a time: a long text has more terms than a list should hold.
  analyzer.each(text, (term) => counts.set(term, (counts.get(term) ?? 0) + 1));
  return counts;
};

/**
 * BM25 over the texts of a store, with the scores of `bm25` over the texts that are there.
 *
 *     score(q, d) = sum over t in q of ln(1 + (N - df + 0.5) / (df + 0.5)) tf / (tf + k1 (1 - b + b |d| / avg|d|))
 */
export class StoredBm25 implements TermChannel {
  readonly analyzer: Analyzer;
  private readonly own: TermLists;

  constructor(
    store: { readonly terms: TermView },
    { k1, b, analyzer: spec }: { k1: number; b: number; analyzer: AnalyzerSpec },
  ) {
    this.analyzer = analyzer(spec);
    this.own = new TermLists(store, (df, { size: N, total }) => {
      const average = total / N || 1;
      const idf = Math.log1p((N - df + 0.5) / (df + 0.5));
      return (tf, length) => (idf * tf) / (tf + k1 * (1 - b + (b * length) / average));
    });
  }

  search(query: string, k: number): Top {
    return this.own.search(this.asked(query), k);
  }

  scores(query: string, positions: ArrayLike<number> & Iterable<number>): Float32Array {
    return new Float32Array(this.own.sums(this.asked(query), positions).sums);
  }

  private asked(query: string): (readonly [string, number])[] {
    return this.analyzer.terms(query).map((term) => [term, 1]);
  }
}

/** Impacts of token ids in a store, each a weight times `factor`: score(q, d) = sum over t in q of weight(q, t) x impact(d, t) / factor. */
export class StoredImpacts {
  private readonly factor: number;
  private readonly own: TermLists;

  constructor(store: { readonly terms: TermView }, factor: number) {
    this.factor = factor;
    this.own = new TermLists(store);
  }

  /** The best documents that share a token with the query, as positions, best first; of equal scores the lower one. */
  search(query: SparseVector, k: number): Top {
    return this.own.search(this.asked(query), k);
  }

  /** As `search`, of some positions alone, each once. */
  searchAmong(query: SparseVector, positions: Int32Array, k: number): Top {
    const { sums, found } = this.own.sums(this.asked(query), positions);
    const best = new Best(Math.min(k, positions.length));
    for (let i = 0; i < positions.length; i++) if (found[i]) best.offer(positions[i], sums[i]);
    return best.sorted();
  }

  private asked({ ids, weights }: SparseVector): (readonly [string, number])[] {
    return Array.from(ids, (id, i) => [String(id), weights[i] / this.factor]);
  }
}
