/** @file The data set: two tables of texts and the judgements of each split. */

import { constants } from 'node:buffer';
import { createHash, type Hash } from 'node:crypto';
import { InputError } from '../common/errors.ts';
import { rowOf } from '../math/ragged.ts';
import { positionsIn } from './judged/positions.ts';
import type { CandidateLists } from './lists.ts';

/** Texts with ids, in file order. */
export interface TextTable {
  readonly ids: readonly string[];
  readonly length: number;
  /** The text at a position: title and text for documents. */
  text(i: number): string;
  /** The title that a text begins with; '' where it has none. */
  title?(i: number): string;
  /** What else is known of a text, as JSON has it; read where it was asked for. */
  metadata?(i: number): unknown;
  /** The position of an id; undefined where there is none. */
  indexOf(id: string): number | undefined;
  /** Hash of all ids and texts. */
  readonly hash: string;
  /** Whether positions say nothing about the order in which the texts were given: they are those of sorted hashes. */
  readonly unordered?: boolean;
  /** Memory of the texts in bytes, where known. */
  readonly bytes?: number;
}

/** Query id to document id to grade; a grade over 0 is relevant. */
export type Qrels = ReadonlyMap<string, ReadonlyMap<string, number>>;

/** A corpus, its queries and the judgements of each split. */
export interface Dataset {
  readonly name: string;
  readonly documents: TextTable;
  readonly queries: TextTable;
  readonly splits: readonly string[];
  /** @throws InputError where there is no such split */
  qrels(split: string): Qrels;
  /** The documents that the data itself lists for a split's queries, with a teacher's scores where it has them. */
  candidates?(split: string): CandidateLists;
  /** Number of generated queries, where the data has no judged ones; results on dev and test refer to them. */
  readonly made?: number;
  /** Notes on how it was read: the roles of columns and the counts. */
  readonly notes?: readonly string[];
  /** Warnings about probable problems. */
  readonly warnings?: readonly DataWarning[];
}

export interface DataWarning {
  /** Stable, e.g. `data.unknown-documents-test`. */
  code: string;
  text: string;
}

/** Positions of the queries that no split judges, which only a teacher can label. */
export function unjudgedQueries(dataset: Dataset): number[] {
  const judged = new Uint8Array(dataset.queries.length);
  for (const split of dataset.splits) for (const q of judgedQueries(dataset, split)) judged[q] = 1;
  const found: number[] = [];
  for (let q = 0; q < judged.length; q++) if (!judged[q]) found.push(q);
  return found;
}

/** Positions of the queries that a split judges. */
export function judgedQueries({ queries, qrels }: Pick<Dataset, 'queries' | 'qrels'>, split: string): number[] {
  const own = qrels(split);
  const known = positionsIn(own, { queries });
  return known ? Array.from(known.positions) : Array.from(own.keys(), (id) => queries.indexOf(id) as number);
}

/** The documents and some queries as one list, from which a vocabulary is learned. */
export const learnedTexts = (
  { documents, queries }: Pick<Dataset, 'documents' | 'queries'>,
  asked: readonly number[],
): Pick<TextTable, 'length' | 'text'> => ({
  length: documents.length + asked.length,
  text: (i) => (i < documents.length ? documents.text(i) : queries.text(asked[i - documents.length])),
});

/** The largest buffer of this Node, and entries that a map holds. */
const MOST_BYTES = constants.MAX_LENGTH;
const MOST_IDS = 2 ** 24 - 1;

const tooLarge = (most: string): InputError =>
  new InputError({
    code: 'data.too-large',
    subject: `the texts of one table are more than ${most}`,
    expected: 'as much as this version of Node holds in one buffer and one map',
    remedy: 'split the data into several folders, see docs/scale.md',
  });

/** Stores texts as one array of UTF-8 bytes with offsets, without overhead per document. */
export class TextTableBuilder {
  private readonly ids: string[] = [];
  private readonly positions = new Map<string, number>();
  /** In place of the map where ids are hashes: places by the beginning of an id, those that are taken left out. */
  private slots = new Int32Array(0);
  private bytes = Buffer.alloc(1 << 16);
  private used = 0;
  private readonly ends: number[] = [];
  private readonly titleBytes: number[] = [];
  /** JSON of what else is known, by position. */
  private readonly metadata = new Map<number, Buffer>();
  private readonly hash: Hash | undefined;

  private readonly most: { bytes: number; ids: number };

  /**
   * @param byContent whether ids are hashes of the texts in hexadecimal: for buildSorted, which needs no other hash
   * @param most what a table may hold; what Node can hold by default
   */
  constructor({ byContent = false, most = { bytes: MOST_BYTES, ids: MOST_IDS } } = {}) {
    this.most = most;
    this.hash = byContent ? undefined : createHash('sha256');
    if (byContent) this.slots = new Int32Array(1 << 12).fill(-1);
  }

  get length(): number {
    return this.ids.length;
  }

  has(id: string): boolean {
    return this.find(id) !== undefined;
  }

  private find(id: string): number | undefined {
    if (!this.slots.length) return this.positions.get(id);
    const position = this.slots[this.slot(id)];
    return position < 0 ? undefined : position;
  }

  /** Where an id stands in the table of slots, or would. */
  private slot(id: string): number {
    const mask = this.slots.length - 1;
    let slot = Number.parseInt(id.slice(0, 8), 16) & mask;
    while (this.slots[slot] >= 0 && this.ids[this.slots[slot]] !== id) slot = (slot + 1) & mask;
    return slot;
  }

