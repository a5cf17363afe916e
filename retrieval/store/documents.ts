/**
 * @file The documents of a part: ids in memory as bytes, texts and metadata in the part's file, read when they are asked for and
 * checked one by one.
 */
import { crc32 } from '../../common/crc32.ts';
import { damaged } from './checked-files.ts';
import type { OpenFile } from './open-file.ts';

/** Where the records of a part are. */
export interface RecordsFile {
  readonly file: OpenFile;
  /** Where the first record begins. */
  readonly start: number;
}

/** One document as it is written: its id, and its JSON with the checksum. */
export interface Row {
  readonly id: Uint8Array;
  readonly length: number;
  readonly sum: number;
  record(): Uint8Array;
}

/** Bytes that are read ahead where all documents are read. */
const BLOCK = 1 << 20;

export class Documents {
  readonly count: number;
  private readonly ids: Uint8Array;
  /** [count + 1] where ids begin. */
  private readonly idStarts: Uint32Array;
  /** [count + 1] where records begin, from the first one on. */
  private readonly starts: Float64Array;
  private readonly sums: Uint32Array;
  private readonly records: RecordsFile;

  constructor(
    tables: { ids: Uint8Array; idStarts: Uint32Array; starts: Float64Array; sums: Uint32Array },
    records: RecordsFile,
  ) {
    this.count = tables.sums.length;
    this.ids = tables.ids;
    this.idStarts = tables.idStarts;
    this.starts = tables.starts;
    this.sums = tables.sums;
    this.records = records;
  }

  /** UTF-8 of an id. */
  idBytes(i: number): Uint8Array {
    return this.ids.subarray(this.idStarts[i], this.idStarts[i + 1]);
  }
  id(i: number): string {
    return Buffer.from(
      this.ids.buffer,
      this.ids.byteOffset + this.idStarts[i],
      this.idStarts[i + 1] - this.idStarts[i],
    ).toString();
  }

  /** A document. @throws InputError where its bytes are not those that were written */
  at<T>(i: number): T {
    return JSON.parse(Buffer.from(this.record(i)).toString()) as T;
  }

  /** The same as it can be written into another part. */
  row(i: number): Row {
    return {
      id: this.idBytes(i),
      length: this.starts[i + 1] - this.starts[i],
      sum: this.sums[i],
      record: () => this.record(i),
    };
  }

  /** All in turn; large parts of the file are read at a time. */
  *all<T>(): Generator<T> {
    for (let from = 0; from < this.count; ) {
      let end = from + 1;
      while (end < this.count && this.starts[end + 1] - this.starts[from] <= BLOCK) end++;
      const bytes = this.read(this.starts[from], this.starts[end]);
      for (let i = from; i < end; i++) {
        const record = bytes.subarray(this.starts[i] - this.starts[from], this.starts[i + 1] - this.starts[from]);
        yield JSON.parse(this.checked(i, record).toString()) as T;
      }
      from = end;
    }
  }

  close(): void {
    this.records.file.close();
  }

  private record(i: number): Uint8Array {
    return this.checked(i, this.read(this.starts[i], this.starts[i + 1]));
  }

  private checked(i: number, record: Buffer): Buffer {
    if (crc32(record) !== this.sums[i])
      throw damaged(`${this.records.file.path} is damaged (the checksum of document '${this.id(i)}' differs)`);
    return record;
  }

  private read(from: number, to: number): Buffer {
    const { file, start } = this.records;
    return file.read(start + from, start + to);
  }
}

/** A document that is added. */
export function rowOf(document: { readonly id: string }): Row {
  const record = Buffer.from(JSON.stringify(document));
  return { id: Buffer.from(document.id), length: record.length, sum: crc32(record), record: () => record };
}
