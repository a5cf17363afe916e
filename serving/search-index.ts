/**
 * @file An index of documents in a folder, searched by text: vectors, combined with BM25 where the checkpoint has a weight for
 * it.
 */
import { join } from 'node:path';
import { FaultError, InputError, shown } from '../common/errors.ts';
import { canonicalJson, hashParts } from '../common/files.ts';
import { takeLock } from '../common/lock.ts';
import type { RunControl } from '../common/progress.ts';
import type { Texts } from '../data/dataset.ts';
import { firstNotFinite } from '../math/finite.ts';
import { facetsOf, wantedFacets } from '../retrieval/engines/facets.ts';
import { LiveBm25 } from '../retrieval/live-bm25.ts';
import { hitsAmong, hybridHits } from '../retrieval/store/hybrid-hits.ts';
import type { IndexStore } from '../retrieval/store/store.ts';
import type { Tuned, TuningGoal } from '../retrieval/tuned.ts';
import { checkGoal, checkQueries, type TuneOptions, tuneIndex } from '../retrieval/tuning/tune.ts';
import type { IndexSettings } from '../retrieval/vector-index.ts';
import { addInBatches, checkDocumentsKey, queryVectors, unknownDocument } from './add-documents.ts';
import type { DocumentIndex, SearchDocument, SearchHit, SearchOptions } from './document-index.ts';
import type { OpenEncoder } from './encoder/encoder.ts';
import { type Lexical, readSearchFile, type SearchFile } from './index-file.ts';
import type { SecondStage } from './multi-vector/second-stage.ts';
import { manifestOf, openStore } from './vectors-folder.ts';

/** An open index: made by `createIndex`, opened by `openIndex`. Searches and changes may run at the same time. */
export class SearchIndex implements DocumentIndex {
  private lexical: LiveBm25 | undefined;
  private busy: Promise<unknown> = Promise.resolve();
  private unlock: (() => Promise<void>) | undefined;
  private changes = 0;

  private constructor(
    readonly folder: string,
    readonly encoder: OpenEncoder,
    private readonly file: SearchFile,
    private store: IndexStore,
    private seen: string,
    /** Re-ranks what the vectors find; absent where the checkpoint has no re-ranker. */
    readonly second?: SecondStage,
  ) {}

  /** @internal */
  static async load(
    folder: string,
    encoder: OpenEncoder,
    watch: RunControl = {},
    second?: SecondStage,
  ): Promise<SearchIndex> {
    const file = await readSearchFile(folder);
    const { store, seen } = await openStore(folder, file);
    const index = new SearchIndex(folder, encoder, file, store, seen, second);
    await index.readTexts(watch);
    return index;
  }

  /** Documents that a search can find. */
  get size(): number {
    return this.store.size;
  }
  get settings(): IndexSettings {
    return this.store.settings;
  }
  /** How the settings were found, where `tune` found them. */
  get tuned(): Tuned | undefined {
    return this.store.tuned;
  }
  /** Whether BM25 takes part in scores. */
  get hybrid(): boolean {
    return this.file.lexical !== null;
  }
  /** Bytes of the encoded vectors in memory. */
  get bytes(): number {
    return this.store.bytes;
  }
  /** Of what scores depend on: the encoders of queries and documents, and the weight of the lexical channel. */
  get key(): string {
    const first = searchKey(this.file.encoder, this.file.lexical);
    return this.second ? hashParts(first, this.second.key) : first;
  }
  /** Another number after every change of the documents: answers of before may be out of date. */
  get revision(): number {
    return this.changes;
  }
  /** Whether a document with this id can be found. */
  has(id: string): boolean {
    return this.store.has(id);
  }
  /** The document of an id; undefined where there is none. */
  get(id: string): SearchDocument | undefined {
    return this.store.get(id) as SearchDocument | undefined;
  }
  /** Every document in the order in which they were added. */
  documents(): Generator<SearchDocument> {
    return this.store.documents() as Generator<SearchDocument>;
  }

  /** Documents by id, in any order; those that are not there are left out. */
  getMany(ids: readonly string[]): SearchDocument[] {
    return ids.flatMap((id) => this.get(id) ?? []);
  }
  /** Those of some documents that are not there with the same text and metadata. */
  async missing(documents: readonly SearchDocument[]): Promise<SearchDocument[]> {
    return documents.filter((d) => {
      const own = this.get(d.id);
      if (this.second && !this.second.has(d)) return true;
      return !own || own.text !== d.text || canonicalJson(own.metadata) !== canonicalJson(d.metadata);
    });
  }

