/**
 * @file An index of a sparse student in a folder: documents' impacts as postings, queries as token weights without inference, exact
 * search by adding up the lists of a query's tokens.
 */
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { wantedFacets } from '../../retrieval/engines/facets.ts';
import { wholeWeights } from '../../retrieval/sparse/impact-files.ts';
import type { TermCounts } from '../../retrieval/store/postings.ts';
import { StoredImpacts } from '../../retrieval/store/term-search.ts';
import { addInBatches, checkCountOf, checkDocumentsKey } from '../documents/add-documents.ts';
import type { DocumentIndex, SearchDocument, SearchHit, SearchOptions } from '../documents/document-index.ts';
import { FolderIndex, type OpenedStore } from '../documents/folder-index.ts';
import { openStore } from '../documents/vectors-folder.ts';
import type { OpenSparseEncoder } from '../encoder/sparse-encoder.ts';
import { impactsOf, readSparseFile, type SparseFile } from './sparse-file.ts';

/** An open index of a sparse student: made by `createSparseIndex`, opened by `openIndex`. Searches and changes may run at the same time. */
export class SparseIndex extends FolderIndex implements DocumentIndex {
  readonly hybrid = false;
  /** Nothing of it: there are no vectors. */
  readonly settings = undefined;
  private readonly impacts: StoredImpacts;

  private constructor(
    folder: string,
    readonly encoder: OpenSparseEncoder,
    private readonly file: SparseFile,
    opened: OpenedStore,
  ) {
    super(folder, opened);
    this.impacts = new StoredImpacts(this.termsNow(), file.factor);
  }

  /** @internal */
  static async load(folder: string, encoder: OpenSparseEncoder): Promise<SparseIndex> {
    const file = await readSparseFile(folder);
    const index = new SparseIndex(folder, encoder, file, await openSparseStore(folder, file));
    await index.complete({});
    return index;
  }

  /** Postings of the index, and bytes of them in the folder. */
  get postings(): { count: number; bytes: number } {
    let [count, bytes] = [0, 0];
    for (const { tables } of this.store.terms.parts)
      for (const [i, n] of tables.counts.entries()) {
        count += n;
        bytes += n * (4 + tables.widths[i]);
      }
    return { count, bytes };
  }
  /** Of what scores depend on: the encoders of queries and documents, and how impacts are rounded. */
  get key(): string {
    const { key, documentsKey } = this.file.encoder;
    return hashParts('sparse search', key, documentsKey, impactsOf(this.file));
  }

  /**
   * The k best documents that share a token with a text, best first; fewer where fewer share one. Score = sum over the tokens of query
   * weight x impact / factor.
   * @throws InputError where k is not a whole number above 0
   */
  async search(text: string, k = 10, options: SearchOptions = {}): Promise<SearchHit[]> {
    const [found] = await this.searchMany([text], k, options);
    return found;
  }

  /** As `search`, of many texts. */
  async searchMany(texts: readonly string[], k = 10, options: SearchOptions = {}): Promise<SearchHit[][]> {
    const { filter, ...watch } = options;
    checkCountOf(k);
    const facets = wantedFacets(filter);
    let among = facets.length ? this.having(facets) : undefined;
    const found: SearchHit[][] = [];
    for (const [i, query] of this.encoder.queryWeights(texts).entries()) {
      if (i % 64 === 63) {
        await new Promise((go) => setImmediate(go));
        watch.signal?.throwIfAborted();
        watch.onProgress?.({ stage: 'search', done: i, total: texts.length, unit: 'queries' });
        // Documents may have changed during the pause.
        if (among) among = this.having(facets);
      }
      const best = among
        ? this.impacts.searchAmong(query, this.store.positionsOf(among), k)
        : this.impacts.search(query, k);
      found.push(this.store.found(best) as SearchHit[]);
    }
    return found;
  }

  /**
   * Adds documents; one whose id is there is replaced. They are encoded and written in batches: after a kill, the batches that were
   * written are there. Fulfilled when all are on disk.
   * @throws InputError for a document without an id or a text, a duplicate id, or an index that another process changes
   */
  async add(documents: Iterable<SearchDocument>, watch: RunControl & { total?: number } = {}): Promise<void> {
    await checkDocumentsKey(this.encoder, this.file.encoder.documentsKey, this.folder);
    const encoded = async (texts: Parameters<OpenSparseEncoder['documentWeights']>[0], own: RunControl) => {
      const { offsets, ids, weights } = await this.encoder.documentWeights(texts, own);
      return Array.from({ length: texts.length }, (_, d): TermCounts => {
        const row = {
          ids: ids.subarray(offsets[d], offsets[d + 1]),
          weights: weights.subarray(offsets[d], offsets[d + 1]),
        };
        return new Map(wholeWeights(row, this.file.factor).map(([id, impact]) => [String(id), impact]));
      });
    };
    const put = (batch: readonly SearchDocument[], terms: TermCounts[]): Promise<void> =>
      this.change(async () => {
        await this.store.add(batch, new Float32Array(0), terms);
        this.changed();
      });
    await addInBatches(documents, encoded, put, watch);
  }

  /** Waits for changes under way, gives the folder back to other writers and releases the encoder. */
  override async close(): Promise<void> {
    await super.close();
    await this.encoder.dispose();
  }

  protected reopened(): Promise<OpenedStore> {
    return openSparseStore(this.folder, this.file);
  }
  protected get incomplete(): boolean {
    return this.store.lacksTerms > 0;
  }
  /** Impacts cannot be made from texts without the model's work: a folder that lost them is damaged. */
  protected async completed(): Promise<void> {
    throw new InputError({
      code: 'index.damaged',
      subject: `${this.folder} lacks the postings of ${this.store.lacksTerms} documents (their file is missing, or of another version)`,
      remedy: 'restore the folder, or make the index again with distill index',
    });
  }
}

const openSparseStore = (folder: string, file: SparseFile): Promise<OpenedStore> =>
  openStore(folder, { id: file.id, key: file.encoder.documentsKey, dimensions: 0, terms: impactsOf(file) });
