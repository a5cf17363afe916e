/** @file An index in a folder: immutable parts, and a manifest that is replaced atomically, so that a kill loses nothing. */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { hashFile, writeFrom, writeWhole } from '../../common/files.ts';
import { sealed } from '../../common/sealed.ts';
import { checkIds, checkVectors } from '../document-rows.ts';
import { VectorGraph } from '../graph/usearch.ts';
import type { Top } from '../top-k.ts';
import type { Tuned } from '../tuned.ts';
import {
  checkSettings,
  defaultSettings,
  type EncodedPart,
  encodePart,
  type IndexSettings,
  joinParts,
  type LearnedSettings,
  learnSettings,
  needsLearning,
  nothingLearned,
  placePart,
  scoresAt,
  searchParts,
  withGraph,
} from '../vector-index.ts';
import { checkFile, damaged, readChecked } from './checked-files.ts';
import { type Row, rowOf } from './documents.ts';
import { IdTable } from './ids.ts';
import { decodeLearned, encodeLearned } from './learned-file.ts';
import { FORMAT, type Manifest, type NamedFile, OWN_FILE, type PartFile, readManifest } from './manifest.ts';
import { readPartFile, type StoredPart, writePartFile } from './part-file.ts';
import { type Moved, type Postings, postingsOf, type TermCounts } from './postings.ts';
import { joinedInMemory, postingChunks, readPostings, writePostings } from './postings-file.ts';
import type { TermView } from './term-search.ts';

/** Parts are joined when there are more. */
const MOST_PARTS = 32;

/** A document as it is added: its id and whatever else is to come back with it. */
export interface IndexedDocument {
  readonly id: string;
  readonly text?: string;
  readonly metadata?: unknown;
}

export interface Found extends IndexedDocument {
  readonly score: number;
}

export interface CreateOptions {
  /** Width of the vectors; 0 for an index of postings alone. */
  dimensions: number;
  settings?: IndexSettings;
  /** What the terms of documents are, so that those of others are not taken: postings are kept of them. */
  terms?: string;
  /** Key of the encoder that made the vectors; other vectors are refused. */
  encoder?: string;
  /** Name of the index, so that the files of two are not mixed. */
  id?: string;
}

interface Part extends StoredPart {
  readonly terms?: Postings;
}

/**
 * An open index. Vectors are held in memory in their encoded form; changes are on disk when the promise of a change is fulfilled.
 * One process writes at a time; others that have it open see what was there when they opened it.
 */
