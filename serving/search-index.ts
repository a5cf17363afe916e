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
import { LiveBm25 } from '../retrieval/live-bm25.ts';
import type { IndexedDocument, IndexStore } from '../retrieval/store.ts';
import type { Tuned, TuningGoal } from '../retrieval/tuned.ts';
import { checkGoal, checkQueries, type TuneOptions, tuneIndex } from '../retrieval/tuning/tune.ts';
import type { IndexSettings } from '../retrieval/vector-index.ts';
import type { OpenEncoder } from './encoder.ts';
import { hybridHits } from './hybrid-hits.ts';
import { type Lexical, readSearchFile, type SearchFile } from './index-file.ts';
import { manifestOf, openStore } from './vectors-folder.ts';

/** A document as it is added. `text` is what is embedded and searched; `metadata` is any JSON and comes back with it. */
export interface SearchDocument extends IndexedDocument {
  readonly id: string;
  readonly text: string;
  readonly metadata?: unknown;
}

/** score = the vectors' product, plus lambda x BM25 / scale where the index has a lexical channel. */
export interface SearchHit extends SearchDocument {
  readonly score: number;
}

/** Documents embedded and written together: the most that a kill loses. */
const BATCH = 1024;

/** An open index: made by `createIndex`, opened by `openIndex`. Searches and changes may run at the same time. */
export class SearchIndex {
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
  ) {}

  /** @internal */
  static async load(folder: string, encoder: OpenEncoder, watch: RunControl = {}): Promise<SearchIndex> {
    const file = await readSearchFile(folder);
    const { store, seen } = await openStore(folder, file);
    const index = new SearchIndex(folder, encoder, file, store, seen);
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
  /** Of what scores depend on: the encoder, and the weight of the lexical channel. */
  get key(): string {
    return searchKey(this.file.encoder.key, this.file.lexical);
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

  /**
   * The k best documents for a text, best first; fewer where the index holds fewer.
   * @throws InputError where k is not a whole number above 0
   * @throws FaultError where the text's vector is not finite
   */
  async search(text: string, k = 10): Promise<SearchHit[]> {
    const [found] = await this.searchMany([text], k);
    return found;
  }

  /** As `search`, of many texts, which are embedded together. */
  async searchMany(texts: readonly string[], k = 10, watch: RunControl = {}): Promise<SearchHit[][]> {
    if (!Number.isInteger(k) || k < 1)
      throw new InputError({
        code: 'search.k',
        subject: `a search for ${k} documents`,
        expected: 'a whole number above 0',
      });
    const vectors = await this.encoder.embedQueries(texts, watch);
    const { dimensions } = this.encoder;
    const found: SearchHit[][] = [];
    for (const [i, text] of texts.entries()) {
      if (i % 64 === 63) {
        await new Promise((go) => setImmediate(go));
        watch.signal?.throwIfAborted();
        watch.onProgress?.({ stage: 'search', done: i, total: texts.length, unit: 'queries' });
      }
      found.push(this.searchVector(vectors.subarray(i * dimensions, (i + 1) * dimensions), text, k));
    }
    return found;
  }

  /**
   * As `search`, of a text whose vector is known. @param vector as `encoder.embedQueries` gives it
   * @param text whose terms the lexical channel looks for, where there is one
   * @throws FaultError where the vector is not finite
   */
  searchVector(vector: Float32Array, text: string, k: number): SearchHit[] {
    if (firstNotFinite(vector) >= 0)
      throw new FaultError({
        code: 'search.not-finite',
        subject: `the vector of the query '${shown(text.slice(0, 60))}' is not finite`,
        remedy: 'nothing can be found by it; use another file of the model, or leave the text out',
      });
    const weight = this.file.lexical;
    if (!this.lexical || !weight) return this.store.search(vector, k) as SearchHit[];
    return hybridHits(this.store, this.lexical, weight, { vector, text, k }) as SearchHit[];
  }

  /**
   * Adds documents; one whose id is there is replaced. They are embedded and written in batches: after a kill, the batches that
   * were written are there. Fulfilled when all are on disk.
   * @throws InputError for a document without an id or a text, a duplicate id, or an index that another process changes
   */
  async add(documents: Iterable<SearchDocument>, watch: RunControl & { total?: number } = {}): Promise<void> {
    const known = await this.encoder.documentsKey();
    if (known !== this.file.encoder.documentsKey)
      throw new InputError({
        code: 'index.encoder',
        subject: `the encoder of documents is not the one that ${this.folder} was made with`,
        remedy: 'name the right one, or make the index again with distill index',
      });
    let done = 0;
    const work = { stage: 'index', unit: 'documents' };
    const put = async (batch: readonly SearchDocument[]): Promise<void> => {
      checkDocuments(batch);
      const texts = { length: batch.length, ids: batch.map((d) => d.id), text: (i: number) => batch[i].text };
      const { total, onProgress, ...rest } = watch;
      const vectors = await this.encoder.embedDocuments(texts, {
        ...rest,
        onProgress: onProgress && ((p) => onProgress({ ...p, ...work, done: done + p.done, total })),
      });
      await this.change(async () => {
        const before = batch.map((d) => this.get(d.id));
        await this.store.add(batch, vectors);
        for (const [i, document] of batch.entries()) {
          const old = before[i];
          if (old) this.lexical?.remove(old.id, old.text);
          this.lexical?.add(document.id, document.text);
        }
        this.changes++;
      });
      done += batch.length;
      // Equal texts are embedded once and counted once until here.
      onProgress?.({ ...work, done, total });
    };
    let batch: SearchDocument[] = [];
    const ids = new Set<string>();
    for (const document of documents) {
      watch.signal?.throwIfAborted();
      if (ids.has(document.id))
        throw new InputError({
          code: 'index.add',
          subject: `the id '${document.id}' occurs twice`,
          expected: 'every id once',
          remedy: 'leave one of them out',
        });
      ids.add(document.id);
      batch.push(document);
      if (batch.length < BATCH) continue;
      await put(batch);
      batch = [];
    }
    if (batch.length) await put(batch);
  }

  /**
   * Replaces one document.
   * @throws InputError where there is none of its id
   */
  async replace(document: SearchDocument): Promise<void> {
    if (!this.has(document.id))
      throw new InputError({
        code: 'index.unknown',
        subject: `there is no document '${document.id}' to replace`,
        remedy: 'add it',
      });
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
export const searchKey = (encoder: string, lexical: Lexical | null): string =>
  lexical ? hashParts('hybrid', encoder, canonicalJson(lexical)) : encoder;

function checkDocuments(documents: readonly SearchDocument[]): void {
  for (const [i, { id, text }] of documents.entries())
    if (typeof text !== 'string')
      throw new InputError({
        code: 'index.add',
        subject: `document ${typeof id === 'string' ? `'${id}'` : i} has no text`,
        expected: 'a text',
        remedy: "give every document a 'text'",
      });
}
