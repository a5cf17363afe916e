/**
 * @file Postings of a part's documents: for each term the documents that have it and a whole number for each, which stay in a file
 * until a search asks for the term. The numbers are how often a word occurs, or the rounded impact of a token.
 */
import { crc32 } from '../../common/crc32.ts';
import { damaged } from './checked-files.ts';

/** Terms of a document with whole numbers above 0. */
export type TermCounts = ReadonlyMap<string, number>;

/** Documents that have a term, ascending, and the number of each. */
export interface PostingList {
  /** Rows of the part. */
  readonly places: Uint32Array;
  readonly values: Uint8Array | Uint16Array | Uint32Array;
}

/** Where lists are: a file, or memory. */
export interface ListBytes {
  readonly path: string;
  read(from: number, to: number): Buffer<ArrayBuffer>;
  close(): void;
}

/** What is in memory of the postings of a part. */
export interface PostingTables {
  /** [documents] the sum of a document's numbers: its length in words, where they are counts. */
  readonly lengths: Uint32Array;
  /** UTF-8 of the terms, one after the other in the order of their bytes, and where each begins. */
  readonly terms: Uint8Array<ArrayBuffer>;
  readonly termStarts: Uint32Array;
  /** Documents of each term; bytes of a number in its list: 1, 2 or 4. */
  readonly counts: Uint32Array;
  readonly widths: Uint8Array;
  /** Where each list begins, and its checksum. */
  readonly listStarts: Float64Array;
  readonly sums: Uint32Array;
}

export class Postings {
  readonly tables: PostingTables;
  /** The sum of all numbers. */
  readonly total: number;
  private readonly terms: Buffer;
  private readonly lists: ListBytes;

  constructor(tables: PostingTables, lists: ListBytes) {
    this.tables = tables;
    this.lists = lists;
    const { buffer, byteOffset, byteLength } = tables.terms;
    this.terms = Buffer.from(buffer, byteOffset, byteLength);
    this.total = tables.lengths.reduce((n, l) => n + l, 0);
  }

  /** Documents of the part. */
  get documents(): number {
    return this.tables.lengths.length;
  }
  /** Terms that occur. */
  get size(): number {
    return this.tables.counts.length;
  }

  /** The list of a term. @throws InputError where its bytes are not those that were written */
  find(term: string): PostingList | undefined {
    const at = this.indexOf(Buffer.from(term));
    return at < 0 ? undefined : this.list(at);
  }

  /** UTF-8 of a term. */
  term(at: number): Buffer {
    return this.terms.subarray(this.tables.termStarts[at], this.tables.termStarts[at + 1]);
  }

  /** The list of a term by its place in the order. @throws InputError where its bytes are not those that were written */
  list(at: number): PostingList {
    const { listStarts, counts, widths, sums } = this.tables;
    const n = counts[at];
    const bytes = this.lists.read(listStarts[at], listStarts[at] + 4 * n + widths[at] * n);
    if (crc32(bytes) !== sums[at])
      throw damaged(`${this.lists.path} is damaged (the checksum of the postings of '${this.term(at)}' differs)`);
    const { buffer, byteOffset } = bytes;
    const values = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[widths[at] as 1 | 2 | 4];
    return {
      places: new Uint32Array(buffer, byteOffset, n),
      values: new values(buffer, byteOffset + 4 * n, n),
    };
  }

  close(): void {
    this.lists.close();
  }

  private indexOf(term: Buffer): number {
    const { termStarts } = this.tables;
    let [low, high] = [0, this.size];
    while (low < high) {
      const middle = (low + high) >> 1;
      const order = this.terms.compare(term, 0, term.length, termStarts[middle], termStarts[middle + 1]);
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return -1;
  }
}

/** Takes lists in the order of their terms and makes tables and bytes of them. */
export class PostingsBuilder {
  private readonly lengths: Uint32Array;
  private readonly terms: Buffer[] = [];
  private readonly columns = {
    counts: [] as number[],
    widths: [] as number[],
    starts: [] as number[],
    sums: [] as number[],
  };
  private at = 0;

  constructor(documents: number) {
    this.lengths = new Uint32Array(documents);
  }