export class IndexStore {
  private ids = new IdTable(() => new Uint8Array(0));
  private view: TermView | undefined;
  private busy: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly folder: string,
    private manifest: Manifest,
    private learned: LearnedSettings,
    private parts: Part[],
    private removed: Set<number>,
  ) {
    this.index();
  }

  /**
   * Makes an empty index in a new or empty folder.
   * @throws InputError where the folder holds something, or settings do not fit
   */
  static async create(
    folder: string,
    { dimensions, settings = defaultSettings, encoder, id, terms }: CreateOptions,
  ): Promise<IndexStore> {
    if (dimensions || terms === undefined) checkSettings(settings, dimensions);
    if (existsSync(folder) && (await readdir(folder)).length)
      throw new InputError({
        code: 'index.exists',
        subject: `${folder} is not empty`,
        remedy: 'open it as an index, or name a new folder',
      });
    await mkdir(folder, { recursive: true });
    const manifest: Manifest = {
      ...{ format: FORMAT, dimensions, settings, encoder, id, terms },
      parts: [],
      removed: [],
    };
    const store = new IndexStore(folder, manifest, nothingLearned, [], new Set());
    await store.save(manifest);
    return store;
  }

  /**
   * Opens an index.
   * @param terms what its postings must be of; those of others, and those whose file is missing, count as absent (`lacksTerms`)
   * @throws InputError where the folder holds none, or a file of it is damaged
   */
  static async open(folder: string, { terms }: { terms?: string } = {}): Promise<IndexStore> {
    const file = join(folder, 'index.json');
    if (!existsSync(file))
      throw new InputError({
        code: 'index.none',
        subject: `${folder} holds no index (there is no index.json)`,
        remedy: 'make one with distill index',
      });
    const read = readManifest(await readFile(file, 'utf8'), file);
    // An index without documents takes whatever terms it is asked for.
    const manifest = terms !== undefined && read.parts.length ? read : { ...read, terms };
    const learned = manifest.learned ? decodeLearned(await readChecked(folder, manifest.learned)) : nothingLearned;
    const parts: Part[] = [];
    for (const file of manifest.parts) {
      const part = placePart(await readPartFile(folder, file));
      const own = terms !== undefined && manifest.terms === terms ? file.terms : undefined;
      const there = own && existsSync(join(folder, own.name));
      parts.push({
        ...part,
        ...(file.graph && { graph: await openGraph(folder, file.graph, manifest) }),
        ...(there && { terms: await readPostings(folder, own, file.count) }),
      });
    }
    return new IndexStore(folder, manifest, learned, parts, new Set(manifest.removed));
  }

  /** Documents that a search can find. */
  get size(): number {
    return this.total - this.removed.size;
  }
  get dimensions(): number {
    return this.manifest.dimensions;
  }
  get settings(): IndexSettings {
    return this.manifest.settings;
  }
  /** How the settings were found; undefined where they were given. */
  get tuned(): Tuned | undefined {
    return this.manifest.tuned;
  }
  get id(): string | undefined {
    return this.manifest.id;
  }
  get encoder(): string | undefined {
    return this.manifest.encoder;
  }
  /** Bytes of the encoded vectors in memory. */
  get bytes(): number {
    return this.parts.reduce((n, p) => n + p.codes.length + p.exact.length, 0);
  }
  private get total(): number {
    return this.parts.reduce((n, p) => n + p.count, 0);
  }
  has(id: string): boolean {
    return this.positionOf(id) !== undefined;
  }

  /** The postings of all parts, the same value until the next change. */
  get terms(): TermView {
    const { parts, removed } = this;
    if (
      this.view?.parts.length !== parts.length ||
      this.view.removed !== removed ||
      parts.some((p, i) => p.terms !== this.view?.parts[i])
    )
      this.view = { parts: parts.map((p) => p.terms as Postings), removed, size: this.size };
    return this.view;
  }

  /** Documents of parts without postings. */
  get lacksTerms(): number {
    return this.parts.reduce((n, p) => n + (p.terms ? 0 : p.count), 0);
  }

  /**
   * Makes postings of the parts that lack them, from their documents.
   * @param terms what they are of @param save whether they are written; else they are in memory alone
   */
  restoreTerms(
    terms: string,
    termsOf: (document: IndexedDocument) => TermCounts,
    { save, signal, onDone }: { save: boolean; signal?: AbortSignal; onDone?: (documents: number) => void },
  ): Promise<void> {
    return this.inTurn(async () => {
      const parts: Part[] = [];
      const files: PartFile[] = [];
      let done = 0;
      for (const [p, part] of this.parts.entries()) {
        const file = this.manifest.parts[p];
        if (part.terms) {
          parts.push(part);
          files.push(file);
          continue;
        }
        const before = done;
        const told = { signal, onDone: (n: number) => onDone?.(before + n) };
        const chunks = await postingChunks(part.documents.all<IndexedDocument>(), part.count, termsOf, told);
        const written = save ? await writePostings(this.folder, part.count, chunks) : undefined;
        parts.push({ ...part, terms: written?.postings ?? joinedInMemory(part.count, chunks) });
        files.push({ ...file, terms: written?.at });
        done += part.count;
      }
      const manifest = { ...this.manifest, terms, parts: files };
      if (save) await this.save(manifest);
      [this.manifest, this.parts] = [manifest, parts];
    });
  }
  get(id: string): IndexedDocument | undefined {
    const at = this.positionOf(id);
    return at === undefined ? undefined : this.documentAt(at);
  }

  /**
   * Adds documents; one whose id is there is replaced.
   * @param vectors [documents.length, dimensions], in the same order
   * @param terms of each document, where the index keeps postings
   * @throws InputError for another number of vectors, a non-finite one, or a duplicate id
   */
  add(documents: readonly IndexedDocument[], vectors: Float32Array, terms?: readonly TermCounts[]): Promise<void> {
    return this.inTurn(async () => {
      const D = this.dimensions;
      this.check(documents, vectors);
      if ((this.manifest.terms === undefined) !== (terms === undefined) || (terms && terms.length !== documents.length))
        throw new RangeError(`${terms?.length ?? 'no'} lists of terms for ${documents.length} documents`);
      if (!documents.length) return;
      const table = { data: vectors, dimensions: D };
      let manifest = this.manifest;
      let learned = this.learned;
      if (!manifest.learned && needsLearning(manifest.settings)) {
        learned = await learnSettings(table, manifest.settings);
        manifest = { ...manifest, learned: await this.write('learned', encodeLearned(learned), 0) };
      }
      const encoded = D ? await encodePart(table, manifest.settings, learned) : noVectors(documents.length);
      const replaced = documents.flatMap((d) => this.positionOf(d.id) ?? []);
      const removed = new Set([...this.removed, ...replaced]);
      const own = terms && postingsOf(terms);
      const { part, file } = await this.writePart(
        encoded,
        documents.map(rowOf),
        manifest.settings,
        own && [whole(own)],
      );
      manifest = { ...manifest, parts: [...manifest.parts, file], removed: [...removed] };
      await this.save(manifest);
      [this.manifest, this.learned, this.removed] = [manifest, learned, removed];
      const first = this.total;
      this.parts = [...this.parts, part];
      for (let i = 0; i < part.count; i++) this.ids.set(first + i);
      if (this.parts.length > MOST_PARTS) await this.join(this.smallParts());
    });
  }

  /** Removes documents by id. @returns how many were there */
  remove(ids: readonly string[]): Promise<number> {
    return this.inTurn(async () => {
      const found = [...new Set(ids)].flatMap((id) => this.positionOf(id) ?? []);
      if (!found.length) return 0;
      const removed = new Set([...this.removed, ...found]);
      const manifest = { ...this.manifest, removed: [...removed] };
      await this.save(manifest);
      [this.manifest, this.removed] = [manifest, removed];
      // Many removed ones cost every scan.
      if (removed.size > 1024 && removed.size > this.size) await this.join();
      return found.length;
    });
  }

  /**
   * The k nearest documents by inner product, best first.
   * @param query [dimensions]
   */
  search(query: Float32Array, k: number): Found[] {
    return this.found(this.searchPositions(query, k));
  }

  /** Documents at positions, with their scores. */
  found({ indices, scores }: { indices: ArrayLike<number> & Iterable<number>; scores: ArrayLike<number> }): Found[] {
    return Array.from(indices, (at, i) => ({ ...this.documentAt(at), score: scores[i] }));
  }

  /** Scores of documents by id, as a search gives them. @throws RangeError where one is not there */
  scores(query: Float32Array, ids: readonly string[]): Float32Array {
    return this.scoresAt(query, this.positionsOf(ids));
  }

  /** As `scores`, of positions. */
  scoresAt(query: Float32Array, positions: ArrayLike<number>): Float32Array {
    this.checkQuery(query);
    return scoresAt(query, this.parts, this.settings, this.learned, positions);
  }

  /** Positions of documents, which hold until the next change. @throws RangeError where one is not there */
  positionsOf(ids: readonly string[]): Int32Array {
    return Int32Array.from(ids, (id) => {
      const at = this.positionOf(id);
      if (at === undefined) throw new RangeError(`there is no document ${id}`);
      return at;
    });
  }

  /** As `search`, as positions. */
  searchPositions(query: Float32Array, k: number): Top {
    this.checkQuery(query);
    return searchParts(query, this.parts, this.settings, this.learned, Math.min(k, this.size), this.removed);
  }

  private checkQuery(query: Float32Array): void {
    if (query.length !== this.dimensions)
      throw new InputError({
        code: 'index.query',
        subject: `a query of ${query.length} numbers`,
        expected: `${this.dimensions}, the width of the index`,
        remedy: 'embed it with the encoder of the index',
      });
  }

  /** Every document that a search can find, in the order in which they were added. */
  *documents(): Generator<IndexedDocument> {
    let at = 0;
    const { parts, removed } = this;
    for (const part of parts)
      for (const document of part.documents.all<IndexedDocument>()) if (!removed.has(at++)) yield document;
  }

  /**
   * Every vector that a search can find, as float32, in the order of `documents`.
   * @throws InputError where the index does not hold them as float32
   */
  vectors(): Float32Array {
    const { codec, rescore, dimensions = this.dimensions, cells } = this.settings;
    const exact = rescore?.codec === 'float32';
    if (!exact && (codec !== 'float32' || dimensions !== this.dimensions || cells))
      throw new InputError({
        code: 'index.vectors',
        subject: `${this.folder} holds its vectors as ${codec}, not as they were given`,
        remedy: 'make the index again in a new folder',
      });
    const D = this.dimensions;
    const out = new Float32Array(this.size * D);
    let [at, position] = [0, 0];
    for (const part of this.parts) {
      const { buffer, byteOffset, byteLength } = exact ? part.exact : part.codes;
      const rows = new Float32Array(buffer, byteOffset, byteLength >> 2);
      for (let i = 0; i < part.count; i++)
        if (!this.removed.has(position++)) out.set(rows.subarray(i * D, (i + 1) * D), D * at++);
    }
    return out;
  }

  /**
   * Encodes every vector again with other settings, as one part; kept whole or not at all.
   * @throws InputError where settings do not fit, or the index does not hold its vectors as float32
   */
  encodeAgain(settings: IndexSettings, tuned?: Tuned): Promise<void> {
    return this.inTurn(async () => {
      checkSettings(settings, this.dimensions);
      const vectors = { data: this.vectors(), dimensions: this.dimensions };
      const learned = await learnSettings(vectors, settings);
      const encoded = await encodePart(vectors, settings, learned);
      const kept = this.kept(0);
      const rows = kept.map(([p, i]) => p.documents.row(i));
      const { part, file } = await this.writePart(encoded, rows, settings, this.movedTerms(kept));
      const manifest: Manifest = {
        ...this.manifest,
        settings,
        tuned,
        learned: needsLearning(settings) ? await this.write('learned', encodeLearned(learned), 0) : undefined,
        parts: [file],
        removed: [],
      };
      await this.save(manifest);
      [this.manifest, this.learned, this.parts, this.removed] = [manifest, learned, [part], new Set()];
      this.index();
    });
  }

  /** Joins all parts into one and leaves removed documents out. */
  compact(): Promise<void> {
    return this.inTurn(() => this.join());
  }

  /**
   * The first of the last parts that are worth joining: larger ones before them stay, so that a document is written again only
   * when its part grows by half.
   */
  private smallParts(): number {
    let first = this.parts.length - 1;
    let sum = this.parts[first].count;
    for (; first > 0 && this.parts[first - 1].count <= 2 * sum; first--) sum += this.parts[first - 1].count;
    return first;
  }

  /** @param from the first part that is joined with those after it */
  private async join(from = 0): Promise<void> {
    const before = this.parts.slice(0, from);
    const start = before.reduce((n, p) => n + p.count, 0);
    const kept = this.kept(from);
    const encoded = this.dimensions
      ? await withGraph(joinParts(kept, this.settings), this.settings, this.dimensions)
      : noVectors(kept.length);
    const rows = kept.map(([p, i]) => p.documents.row(i));
    const { part, file } = await this.writePart(encoded, rows, this.settings, this.movedTerms(kept));
    const removed = new Set([...this.removed].filter((position) => position < start));
    const manifest = { ...this.manifest, parts: [...this.manifest.parts.slice(0, from), file], removed: [...removed] };
    await this.save(manifest);
    [this.manifest, this.parts, this.removed] = [manifest, [...before, part], removed];
    this.index();
  }

  /** Documents from a part on that are still there: the part of each, and its place in it. */
  private kept(from: number): [Part, number][] {
    const kept: [Part, number][] = [];
    let at = this.parts.slice(0, from).reduce((n, p) => n + p.count, 0);
    for (const part of this.parts.slice(from))
      for (let i = 0; i < part.count; i++) if (!this.removed.has(at++)) kept.push([part, i]);
    return kept;
  }

  /** Where the documents of the old parts stand in a new one, with their postings; nothing in an index that keeps none. */
  private movedTerms(kept: readonly (readonly [Part, number])[]): Moved[] | undefined {
    if (this.manifest.terms === undefined) return undefined;
    const moved = new Map<Part, Int32Array>();
    for (const [row, [part, i]] of kept.entries()) {
      let rows = moved.get(part);
      if (!rows) {
        rows = new Int32Array(part.count).fill(-1);
        moved.set(part, rows);
      }
      rows[i] = row;
    }
    return Array.from(moved, ([part, rows]) => ({ postings: part.terms as Postings, rows }));
  }

  /** Writes a part with its postings, and its graph, which is mapped from its file from then on. */
  private async writePart(
    encoded: EncodedPart,
    rows: readonly Row[],
    { graph }: IndexSettings,
    moved: readonly Moved[] | undefined,
  ): Promise<{ part: Part; file: PartFile }> {
    const { sizes, documents } = await writePartFile(this.folder, `part-${randomUUID()}.bin`, encoded, rows);
    const terms = moved && (await writePostings(this.folder, encoded.count, moved));
    const file: PartFile = { ...sizes, count: encoded.count, ...(terms && { terms: terms.at }) };
    const part: Part = { ...encoded, documents, ...(terms && { terms: terms.postings }) };
    if (!part.graph || !graph) return { part, file };
    const name = `graph-${randomUUID()}.bin`;
    const path = join(this.folder, name);
    await writeFrom(path, (temporary) => (part.graph as VectorGraph).save(temporary));
    const written = { name, count: part.count, hash: await hashFile(path) };
    const { dimensions } = this;
    const mapped = await VectorGraph.view(path, { count: part.count, dimensions }, graph);
    return { part: { ...part, graph: mapped }, file: { ...file, graph: written } };
  }

  private check(documents: readonly IndexedDocument[], vectors: Float32Array): void {
    checkIds(documents.map((d) => d.id));
    checkVectors(documents, vectors, this.dimensions);
  }

  private documentAt(position: number): IndexedDocument {
    const [part, row] = this.placeOf(position);
    return part.documents.at(row);
  }

  private placeOf(position: number): [Part, number] {
    let p = 0;
    let at = position;
    while (at >= this.parts[p].count) at -= this.parts[p++].count;
    return [this.parts[p], at];
  }

  private positionOf(id: string): number | undefined {
    // UTF-8 would make another id of it.
    const at = id.isWellFormed() ? this.ids.get(id) : undefined;
    return at === undefined || this.removed.has(at) ? undefined : at;
  }

  /** Gives the files of the parts back. */
  close(): void {
    for (const part of this.parts) {
      part.documents.close();
      part.terms?.close();
    }
  }

  private index(): void {
    const ids = new IdTable((position) => {
      const [part, row] = this.placeOf(position);
      return part.documents.idBytes(row);
    });
    ids.reserve(this.total);
    // Of an id that was replaced the last one is there.
    for (let at = 0; at < this.total; at++) ids.set(at);
    this.ids = ids;
  }

  /** Runs changes one after another, also after a failed one. */
  private inTurn<T>(change: () => Promise<T>): Promise<T> {
    const next = this.busy.then(change, change);
    this.busy = next.catch(() => undefined);
    return next;
  }

  /** A new file; nothing points to it before the manifest does. */
  private async write(kind: string, content: Uint8Array, count: number): Promise<NamedFile> {
    const name = `${kind}-${randomUUID()}.bin`;
    await writeWhole(join(this.folder, name), content);
    return { name, count, hash: createHash('sha256').update(content).digest('hex') };
  }

  private async save(manifest: Manifest): Promise<void> {
    await writeWhole(join(this.folder, 'index.json'), sealed(manifest));
    // The rename is on disk with the folder; then files that nothing points to can go.
    const folder = await open(this.folder, 'r');
    await folder.sync().finally(() => folder.close());
    const names = manifest.parts.flatMap((p) => [p.name, p.graph?.name, p.terms?.name]);
    const used = new Set([...names, manifest.learned?.name, 'index.json']);
    for (const name of await readdir(this.folder))
      if (OWN_FILE.test(name) && !used.has(name)) await rm(join(this.folder, name), { force: true });
  }
}

/** A part of postings alone. */
const noVectors = (count: number): EncodedPart => ({ count, codes: new Uint8Array(0), exact: new Uint8Array(0) });

/** Postings whose documents stay where they are. */
const whole = (postings: Postings): Moved => ({
  postings,
  rows: Int32Array.from({ length: postings.documents }, (_, i) => i),
});

async function openGraph(folder: string, { name, hash, count }: NamedFile, { dimensions, settings }: Manifest) {
  await checkFile(folder, { name, hash });
  const path = join(folder, name);
  try {
    return await VectorGraph.view(path, { count, dimensions }, settings.graph ?? { expansion: 1 });
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw damaged(`${path} cannot be read (${(cause as Error).message})`, cause);
  }
}