  /**
   * The k best documents for a text, best first; fewer where the index holds fewer.
   * @throws InputError where k is not a whole number above 0
   * @throws FaultError where the text's vector is not finite
   */
  async search(text: string, k = 10, options: SearchOptions = {}): Promise<SearchHit[]> {
    const [found] = await this.searchMany([text], k, options);
    return found;
  }

  /** As `search`, of many texts, which are embedded together. */
  async searchMany(texts: readonly string[], k = 10, options: SearchOptions = {}): Promise<SearchHit[][]> {
    const { filter, ...watch } = options;
    const facets = wantedFacets(filter);
    const vectors = await queryVectors(this.encoder, texts, k, watch);
    const { dimensions } = this.encoder;
    // Positions hold until the next pause.
    let among = facets.length ? this.having(facets) : undefined;
    const found: SearchHit[][] = [];
    for (const [i, text] of texts.entries()) {
      if (i % 64 === 63) {
        await new Promise((go) => setImmediate(go));
        watch.signal?.throwIfAborted();
        watch.onProgress?.({ stage: 'search', done: i, total: texts.length, unit: 'queries' });
        if (among) among = this.having(facets);
      }
      const vector = vectors.subarray(i * dimensions, (i + 1) * dimensions);
      const near = this.firstStage(vector, text, Math.max(k, this.second?.depth ?? k), among);
      found.push(this.second ? (await this.second.rerank(text, near, watch)).slice(0, k) : near);
      // Positions hold until the next pause.
      if (this.second && among) among = this.having(facets);
    }
    return found;
  }

  /** Ids of the documents whose metadata has all facets. */
  private having(facets: readonly string[]): string[] {
    const ids: string[] = [];
    for (const { id, metadata } of this.store.documents()) {
      const own = facetsOf(metadata);
      if (facets.every((f) => own.includes(f))) ids.push(id);
    }
    return ids;
  }

  /**
   * As `search`, of a text whose vector is known. @param vector as `encoder.embedQueries` gives it
   * @param text whose terms the lexical channel looks for, where there is one
   * @param among ids that can be found; all by default
   * @throws FaultError where the vector is not finite
   */
  searchVector(vector: Float32Array, text: string, k: number, among?: readonly string[]): SearchHit[] {
    if (!this.second) return this.firstStage(vector, text, k, among);
    throw new InputError({
      code: 'search.second-stage',
      subject: `${this.folder} re-ranks by the token vectors of a query's text, and its vector alone is given`,
      remedy: 'use it without a semantic cache, or make the index without a second stage (distill index --no-tokens)',
    });
  }

  private firstStage(vector: Float32Array, text: string, k: number, among?: readonly string[]): SearchHit[] {
    if (firstNotFinite(vector) >= 0)
      throw new FaultError({
        code: 'search.not-finite',
        subject: `the vector of the query '${shown(text.slice(0, 60))}' is not finite`,
        remedy: 'nothing can be found by it; use another file of the model, or leave the text out',
      });
    const weight = this.file.lexical;
    if (among) return hitsAmong(this.store, this.lexical, weight, { vector, text, k }, among) as SearchHit[];
    if (!this.lexical || !weight) return this.store.search(vector, k) as SearchHit[];
    return hybridHits(this.store, this.lexical, weight, { vector, text, k }) as SearchHit[];
  }

  /**
   * Adds documents; one whose id is there is replaced. They are embedded and written in batches: after a kill, the batches that
   * were written are there. Fulfilled when all are on disk.
   * @throws InputError for a document without an id or a text, a duplicate id, or an index that another process changes
   */
  async add(documents: Iterable<SearchDocument>, watch: RunControl & { total?: number } = {}): Promise<void> {
    await checkDocumentsKey(this.encoder, this.file.encoder.documentsKey, this.folder);
    const put = (batch: readonly SearchDocument[], vectors: Float32Array): Promise<void> =>
      this.change(async () => {
        await this.second?.add(batch, { signal: watch.signal });
        const before = batch.map((d) => this.get(d.id));
        await this.store.add(batch, vectors);
        for (const [i, document] of batch.entries()) {
          const old = before[i];
          if (old) this.lexical?.remove(old.id, old.text);
          this.lexical?.add(document.id, document.text);
        }
        this.changes++;
      });
    await addInBatches(documents, this.encoder, put, watch);
  }

