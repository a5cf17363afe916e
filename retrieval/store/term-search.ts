/** @file Search of a store by the postings of its parts: exact, every posting of every term of a query is added up. */
import { type Analyzer, type AnalyzerSpec, analyzer } from '../analyzer.ts';
import type { SparseVector } from '../sparse/impact-index.ts';
import { type Top, topKAmong } from '../top-k.ts';
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

/** What a search adds to a document's score for a term. @param df documents that have it */
type Weigh = (df: number) => (value: number, length: number) => number;

/** What is derived of a view, until the store changes. */
interface Derived {
  view: TermView;
  /** [documents] 1 for one that is gone; undefined where none is. */
  gone?: Uint8Array;
  /** Sum of the lengths of those that are there. */
  total: number;
  scores: Float64Array;
  marks: Uint8Array;
}

class TermScores {
  private readonly store: { readonly terms: TermView };
  private derived: Derived | undefined;

  constructor(store: { readonly terms: TermView }) {
    this.store = store;
  }

  /** Documents that are there, and the sum of their lengths. */
  get statistics(): { size: number; total: number } {
    const { view, total } = this.now();
    return { size: view.size, total };
  }

  /** Runs with the scores of the documents that have one of the terms, and clears them. */
  scored<R>(
    terms: Iterable<readonly [term: string, weigh: Weigh]>,
    read: (scores: Float64Array, touched: readonly number[]) => R,
  ): R {
    const { view, gone, scores, marks } = this.now();
    const touched: number[] = [];
    for (const [term, weigh] of terms) {
      const lists = view.parts.map((p) => p.find(term));
      const df = gone ? thereIn(lists, view, gone) : lists.reduce((n, l) => n + (l?.places.length ?? 0), 0);
      if (!df) continue;
      const add = weigh(df);
      let first = 0;
      for (const [p, part] of view.parts.entries()) {
        const list = lists[p];
        const { lengths } = part.tables;
        if (list)
          for (let i = 0, { places, values } = list; i < places.length; i++) {
            const place = first + places[i];
            if (gone?.[place]) continue;
            // Not by the score: where learned weights are negative, a sum can return to 0.
            if (!marks[place]) touched.push(place);
            marks[place] = 1;
            scores[place] += add(values[i], lengths[places[i]]);
          }
        first += part.documents;
      }
    }
    const result = read(scores, touched);
    for (const place of touched) scores[place] = marks[place] = 0;
    return result;
  }

  private now(): Derived {
    const view = this.store.terms;
    const known = this.derived;
    if (known?.view === view) return known;
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
    const room = (known?.scores.length ?? 0) < count ? Math.ceil(count * 1.25) : 0;
    this.derived = {
      view,
      gone,
      total,
      scores: room || !known ? new Float64Array(room) : known.scores,
      marks: room || !known ? new Uint8Array(room) : known.marks,
    };
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
  private readonly k1: number;
  private readonly b: number;
  private readonly own: TermScores;

  constructor(store: { readonly terms: TermView }, options: { k1: number; b: number; analyzer: AnalyzerSpec }) {
    this.analyzer = analyzer(options.analyzer);
    this.k1 = options.k1;
    this.b = options.b;
    this.own = new TermScores(store);
  }

  search(query: string, k: number): Top {
    return this.own.scored(this.weighed(query), (scores, touched) => topKAmong(touched, scores, k));
  }

  scores(query: string, positions: ArrayLike<number> & Iterable<number>): Float32Array {
    return this.own.scored(this.weighed(query), (scores) => Float32Array.from(positions, (at) => scores[at]));
  }

  private weighed(query: string): (readonly [string, Weigh])[] {
    const { k1, b } = this;
    const { size: N, total } = this.own.statistics;
    const average = total / N || 1;
    const weigh: Weigh = (df) => {
      const idf = Math.log1p((N - df + 0.5) / (df + 0.5));
      // In single precision, as an index of texts that stay keeps it.
      return (tf, length) => Math.fround((idf * tf) / (tf + k1 * (1 - b + (b * length) / average)));
    };
    return this.analyzer.terms(query).map((term) => [term, weigh]);
  }
}

/** Impacts of token ids in a store, each a weight times `factor`: score(q, d) = sum over t in q of weight(q, t) x impact(d, t) / factor. */
export class StoredImpacts {
  private readonly factor: number;
  private readonly own: TermScores;

  constructor(store: { readonly terms: TermView }, factor: number) {
    this.factor = factor;
    this.own = new TermScores(store);
  }

  /** The best documents that share a token with the query, as positions, best first; of equal scores the lower one. */
  search(query: SparseVector, k: number): Top {
    return this.own.scored(this.weighed(query), (scores, touched) => topKAmong(touched, scores, k));
  }

  /** As `search`, of some positions alone. */
  searchAmong(query: SparseVector, positions: Int32Array, k: number): Top {
    const wanted = new Set(positions);
    return this.own.scored(this.weighed(query), (scores, touched) =>
      topKAmong(
        touched.filter((at) => wanted.has(at)),
        scores,
        k,
      ),
    );
  }

  private weighed({ ids, weights }: SparseVector): (readonly [string, Weigh])[] {
    return Array.from(ids, (id, i) => {
      const weight = weights[i] / this.factor;
      return [String(id), () => (impact) => weight * impact];
    });
  }
}
