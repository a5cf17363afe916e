/** @file BM25 over a changing set of texts: the results of `bm25` over the current texts, without indexing them again. */
import { type Analyzer, type AnalyzerSpec, analyzer } from './analyzer.ts';
import { topKAmong } from './top-k.ts';

/** Postings of a term: ascending positions, and its frequency at each. */
interface Postings {
  places: Int32Array;
  counts: Int32Array;
  length: number;
}

/** Empty positions allowed before the others are renumbered. */
const MOST_EMPTY = 1024;

/**
 * A BM25 index that changes. Scores equal those of `bm25` over the texts that are there, in the order in which they were added.
 *
 *     score(q, d) = sum over t in q of ln(1 + (N - df + 0.5) / (df + 0.5)) tf / (tf + k1 (1 - b + b |d| / avg|d|))
 */
export class LiveBm25<Id extends string = string> {
  private readonly analyzer: Analyzer;
  private readonly k1: number;
  private readonly b: number;
  private readonly postings = new Map<string, Postings>();
  private ids: (Id | undefined)[] = [];
  private lengths: number[] = [];
  private places = new Map<Id, number>();
  private total = 0;
  private scratch = new Float64Array(1024);

  constructor(options: { k1: number; b: number; analyzer: AnalyzerSpec }) {
    this.analyzer = analyzer(options.analyzer);
    this.k1 = options.k1;
    this.b = options.b;
  }

  /** Texts that are there. */
  get size(): number {
    return this.places.size;
  }

  /** Position of each id in the order of adding. */
  placeOf(id: Id): number | undefined {
    return this.places.get(id);
  }

  /** @param id one that is not there: remove it first */
  add(id: Id, text: string): void {
    if (this.places.has(id)) throw new Error(`${id} is there already`);
    const place = this.ids.length;
    const { counts, length } = this.termsOf(text);
    for (const [term, count] of counts) {
      let found = this.postings.get(term);
      if (!found) {
        found = { places: new Int32Array(2), counts: new Int32Array(2), length: 0 };
        this.postings.set(term, found);
      }
      if (found.length === found.places.length)
        for (const key of ['places', 'counts'] as const) {
          const larger = new Int32Array(found.length * 2);
          larger.set(found[key]);
          found[key] = larger;
        }
      found.places[found.length] = place;
      found.counts[found.length++] = count;
    }
    this.ids.push(id);
    this.lengths.push(length);
    this.places.set(id, place);
    this.total += length;
  }

  /** @param text as it was added */
  remove(id: Id, text: string): void {
    const place = this.places.get(id);
    if (place === undefined) return;
    for (const term of this.termsOf(text).counts.keys()) {
      const found = this.postings.get(term);
      const at = found ? indexOf(found.places, place, found.length) : -1;
      if (!found || at < 0) continue;
      found.places.copyWithin(at, at + 1, found.length);
      found.counts.copyWithin(at, at + 1, found.length);
      if (--found.length === 0) this.postings.delete(term);
    }
    this.total -= this.lengths[place];
    this.places.delete(id);
    this.ids[place] = undefined;
    if (this.ids.length - this.places.size > MOST_EMPTY + this.places.size) this.renumber();
  }

  /** The best texts that share a term with the query, best first; of equal scores the one added first. */
  search(query: string, k: number): { ids: Id[]; scores: Float32Array } {
    return this.scored(query, (scores, touched) => {
      const { indices, scores: best } = topKAmong(touched, scores, k);
      return { ids: Array.from(indices, (place) => this.ids[place] as Id), scores: best };
    });
  }

  /** Scores of given texts; 0 for one that is not there or shares no term with the query. */
  scores(query: string, ids: readonly Id[]): Float32Array {
    return this.scored(query, (scores) =>
      Float32Array.from(ids, (id) => {
        const place = this.places.get(id);
        return place === undefined ? 0 : scores[place];
      }),
    );
  }

  private scored<R>(query: string, read: (scores: Float64Array, touched: number[]) => R): R {
    if (this.scratch.length < this.ids.length) this.scratch = new Float64Array(2 * this.ids.length);
    const { scratch, k1, b } = this;
    const N = this.places.size;
    const average = this.total / N || 1;
    const touched: number[] = [];
    for (const term of this.analyzer.terms(query)) {
      const found = this.postings.get(term);
      if (!found) continue;
      const idf = Math.log1p((N - found.length + 0.5) / (found.length + 0.5));
      for (let i = 0; i < found.length; i++) {
        const place = found.places[i];
        const tf = found.counts[i];
        if (scratch[place] === 0) touched.push(place);
        // In single precision, as an index of texts that stay keeps it.
        scratch[place] += Math.fround((idf * tf) / (tf + k1 * (1 - b + (b * this.lengths[place]) / average)));
      }
    }
    const result = read(scratch, touched);
    for (const place of touched) scratch[place] = 0;
    return result;
  }

  private termsOf(text: string): { counts: Map<string, number>; length: number } {
    const counts = new Map<string, number>();
    let length = 0;
    this.analyzer.each(text, (term) => {
      counts.set(term, (counts.get(term) ?? 0) + 1);
      length++;
    });
    return { counts, length };
  }

  /** Places without gaps; their order stays. */
  private renumber(): void {
    const next = new Int32Array(this.ids.length);
    const kept = this.ids.flatMap((id, place) => (id === undefined ? [] : [place]));
    for (const [i, place] of kept.entries()) next[place] = i;
    for (const found of this.postings.values())
      for (let i = 0; i < found.length; i++) found.places[i] = next[found.places[i]];
    this.lengths = kept.map((place) => this.lengths[place]);
    this.ids = kept.map((place) => this.ids[place]);
    this.places = new Map(this.ids.map((id, place) => [id as Id, place]));
  }
}

/** Position of a value in the first n of an ascending array; -1 where it is not there. */
function indexOf(values: Int32Array, value: number, n: number): number {
  let [low, high] = [0, n];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low < n && values[low] === value ? low : -1;
}