  /**
   * Replaces one document.
   * @throws InputError where there is none of its id
   */
  async replace(document: SearchDocument): Promise<void> {
    if (!this.has(document.id)) throw unknownDocument(document.id);
    await this.add([document]);
  }

  /** Removes documents by id. @returns how many were there */
  remove(ids: readonly string[]): Promise<number> {
    return this.change(async () => {
      const known = [...new Set(ids)].flatMap((id) => this.get(id) ?? []);
      const removed = await this.store.remove(ids);
      for (const { id, text } of known) this.lexical?.remove(id, text);
      this.changes++;
      return removed;
    });
  }

  /**
   * Finds settings that meet a recall, or a time, on these queries, and keeps the documents in them from now on: half of the
   * queries finds them, the other half measures what was found. The index must hold its vectors as float32.
   * Recall counts what vectors alone find, also where BM25 takes part.
   * @throws InputError where there are too few queries, nothing meets the goal, or vectors are not held as float32
   */
  async tune(texts: readonly string[] | Texts, goal: TuningGoal, watch: TuneOptions = {}): Promise<Tuned> {
    checkGoal(goal);
    checkQueries(texts.length);
    if (!this.size)
      throw new InputError({
        code: 'tune.empty',
        subject: `${this.folder} holds no documents`,
        remedy: 'add documents before settings are searched for',
      });
    const { dimensions } = this.encoder;
    const queries = await this.encoder.embedQueries(texts, watch);
    const documents = { data: this.store.vectors(), dimensions };
    const tuned = await tuneIndex(documents, queries, goal, watch);
    await this.change(() => this.store.encodeAgain(tuned.settings, tuned));
    return tuned;
  }

  /** Joins the parts of the index into one, for the fastest search. */
  compact(): Promise<void> {
    return this.change(() => this.store.compact());
  }

  /**
   * Takes the folder for this process until the index is closed, as the first change does.
   * @throws InputError where another process has it
   */
  claim(): Promise<void> {
    return this.change(async () => {});
  }

  /** Waits for changes under way, gives the folder back to other writers and releases the encoder. */
  async close(): Promise<void> {
    await this.busy;
    await this.unlock?.();
    this.unlock = undefined;
    this.store.close();
    await this.second?.close();
    await this.encoder.dispose();
  }

  /** One change after the other, also after one that failed; the first takes the folder for this process. */
  private change<T>(work: () => Promise<T>): Promise<T> {
    const next = this.busy.then(async () => {
      await this.own();
      return work();
    });
    this.busy = next.catch(() => undefined);
    return next;
  }

  /** The folder is this process's alone from now on; what another one wrote since it was opened is read. */
  private async own(): Promise<void> {
    if (this.unlock) return;
    const unlock = await takeLock(join(this.folder, 'index.lock'), `the index ${this.folder}`);
    try {
      if ((await manifestOf(this.folder)) !== this.seen) {
        const { store, seen } = await openStore(this.folder, this.file);
        [this.store, this.seen] = [store, seen];
        this.changes++;
        await this.readTexts({});
      }
      this.unlock = unlock;
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  private async readTexts({ onProgress, signal }: RunControl): Promise<void> {
    if (!this.file.lexical) return;
    const lexical = new LiveBm25(this.file.lexical);
    const total = this.store.size;
    let done = 0;
    for (const { id, text } of this.store.documents()) {
      lexical.add(id, text as string);
      if (++done % 2048) continue;
      await new Promise((go) => setImmediate(go));
      signal?.throwIfAborted();
      onProgress?.({ stage: 'read texts', done, total, unit: 'documents' });
    }
    this.lexical = lexical;
  }
}

/** Equal keys give equal scores, as far as the vectors' encoding allows. */
export const searchKey = (
  { key, documentsKey }: Pick<SearchFile['encoder'], 'key' | 'documentsKey'>,
  lexical: Lexical | null,
): string => hashParts('search', key, documentsKey, lexical ? canonicalJson(lexical) : '');
