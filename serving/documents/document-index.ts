/** @file What every open index does, in a folder or in an engine of the user's own. */
import type { RunControl } from '../../common/progress.ts';
import type { MetadataFilter } from '../../retrieval/engines/facets.ts';
import type { IndexSettings } from '../../retrieval/vector-index.ts';
import type { OpenEncoder } from '../encoder/encoder.ts';
import type { OpenSparseEncoder } from '../encoder/sparse-encoder.ts';

/** A document as it is added. `text` is what is embedded and searched; `metadata` is any JSON and comes back with it. */
export interface SearchDocument {
  readonly id: string;
  readonly text: string;
  readonly metadata?: unknown;
}

/** score = the vectors' product, plus lambda x BM25 / scale where the index has a lexical channel. */
export interface SearchHit extends SearchDocument {
  readonly score: number;
}

/** What a search is limited to, and who is told of progress. */
export interface SearchOptions extends RunControl {
  /** Documents alone whose metadata has these values. */
  filter?: MetadataFilter;
}

/** Documents that are searched, added, replaced and removed. Searches and changes may run at the same time. */
export interface DocumentIndex {
  readonly folder: string;
  /** That of a sparse student where the index is of one: it has `queryWeights` in place of `embedQueries`. */
  readonly encoder: OpenEncoder | OpenSparseEncoder;
  /** Documents that a search can find, as far as this process knows. */
  readonly size: number;
  /** How vectors are stored and searched; undefined where there are none, in an index of a sparse student. */
  readonly settings: IndexSettings | undefined;
  /** Whether BM25 takes part in scores. */
  readonly hybrid: boolean;
  /** Of what scores depend on: the encoders of queries and documents, and the weight of the lexical channel. */
  readonly key: string;
  /** Whether a document with this id can be found. */
  has(id: string): boolean | Promise<boolean>;
  /** The document of an id; undefined where there is none. */
  get(id: string): SearchDocument | undefined | Promise<SearchDocument | undefined>;
  /** Documents by id, in any order; those that are not there are left out. */
  getMany(ids: readonly string[]): SearchDocument[] | Promise<SearchDocument[]>;
  /** Those of some documents that are not there with the same text and metadata. */
  missing(documents: readonly SearchDocument[]): Promise<SearchDocument[]>;
  /**
   * The k best documents for a text, best first; fewer where fewer are there.
   * @throws InputError where k is not a whole number above 0
   * @throws FaultError where the text's vector is not finite
   */
  search(text: string, k?: number, options?: SearchOptions): Promise<SearchHit[]>;
  /** As `search`, of many texts, which are embedded together. */
  searchMany(texts: readonly string[], k?: number, options?: SearchOptions): Promise<SearchHit[][]>;
  /**
   * Adds documents; one whose id is there is replaced. They are embedded and written in batches: after a kill, the batches that
   * were written are there. Fulfilled when all are written.
   * @throws InputError for a document without an id or a text, or an id that stands twice or cannot be held; documents that are
   * given as a list are all checked before the first is written
   */
  add(documents: Iterable<SearchDocument>, watch?: RunControl & { total?: number }): Promise<void>;
  /** @throws InputError for an id that is empty, stands twice, or cannot be held: `add` would refuse its document */
  checkIds(ids: Iterable<string>): void;
  /** Replaces one document. @throws InputError where there is none of its id */
  replace(document: SearchDocument): Promise<void>;
  /** Removes documents by id. @returns how many were there */
  remove(ids: readonly string[]): Promise<number>;
  /** Takes the index for this process, where one process alone may change it. @throws InputError where another one has it */
  claim(): Promise<void>;
  /** Waits for changes under way and releases the encoder. */
  close(): Promise<void>;
}
