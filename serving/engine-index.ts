/** @file An index whose documents are in an engine of the user's own: the engine finds candidates, scores are added here. */
import { InputError, shown } from '../common/errors.ts';
import { canonicalJson, hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { Texts } from '../data/dataset.ts';
import { canHold, checkIds, checkVectors, type IdLimits } from '../retrieval/document-rows.ts';
import type { EngineDocument, EngineRow, VectorEngine } from '../retrieval/engines/engine.ts';
import { facetsOf, wantedFacets } from '../retrieval/engines/facets.ts';
import { heldDocument, heldValue } from '../retrieval/engines/held.ts';
import { type TermWeighing, termWeighing } from '../retrieval/engines/term-weights.ts';
import type { LexicalChannel } from '../retrieval/lexical-channel.ts';
import type { IndexSettings } from '../retrieval/vector-index.ts';
import { addInBatches, checkDocumentsKey, queryVectors, unknownDocument } from './documents/add-documents.ts';
import type { DocumentIndex, SearchDocument, SearchHit, SearchOptions } from './documents/document-index.ts';
import { nestsTooDeep } from './documents/json-values.ts';
import type { OpenEncoder } from './encoder/encoder.ts';
import { aboutOf, type EngineFile } from './engine-file.ts';
import { searchKey } from './search-index.ts';

/** Candidates that each channel finds, before they are joined. */
const DEPTH = 200;
const NO_TERMS = { terms: [], weights: [], counts: [] };

/** An open index in an engine: made by `createEngineIndex`, opened by `openIndex`. Several processes may change it. */
export class EngineIndex implements DocumentIndex {
  readonly settings: IndexSettings = { codec: 'float32' };
  private readonly weighing: TermWeighing | undefined;
  private busy: Promise<unknown> = Promise.resolve();
  /** Whether it was said that characters are replaced. */
  private replaced = false;

  private constructor(
    readonly folder: string,
    readonly encoder: OpenEncoder,
    private readonly file: EngineFile,
    private readonly channel: LexicalChannel | undefined,
    private readonly engine: VectorEngine,
    private count: number,
  ) {
    this.weighing = channel && termWeighing(channel);
  }

  /** @internal @throws InputError where the collection is not there, or was made with something else */
  static async load(
    folder: string,
    encoder: OpenEncoder,
    { file, channel }: { file: EngineFile; channel: LexicalChannel | undefined },
    engine: VectorEngine,
  ): Promise<EngineIndex> {
    const about = await engine.about();
    if (about !== aboutOf(file))
      throw new InputError({
        code: about === undefined ? 'engine.none' : 'engine.other',
        subject:
          about === undefined
            ? `there is no collection ${engine.name}, which ${folder} names`
            : `${engine.name} holds documents of another encoder, or weighed otherwise, than ${folder} names`,
        remedy: 'restore it, or index the data again into a new folder and another --collection',
      });
    return new EngineIndex(folder, encoder, file, channel, engine, await engine.size());
  }

  /** The engine's address with the collection. */
  get name(): string {
    return this.engine.name;
  }
  /** Address and collection as engine.json keeps them. */
  get place(): string {
    const { address, collection } = this.file.engine;
    return `${address}#${collection}`;
  }
  /** Documents that were there when this was last looked at: at opening, and after each change by this process. */
  get size(): number {
    return this.count;
  }
  get hybrid(): boolean {
    return this.channel !== undefined;
  }
  get key(): string {
    const { channel } = this;
    if (!channel) return searchKey(this.file.encoder, null);
    const { lambda, scale, k1, b, analyzer } = channel;
    return searchKey(this.file.encoder, { lambda, scale, k1, b, analyzer });
  }
  async has(id: string): Promise<boolean> {
    return (await this.hashes([id])).size > 0;
  }
  async get(id: string): Promise<SearchDocument | undefined> {
    return (await this.getMany([id]))[0];
  }
  getMany(ids: readonly string[]): Promise<SearchDocument[]> {
    return this.engine.get(this.holdable(ids));
  }
  async missing(documents: readonly SearchDocument[]): Promise<SearchDocument[]> {
    const there = await this.hashes(documents.map((d) => d.id));
    // Metadata that is too deep is refused where it is added.
    return documents.filter((d) => nestsTooDeep(d.metadata) || there.get(d.id) !== this.hashOf(this.held(d)));
  }

  async search(text: string, k = 10, options: SearchOptions = {}): Promise<SearchHit[]> {
    const [found] = await this.searchMany([text], k, options);
    return found;
  }

  async searchMany(texts: readonly string[], k = 10, options: SearchOptions = {}): Promise<SearchHit[][]> {
    const { filter, ...watch } = options;
    const facets = wantedFacets(heldValue(filter));
    if (k > this.engine.longest)
      throw new InputError({
        code: 'search.k',
        subject: `a search for ${k} documents`,
        expected: `at most ${this.engine.longest}, the longest list of ${this.engine.name}`,
      });
    const vectors = await queryVectors(this.encoder, texts, k, watch);
    const { dimensions } = this.encoder;
    const found: SearchHit[][] = [];
    for (const [i, text] of texts.entries()) {
      watch.signal?.throwIfAborted();
      if (i % 64 === 63) watch.onProgress?.({ stage: 'search', done: i, total: texts.length, unit: 'queries' });
      found.push(await this.searchVector(vectors.slice(i * dimensions, (i + 1) * dimensions), text, { k, facets }));
    }
    return found;
  }

  private async searchVector(
    vector: Float32Array,
    text: string,
    { k, facets }: { k: number; facets: readonly string[] },
  ): Promise<SearchHit[]> {
    const { engine, weighing, channel } = this;
    if (!weighing || !channel) {
      const near = await engine.nearest(vector, { k, facets });
      return ordered(near.map(({ document, score }) => hitOf(document, score))).slice(0, k);
    }
    const { lambda, scale } = channel;
    const query = weighing.query(text);
    const exact = engine.finds.nearest === 'exact' && engine.finds.matching === 'exact';
    for (let depth = Math.min(Math.max(DEPTH, k), engine.longest); ; depth *= 4) {
      const [near, words] = await Promise.all([
        engine.nearest(vector, { k: depth, facets }),
        engine.matching(query, { k: depth, facets }),
      ]);
      const dense = new Map(near.map((h) => [h.document.id, h.score]));
      const others = words.filter((h) => !dense.has(h.document.id));
      const products = await engine.products(
        vector,
        others.map((h) => h.document.id),
      );
      for (const [id, product] of products) dense.set(id, product);
      const top = ordered(
        // A document that was removed meanwhile has no product.
        [...near, ...others.filter((h) => products.has(h.document.id))].map(({ document }) =>
          hitOf(
            document,
            Math.fround((dense.get(document.id) as number) + (lambda * weighing.score(query, document.text)) / scale),
          ),
        ),
      ).slice(0, k);
      // What neither channel found has at most the last score of each; where both are exact, they are searched until that is too little.
      const unseen =
        (near.at(-1)?.score ?? 0) + (words.length < depth ? 0 : (lambda * (words.at(-1)?.score ?? 0)) / scale);
      if (!exact || near.length < depth || top[top.length - 1].score >= unseen) return top;
    }
  }

  async add(documents: Iterable<SearchDocument>, watch: RunControl & { total?: number } = {}): Promise<void> {
    await checkDocumentsKey(this.encoder, this.file.encoder.documentsKey, this.folder);
    const { dimensions } = this.encoder;
    const put = (batch: readonly SearchDocument[], vectors: Float32Array): Promise<void> =>
      this.change(() => {
        checkVectors(batch, vectors, dimensions);
        return this.engine.put(
          batch.map(
            (d, i): EngineRow => ({
              ...{ id: d.id, text: d.text, ...(d.metadata !== undefined && { metadata: d.metadata }) },
              vector: vectors.subarray(i * dimensions, (i + 1) * dimensions),
              terms: this.weighing?.document(d.text) ?? NO_TERMS,
              facets: facetsOf(d.metadata),
              hash: this.hashOf(d),
            }),
          ),
        );
      });
    const held = (document: SearchDocument): SearchDocument => {
      const kept = this.held(document);
      if (kept !== document) this.noteReplaced(document.id, watch);
      return kept;
    };
    const encode = (texts: Texts, own: RunControl) => this.encoder.embedDocuments(texts, own);
    await addInBatches(documents, encode, put, watch, { ids: this.limits, held });
  }

  /** After many documents: what the engine does to search them well. */
  settle(): Promise<void> {
    return this.change(() => this.engine.settle());
  }

  async replace(document: SearchDocument): Promise<void> {
    if (!(await this.has(document.id))) throw unknownDocument(document.id);
    await this.add([document]);
  }

  remove(ids: readonly string[]): Promise<number> {
    return this.change(() => this.engine.remove(this.holdable([...new Set(ids)])));
  }

  /** An engine has as many writers as come. */
  async claim(): Promise<void> {}

  async close(): Promise<void> {
    await this.busy;
    await this.engine.close();
    await this.encoder.dispose();
  }

  /** One change of this process after the other, also after one that failed. */
  private change<T>(work: () => Promise<T>): Promise<T> {
    const next = this.busy.then(async () => {
      const result = await work();
      this.count = await this.engine.size();
      return result;
    });
    this.busy = next.catch(() => undefined);
    return next;
  }

  checkIds(ids: Iterable<string>): void {
    checkIds(ids, this.limits);
  }

  private get limits(): IdLimits {
    return { holder: this.engine.name, ...this.engine.holds };
  }

  /** Ids of documents that can be there: the engine would fail at others, or take them for another one. */
  private holdable(ids: readonly string[]): string[] {
    return ids.filter((id) => canHold(id, this.limits));
  }

  private async hashes(ids: readonly string[]): Promise<Map<string, string>> {
    return this.engine.hashes(this.holdable(ids));
  }

  /** A document as the engine can hold it. */
  private held(document: SearchDocument): SearchDocument {
    return heldDocument(document, this.engine.holds.zero);
  }

  private noteReplaced(id: string, { onProgress }: RunControl): void {
    if (this.replaced) return;
    this.replaced = true;
    const what = `half of a surrogate pair${this.engine.holds.zero ? '' : ' or the character 0'}`;
    const note = `the document '${shown(id)}' holds ${what}, which ${this.name} does not keep: U+FFFD is written in its place, here and in other documents`;
    onProgress?.({ stage: 'index', done: 0, unit: 'documents', note });
  }

  private hashOf({ id, text, metadata }: SearchDocument): string {
    return hashParts(id, text, metadata === undefined ? '' : canonicalJson(metadata));
  }
}

const hitOf = ({ id, text, metadata }: EngineDocument, score: number): SearchHit => ({
  id,
  text,
  ...(metadata !== undefined && { metadata }),
  score,
});

/** Best first; of equal scores the smaller id. */
const ordered = (hits: SearchHit[]): SearchHit[] =>
  hits.sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
