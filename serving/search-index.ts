/**
 * @file An index of documents in a folder, searched by text: vectors, combined with BM25 where the checkpoint has a weight for
 * it.
 */
import { FaultError, InputError, shown } from '../common/errors.ts';
import { canonicalJson, hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { Texts } from '../data/dataset.ts';
import { firstNotFinite } from '../math/finite.ts';
import { checkVectors } from '../retrieval/document-rows.ts';
import { wantedFacets } from '../retrieval/engines/facets.ts';
import { hitsAmong, hybridHits } from '../retrieval/store/hybrid-hits.ts';
import { countTerms, StoredBm25 } from '../retrieval/store/term-search.ts';
import type { Tuned, TuningGoal } from '../retrieval/tuned.ts';
import { checkGoal, checkQueries, type TuneOptions, tuneIndex } from '../retrieval/tuning/tune.ts';
import type { IndexSettings } from '../retrieval/vector-index.ts';
import { addInBatches, checkDocumentsKey, queryVectors } from './documents/add-documents.ts';
import type { DocumentIndex, SearchDocument, SearchHit, SearchOptions } from './documents/document-index.ts';
import { FolderIndex, type OpenedStore } from './documents/folder-index.ts';
import { type Lexical, readSearchFile, type SearchFile, storedAs, termsOf } from './documents/index-file.ts';
import { openStore } from './documents/vectors-folder.ts';
import type { OpenEncoder } from './encoder/encoder.ts';
import type { SecondStage } from './multi-vector/second-stage.ts';

/** An open index: made by `createIndex`, opened by `openIndex`. Searches and changes may run at the same time. */
export class SearchIndex extends FolderIndex implements DocumentIndex {
  private readonly lexical: StoredBm25 | undefined;

  private constructor(
    folder: string,
    readonly encoder: OpenEncoder,
    private readonly file: SearchFile,
    opened: OpenedStore,
    /** Re-ranks what the vectors find; absent where the checkpoint has no re-ranker. */
    readonly second?: SecondStage,
  ) {
    super(folder, opened);
    this.lexical = file.lexical ? new StoredBm25(this.termsNow(), file.lexical) : undefined;
  }

  /** @internal */
  static async load(
    folder: string,
    encoder: OpenEncoder,
    watch: RunControl = {},
    second?: SecondStage,
  ): Promise<SearchIndex> {
    const file = await readSearchFile(folder);
    const index = new SearchIndex(folder, encoder, file, await openStore(folder, storedAs(file)), second);
    await index.complete(watch);
    return index;
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
  protected override holds(document: SearchDocument): boolean {
    return super.holds(document) && (!this.second || this.second.has(document));
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
        // Before token vectors are written.
        checkVectors(batch, vectors, this.store.dimensions);
        await this.second?.add(batch, { signal: watch.signal });
        const { lexical } = this;
        await this.store.add(batch, vectors, lexical && batch.map(({ text }) => countTerms(lexical.analyzer, text)));
        this.changed();
      });
    await addInBatches(documents, (texts, own) => this.encoder.embedDocuments(texts, own), put, watch);
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

  /** Waits for changes under way, gives the folder back to other writers and releases the encoder. */
  override async close(): Promise<void> {
    await super.close();
    await this.second?.close();
    await this.encoder.dispose();
  }

  protected reopened(): Promise<OpenedStore> {
    return openStore(this.folder, storedAs(this.file));
  }

  protected get incomplete(): boolean {
    return this.lexical !== undefined && this.store.lacksTerms > 0;
  }

  /** The postings of BM25 are made from the texts. */
  protected async completed(save: boolean, { onProgress, signal }: RunControl, why?: string): Promise<void> {
    const { lexical } = this;
    const terms = termsOf(this.file.lexical);
    if (!lexical || terms === undefined) return;
    const total = this.store.lacksTerms;
    const where = save ? 'once: the folder keeps them' : `for this process alone, since ${why}`;
    const told = { stage: 'read texts', total, unit: 'documents' };
    const note = `${this.folder} has no postings of ${total} documents for BM25 (an earlier version made it, or their file is missing): they are made from the texts, ${where}`;
    onProgress?.({ ...told, done: 0, note });
    await this.store.restoreTerms(terms, ({ text }) => countTerms(lexical.analyzer, text as string), {
      save,
      signal,
      onDone: (done) => onProgress?.({ ...told, done }),
    });
  }
}

/** Equal keys give equal scores, as far as the vectors' encoding allows. */
export const searchKey = (
  { key, documentsKey }: Pick<SearchFile['encoder'], 'key' | 'documentsKey'>,
  lexical: Lexical | null,
): string => hashParts('search', key, documentsKey, lexical ? canonicalJson(lexical) : '');
