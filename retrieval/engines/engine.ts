/** @file What a search engine of the user's own must do: keep documents with vectors and term weights, and find candidates. */
import type { IdLimits } from '../document-rows.ts';
import type { DocumentTerms, TermWeights } from './term-weights.ts';

/** A document as it comes back. */
export interface EngineDocument {
  readonly id: string;
  readonly text: string;
  readonly metadata?: unknown;
}

/** A document as it is written. */
export interface EngineRow extends EngineDocument {
  /** [dimensions] */
  readonly vector: Float32Array;
  /** For the lexical channel; empty without one. */
  readonly terms: DocumentTerms;
  /** Fields of the metadata that a filter can ask for. */
  readonly facets: readonly string[];
  /** Of all that the row is made of: an equal hash means that nothing has to be written. */
  readonly hash: string;
}

export interface EngineHit {
  readonly document: EngineDocument;
  readonly score: number;
}

/** How many are found, and which facets each must have. */
export interface EngineQuery {
  readonly k: number;
  readonly facets: readonly string[];
}

/** An open collection of an engine. Each call may be repeated: a row that is written twice is there once. */
export interface VectorEngine {
  /** The address with the collection, for messages; it holds no secret. */
  readonly name: string;
  /**
   * How `nearest` and `matching` find. `exact`: all documents are compared, so that the best are never missed; `approximate`: by the
   * engine's own structure. `matching: 'exact'` ranks by the weights that were written, `'own'` by the engine's scoring of the terms.
   */
  readonly finds: { readonly nearest: 'exact' | 'approximate'; readonly matching: 'exact' | 'own' };
  /** What ids it can hold; `zero` also says whether texts hold the character 0. Half surrogate pairs are held nowhere. */
  readonly holds: Omit<IdLimits, 'holder'>;
  /** The longest list that the engine gives. */
  readonly longest: number;
  /** What the collection was made with, as `create` wrote it; undefined where there is no collection. */
  about(): Promise<string | undefined>;
  /** Makes the collection. @param about kept with it @throws InputError where the engine cannot hold such vectors */
  create(about: string, dimensions: number): Promise<void>;
  /** Documents that are there. */
  size(): Promise<number>;
  /** Hashes of the rows of some ids; those that are not there are left out. */
  hashes(ids: readonly string[]): Promise<Map<string, string>>;
  /** Writes rows, each in place of the one of its id; searches see them when the promise is fulfilled. */
  put(rows: readonly EngineRow[]): Promise<void>;
  /** @returns how many were there */
  remove(ids: readonly string[]): Promise<number>;
  /** Documents by id, in any order; those that are not there are left out. */
  get(ids: readonly string[]): Promise<EngineDocument[]>;
  /** The best by inner product, best first. @param vector [dimensions] */
  nearest(vector: Float32Array, query: EngineQuery): Promise<EngineHit[]>;
  /** Documents that share terms with a query, best first; scores are the engine's own. */
  matching(terms: TermWeights, query: EngineQuery): Promise<EngineHit[]>;
  /** Inner products of some documents that are there; the others are left out. */
  products(vector: Float32Array, ids: readonly string[]): Promise<Map<string, number>>;
  /** Tidies up after many rows, where the engine asks for it. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

/** Where a collection is. */
export interface EngineAddress {
  readonly url: URL;
  readonly collection: string;
}

/** A document's terms as a text for an engine that counts them itself: each as often as it is there, with a space between. */
export const termsText = ({ terms, counts }: DocumentTerms): string =>
  terms.flatMap((term, i) => Array<string>(counts[i]).fill(asWord(term))).join(' ');

/** A query's terms likewise. */
export const queryText = ({ terms }: TermWeights): string => terms.map(asWord).join(' ');

const asWord = (term: string): string => term.replace(/\s/g, '_');