  private enter(id: string): void {
    if (!this.slots.length) {
      if (this.ids.length >= this.most.ids) throw tooLarge(`${this.most.ids} ids`);
      this.positions.set(id, this.ids.length);
      return;
    }
    if (2 * (this.ids.length + 1) > this.slots.length) {
      this.slots = new Int32Array(this.slots.length * 4).fill(-1);
      for (const [i, known] of this.ids.entries()) this.slots[this.slot(known)] = i;
    }
    this.slots[this.slot(id)] = this.ids.length;
  }

  /** The position of an id, added where it is new. */
  put(id: string, text: string): number {
    const known = this.find(id);
    if (known !== undefined) return known;
    this.add(id, text);
    return this.ids.length - 1;
  }

  /**
   * @throws InputError where the table is full
   * @param title what the text begins with, where that is a title
   * @param metadata what else is known, as JSON has it
   */
  add(id: string, text: string, title = '', metadata?: unknown): void {
    if (metadata !== undefined) this.metadata.set(this.ids.length, Buffer.from(JSON.stringify(metadata)));
    const size = Buffer.byteLength(text);
    if (this.used + size > this.bytes.length) {
      if (this.used + size > this.most.bytes) throw tooLarge(`${this.most.bytes / 2 ** 30} GiB of text`);
      const larger = Buffer.alloc(Math.min(this.most.bytes, Math.max(this.bytes.length * 2, this.used + size)));
      this.bytes.copy(larger, 0, 0, this.used);
      this.bytes = larger;
    }
    this.bytes.write(text, this.used);
    this.used += size;
    this.enter(id);
    this.ids.push(id);
    this.ends.push(this.used);
    this.titleBytes.push(Buffer.byteLength(title));
    this.hash?.update(`${Buffer.byteLength(id)}:${id}${size}:${text}`);
  }

  build(): TextTable {
    const { ids, positions, ends, titleBytes, metadata } = this;
    const bytes = this.bytes.subarray(0, this.used);
    return {
      ids,
      length: ids.length,
      text: (i) => bytes.toString('utf8', i ? ends[i - 1] : 0, ends[i]),
      title: (i) => bytes.toString('utf8', i ? ends[i - 1] : 0, (i ? ends[i - 1] : 0) + titleBytes[i]),
      ...(metadata.size && {
        metadata: (i: number): unknown => {
          const json = metadata.get(i);
          return json && JSON.parse(json.toString('utf8'));
        },
      }),
      indexOf: (id) => positions.get(id),
      hash: this.hash?.digest('hex') ?? '',
      bytes: this.bytes.length,
    };
  }

  /**
   * The table in the order of its ids, which are hashes of the texts: the order of adding does not matter.
   * @returns the table, and the new position of each text by its old one
   */
  buildSorted(): { table: TextTable; moved: Int32Array } {
    const { ids, ends } = this;
    this.slots = new Int32Array(1).fill(-1);
    const order = orderOfHashes(ids);
    const moved = new Int32Array(ids.length);
    const sorted: string[] = new Array(ids.length);
    const hash = createHash('sha256');
    const bytes = this.bytes.subarray(0, this.used);
    for (let i = 0; i < order.length; i++) {
      moved[order[i]] = i;
      sorted[i] = ids[order[i]];
    }
    for (let i = 0; i < sorted.length; i += 1024) hash.update(`${sorted.slice(i, i + 1024).join('\n')}\n`);
    const table: TextTable = {
      ids: sorted,
      length: ids.length,
      text: (i) => bytes.toString('utf8', order[i] ? ends[order[i] - 1] : 0, ends[order[i]]),
      indexOf: (id) => placeOfHash(sorted, id),
      hash: hash.digest('hex'),
      unordered: true,
      bytes: this.bytes.length,
    };
    return { table, moved };
  }
}

/** Where a hash stands among sorted ones. */
function placeOfHash(sorted: readonly string[], id: string): number | undefined {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] < id) low = middle + 1;
    else high = middle;
  }
  return sorted[low] === id ? low : undefined;
}

/** The order of hexadecimal hashes: they are spread evenly, so that as many buckets as hashes hold few each. */
function orderOfHashes(ids: readonly string[]): Int32Array {
  const n = ids.length;
  const buckets = Int32Array.from(ids, (id) => Math.floor((Number.parseInt(id.slice(0, 12), 16) / 2 ** 48) * n));
  const ends = new Int32Array(n + 1);
  for (const b of buckets) ends[b + 1]++;
  for (let b = 0; b < n; b++) ends[b + 1] += ends[b];
  const next = ends.slice();
  const order = new Int32Array(n);
  for (let i = 0; i < n; i++) order[next[buckets[i]]++] = i;
  for (let b = 0; b < n; b++)
    if (ends[b + 1] - ends[b] > 1) rowOf(order, ends, b).sort((x, y) => (ids[x] < ids[y] ? -1 : 1));
  return order;
}

export function unknownSplit(split: string, known: readonly string[], where: string): InputError {
  return new InputError({
    code: 'data.unknown-split',
    subject: `${where} has no split '${split}'`,
    expected: `one of ${known.join(', ') || '(none found)'}`,
    remedy: 'name one of these under data.splits or add the file of judgements',
  });
}
export const textsAt = (dataset: Dataset, queries: readonly number[]): Texts => ({
  length: queries.length,
  ids: queries.map((q) => dataset.queries.ids[q]),
  text: (i) => dataset.queries.text(queries[i]),
});
/** Texts by position, so that a table need not hold them all at once. */
export interface Texts {
  readonly length: number;
  /** Name in messages. */
  readonly ids?: readonly string[];
  /** The text at a position. */
  text(i: number): string;
}