  /** @returns the bytes of the list, to be written behind those of the one before; a multiple of 4 */
  add(term: Buffer, places: ArrayLike<number>, values: ArrayLike<number>): Buffer {
    const n = places.length;
    let most = 0;
    for (let i = 0; i < n; i++) {
      most = Math.max(most, values[i]);
      this.lengths[places[i]] += values[i];
    }
    const width = most < 256 ? 1 : most < 65_536 ? 2 : 4;
    const bytes = Buffer.alloc(Math.ceil(((4 + width) * n) / 4) * 4);
    const { buffer, byteOffset } = bytes;
    new Uint32Array(buffer, byteOffset, n).set(places);
    const kinds = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array } as const;
    new kinds[width](buffer, byteOffset + 4 * n, n).set(values);
    this.terms.push(Buffer.from(term));
    this.columns.counts.push(n);
    this.columns.widths.push(width);
    this.columns.starts.push(this.at);
    this.columns.sums.push(crc32(bytes.subarray(0, (4 + width) * n)));
    this.at += bytes.length;
    return bytes;
  }

  /** Bytes of all lists. */
  get bytes(): number {
    return this.at;
  }

  tables(): PostingTables {
    const { counts, widths, starts, sums } = this.columns;
    const termStarts = new Uint32Array(this.terms.length + 1);
    for (const [i, term] of this.terms.entries()) termStarts[i + 1] = termStarts[i] + term.length;
    return {
      lengths: this.lengths,
      terms: new Uint8Array(Buffer.concat(this.terms)),
      termStarts,
      counts: Uint32Array.from(counts),
      widths: Uint8Array.from(widths),
      listStarts: Float64Array.from(starts),
      sums: Uint32Array.from(sums),
    };
  }
}

/** A list with the bytes of its term, as it is written. */
type Listed = readonly [term: Buffer, places: ArrayLike<number>, values: ArrayLike<number>];

/** Postings in memory. */
export function inMemory(documents: number, lists: Iterable<Listed>): Postings {
  const builder = new PostingsBuilder(documents);
  const pieces: Buffer[] = [];
  for (const [term, places, values] of lists) pieces.push(builder.add(term, places, values));
  const bytes = Buffer.concat(pieces);
  return new Postings(builder.tables(), {
    path: 'memory',
    // A copy, since numbers are read in place and must begin at a multiple of their size.
    read: (from, to) => Buffer.from(Uint8Array.from(bytes.subarray(from, to)).buffer),
    close() {},
  });
}

/** Postings of documents in turn. */
export function postingsOf(rows: readonly TermCounts[]): Postings {
  const lists = new Map<string, { places: number[]; values: number[] }>();
  for (const [place, row] of rows.entries())
    for (const [term, value] of row) {
      let list = lists.get(term);
      if (!list) {
        list = { places: [], values: [] };
        lists.set(term, list);
      }
      list.places.push(place);
      list.values.push(value);
    }
  const sorted = Array.from(lists, ([term, { places, values }]): Listed => [Buffer.from(term), places, values]);
  return inMemory(
    rows.length,
    sorted.sort((a, b) => Buffer.compare(a[0], b[0])),
  );
}

/** Documents of several postings as those of one. @param rows where each document goes; -1 for one that is left out */
export interface Moved {
  readonly postings: Postings;
  readonly rows: Int32Array;
}

/** The lists of several postings, each term once, in order; places must ascend from one to the next. */
export function* joinedLists(moved: readonly Moved[]): Generator<Listed> {
  const heads = moved.map((m) => ({ ...m, at: 0 })).filter(({ postings }) => postings.size > 0);
  for (;;) {
    let least: Buffer | undefined;
    for (const { postings, at } of heads) {
      if (at >= postings.size) continue;
      const term = postings.term(at);
      if (!least || Buffer.compare(term, least) < 0) least = term;
    }
    if (!least) return;
    const [places, values]: [number[], number[]] = [[], []];
    for (const head of heads) {
      const { postings, rows, at } = head;
      if (at >= postings.size || !postings.term(at).equals(least)) continue;
      const list = postings.list(at);
      head.at++;
      for (let i = 0; i < list.places.length; i++) {
        const row = rows[list.places[i]];
        if (row < 0) continue;
        places.push(row);
        values.push(list.values[i]);
      }
    }
    if (places.length) yield [least, places, values];
  }
}
