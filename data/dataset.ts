/** @file The data set: two tables of texts and the judgements of each split. */

import { createHash, type Hash } from 'node:crypto';
import { InputError } from '../common/errors.ts';
import { positionsIn } from './judged/positions.ts';
import type { CandidateLists } from './lists.ts';
import { Column, TextColumn } from './table/columns.ts';
import { HashIds, listOnDemand, TextIds } from './table/ids.ts';

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
  /** Number of generated queries, where the data has none to learn from; those of dev and, without judgements, of test are among them. */
  readonly made?: number;
  /** Splits whose queries were generated from the documents: figures on them are not of real queries. */
  readonly generated?: readonly string[];
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

/** Whether the queries of a split were generated, so that figures on them are not of real queries. */
export const isGenerated = ({ generated }: Pick<Dataset, 'generated'>, split: string | null): boolean =>
  generated?.includes(split as string) ?? false;

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

/** Positions are 32 bits, and an index of ids has up to two places for each. */
const MOST_IDS = 2 ** 30;

/** Stores texts as UTF-8 in blocks and ids as bytes with an index, without an object for each. */
export class TextTableBuilder {
  private readonly ids: TextIds | HashIds;
  private readonly texts = new TextColumn();
  /** Bytes of the title that a text begins with; none as long as no text has one. */
  private titles: Column<Uint32Array> | undefined;
  /** JSON of what else is known; none as long as nothing is. */
  private metadata: TextColumn | undefined;
  private readonly hash: Hash | undefined;
  private readonly most: number;

  /**
   * @param byContent whether ids are hashes of the texts, 24 digits in hexadecimal: for buildSorted, which needs no other hash
   * @param most ids that a table may hold
   */
  constructor({ byContent = false, most = MOST_IDS } = {}) {
    this.most = most;
    this.ids = byContent ? new HashIds() : new TextIds();
    this.hash = byContent ? undefined : createHash('sha256');
  }

  get length(): number {
    return this.ids.length;
  }

  has(id: string): boolean {
    return this.ids.indexOf(id) !== undefined;
  }

  /** The position of an id, added where it is new. */
  put(id: string, text: string): number {
    const known = this.ids.indexOf(id);
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
    const position = this.ids.length;
    if (position >= this.most)
      throw new InputError({
        code: 'data.too-large',
        subject: `one table has more than ${this.most} ids`,
        expected: 'as many as one index of ids holds',
        remedy: 'split the data into several folders, see docs/scale.md',
      });
    const size = Buffer.byteLength(text);
    this.ids.add(id);
    this.texts.push(text, size);
    if (title && !this.titles) this.titles = zeros(position);
    this.titles?.push(Buffer.byteLength(title));
    if (metadata !== undefined && !this.metadata) this.metadata = empty(position);
    this.metadata?.push(metadata === undefined ? '' : JSON.stringify(metadata));
    this.hash?.update(`${Buffer.byteLength(id)}:${id}${size}:`);
    if (this.hash) for (const part of this.texts.parts(position)) this.hash.update(part);
  }

  build(): TextTable {
    const { ids, texts, titles, metadata } = this;
    return {
      ids: listOnDemand(ids.length, (i) => ids.id(i)),
      length: ids.length,
      text: (i) => texts.text(i),
      title: (i) => (titles ? texts.text(i, titles.at(i)) : ''),
      ...(metadata && {
        metadata: (i: number): unknown => {
          const json = metadata.text(i);
          return json ? JSON.parse(json) : undefined;
        },
      }),
      indexOf: (id) => ids.indexOf(id),
      hash: this.hash?.digest('hex') ?? '',
      bytes: texts.bytes,
    };
  }

  /**
   * The table in the order of its ids, which are hashes of the texts: the order of adding does not matter.
   * @returns the table, and the new position of each text by its old one
   */
  buildSorted(): { table: TextTable; moved: Int32Array } {
    if (!(this.ids instanceof HashIds)) throw new Error('only ids that are hashes of the texts are sorted');
    const { texts } = this;
    const { ids, order } = this.ids.sorted();
    const moved = new Int32Array(order.length);
    const hash = createHash('sha256');
    for (let i = 0; i < order.length; i++) {
      moved[order[i]] = i;
      hash.update(`${ids.id(i)}\n`);
    }
    const table: TextTable = {
      ids: listOnDemand(ids.length, ids.id),
      length: ids.length,
      text: (i) => texts.text(order[i]),
      indexOf: ids.indexOf,
      hash: hash.digest('hex'),
      unordered: true,
      bytes: texts.bytes,
    };
    return { table, moved };
  }
}

function zeros(length: number): Column<Uint32Array> {
  const column = new Column(Uint32Array);
  for (let i = 0; i < length; i++) column.push(0);
  return column;
}

function empty(length: number): TextColumn {
  const column = new TextColumn();
  for (let i = 0; i < length; i++) column.push('');
  return column;
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
  ids: listOnDemand(queries.length, (i) => dataset.queries.ids[queries[i]]),
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
