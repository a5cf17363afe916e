/** @file Documents in a folder, whatever finds them: read whole, changed by one process at a time, kept through kills. */
import { join } from 'node:path';
import { canonicalJson } from '../../common/files.ts';
import { takeLock } from '../../common/lock.ts';
import type { RunControl } from '../../common/progress.ts';
import { checkIds } from '../../retrieval/document-rows.ts';
import { facetsOf } from '../../retrieval/engines/facets.ts';
import type { IndexStore } from '../../retrieval/store/store.ts';
import type { TermView } from '../../retrieval/store/term-search.ts';
import { unknownDocument } from './add-documents.ts';
import type { SearchDocument } from './document-index.ts';
import { nestsTooDeep } from './json-values.ts';
import { manifestOf } from './vectors-folder.ts';

/** A store with the text of the manifest that it was opened by. */
export interface OpenedStore {
  store: IndexStore;
  seen: string;
}

/** What indexes in a folder share. */
export abstract class FolderIndex {
  readonly folder: string;
  protected opened: OpenedStore;
  private busy: Promise<unknown> = Promise.resolve();
  private unlock: (() => Promise<void>) | undefined;
  private changes = 0;
  /** What the folder lacked was made in memory alone. */
  private unsaved = false;

  protected constructor(folder: string, opened: OpenedStore) {
    this.folder = folder;
    this.opened = opened;
  }

  /** Reads the store again: another process has written it. */
  protected abstract reopened(): Promise<OpenedStore>;
  /** Makes what a store that was opened lacks. @param save whether it may be written: this process has the folder */
  protected abstract completed(save: boolean, watch: RunControl, why?: string): Promise<void>;
  /** Whether the store lacks something that has to be made. */
  protected abstract get incomplete(): boolean;
  abstract add(documents: Iterable<SearchDocument>, watch?: RunControl & { total?: number }): Promise<void>;

  protected get store(): IndexStore {
    return this.opened.store;
  }

  /** Documents that a search can find. */
  get size(): number {
    return this.store.size;
  }
  /** Another number after every change of the documents: answers of before may be out of date. */
  get revision(): number {
    return this.changes;
  }
  checkIds(ids: Iterable<string>): void {
    checkIds(ids);
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
    return documents.filter((d) => !this.holds(d));
  }
  /** Whether a document is there with the same text and metadata. */
  protected holds({ id, text, metadata }: SearchDocument): boolean {
    const own = this.get(id);
    // Metadata that is too deep is refused where it is added.
    if (own === undefined || own.text !== text || nestsTooDeep(metadata)) return false;
    return canonicalJson(own.metadata) === canonicalJson(metadata);
  }

  /** Ids of the documents whose metadata has all facets. */
  protected having(facets: readonly string[]): string[] {
    const ids: string[] = [];
    for (const { id, metadata } of this.store.documents()) {
      const own = facetsOf(metadata);
      if (facets.every((f) => own.includes(f))) ids.push(id);
    }
    return ids;
  }

  /** The store's postings, also after it was opened again. */
  protected termsNow(): { readonly terms: TermView } {
    const store = (): IndexStore => this.store;
    return {
      get terms() {
        return store().terms;
      },
    };
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
      const removed = await this.store.remove(ids);
      this.changed();
      return removed;
    });
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

  /** Waits for changes under way and gives the folder back to other writers. */
  async close(): Promise<void> {
    await this.busy;
    await this.unlock?.();
    this.unlock = undefined;
    this.store.close();
  }

  /** One change after the other, also after one that failed; the first takes the folder for this process. */
  protected change<T>(work: () => Promise<T>): Promise<T> {
    const next = this.busy.then(async () => {
      await this.own();
      return work();
    });
    this.busy = next.catch(() => undefined);
    return next;
  }

  /** Answers of before may be out of date. */
  protected changed(): void {
    this.changes++;
  }

  /** Makes what the folder lacks: written where this process can, else in memory. */
  protected async complete(watch: RunControl): Promise<void> {
    if (!this.incomplete) return;
    let why: string | undefined;
    const unlock = await this.takeFolder().catch((error: Error) => {
      why = error.message;
      return undefined;
    });
    try {
      if (unlock) await this.catchUp();
      if (this.incomplete) await this.completed(unlock !== undefined, watch, why);
      this.unsaved = !unlock;
      if (unlock) this.opened.seen = await manifestOf(this.folder);
    } finally {
      await unlock?.();
    }
  }

  /** The folder is this process's alone from now on; what another one wrote since it was opened is read. */
  private async own(): Promise<void> {
    if (this.unlock) return;
    const unlock = await this.takeFolder();
    try {
      if (this.unsaved || (await manifestOf(this.folder)) !== this.opened.seen) {
        this.opened = await this.reopened();
        this.changed();
        if (this.incomplete) await this.completed(true, {});
        this.unsaved = false;
      }
      this.unlock = unlock;
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  private async catchUp(): Promise<void> {
    if ((await manifestOf(this.folder)) !== this.opened.seen) this.opened = await this.reopened();
  }

  private takeFolder(): Promise<() => Promise<void>> {
    return takeLock(join(this.folder, 'index.lock'), `the index ${this.folder}`);
  }
}
