/** @file Token vectors of an index's documents by id, in a folder, read by offset; of a document that is replaced, also those of its earlier texts. */
import { appendFileSync, existsSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { hashParts } from '../../common/files.ts';
import type { Rows } from '../../math/numbers.ts';
import { tokenCodecs } from '../../retrieval/multi-vector/token-codec.ts';
import { TokenFile, type TokenHeader } from '../../retrieval/multi-vector/token-file.ts';

const IDS = 'tokens.ids';

/** Short enough for a line a document, long enough that two texts of one id do not share it. */
const hashOf = (text: string): string => hashParts(text).slice(0, 16);

interface Place {
  readonly at: number;
  readonly hash: string;
}

export class TokenStore {
  /** Where the last token vectors of each document are. */
  private readonly places = new Map<string, Place>();
  /** Those of its earlier texts: a document may be in the index with one of these, after a kill or while it is replaced. */
  private readonly earlier = new Map<string, Place[]>();

  private constructor(
    private readonly file: TokenFile,
    private readonly ids: string,
  ) {}

  /** Opens or makes the folder. @param header absent: it is only read */
  static async open(folder: string, header?: TokenHeader): Promise<TokenStore> {
    const file = header ? await TokenFile.append(folder, header) : await TokenFile.open(folder);
    const ids = join(folder, IDS);
    const text = existsSync(ids) ? readFileSync(ids, 'utf8') : '';
    const store = new TokenStore(file, ids);
    let [at, read] = [0, 0];
    for (let end = text.indexOf('\n'); end >= 0 && at < file.length; end = text.indexOf('\n', read)) {
      const [id, hash] = JSON.parse(text.slice(read, end)) as [string, string];
      store.place(id, { at: at++, hash });
      read = end + 1;
    }
    if (header) {
      // What a kill left in one file alone is cut off.
      if (existsSync(ids)) truncateSync(ids, Buffer.byteLength(text.slice(0, read)));
      file.cut(at);
    }
    return store;
  }

  get bytes(): number {
    return this.file.bytes;
  }

  /** Bytes a document, of those that count. */
  get bytesADocument(): number {
    let tokens = 0;
    for (const { at } of this.places.values()) tokens += this.file.count(at);
    return (tokens * tokenCodecs[this.file.header.codec].bytes(this.file.header.width)) / Math.max(1, this.places.size);
  }

  /** Whether the token vectors of this text of the document are there. */
  has(id: string, text: string): boolean {
    return this.find(id, text) !== undefined;
  }

  /** Token vectors of a document; undefined where those of this text are not there. */
  get(id: string, text: string): Rows | undefined {
    const place = this.find(id, text);
    if (!place) return undefined;
    return { dimensions: this.file.header.width, data: this.file.read(place.at) };
  }

  add(documents: readonly { id: string; text: string; tokens: Rows }[]): void {
    const first = this.file.length;
    this.file.add(documents.map((d) => d.tokens.data as Float32Array));
    appendFileSync(this.ids, documents.map(({ id, text }) => `${JSON.stringify([id, hashOf(text)])}\n`).join(''));
    for (const [i, { id, text }] of documents.entries()) this.place(id, { at: first + i, hash: hashOf(text) });
  }

  private find(id: string, text: string): Place | undefined {
    const hash = hashOf(text);
    const last = this.places.get(id);
    return last?.hash === hash ? last : this.earlier.get(id)?.findLast((p) => p.hash === hash);
  }

  private place(id: string, place: Place): void {
    const before = this.places.get(id);
    const earlier = this.earlier.get(id);
    if (before && earlier) earlier.push(before);
    else if (before) this.earlier.set(id, [before]);
    this.places.set(id, place);
  }

  close(): void {
    this.file.close();
  }
}
