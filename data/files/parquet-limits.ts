/**
 * @file Checks the page sizes that a Parquet file claims before memory is allocated: a page header of twenty bytes can claim
 * gigabytes. Only headers are read here, in Thrift's compact protocol; hyparquet reads the rest.
 * @source https://github.com/apache/parquet-format (PageHeader in parquet.thrift)
 */
import type { AsyncBuffer, ColumnChunk, RowGroup } from 'hyparquet';

/** Bytes that a page, and all pages of a column chunk together, may unpack to. */
const LARGEST_PAGE = 256 * 1024 ** 2;
const LARGEST_CHUNK = 1024 ** 3;
/** Values of a column chunk: a row group is held in memory as a whole. Writers make groups of about a million rows. */
const MOST_VALUES = 16 * 1024 ** 2;

/** @throws Error that says which claim of a row group is out of bounds */
export async function checkRowGroup(file: AsyncBuffer, group: RowGroup): Promise<void> {
  const rows = Number(group.num_rows);
  if (!(rows >= 0 && rows <= MOST_VALUES)) throw new Error(`a row group claims ${rows} rows`);
  for (const column of group.columns) await checkColumn(file, column);
}

async function checkColumn(file: AsyncBuffer, { meta_data: meta }: ColumnChunk): Promise<void> {
  if (!meta) throw new Error('a column without metadata');
  const from = Number(meta.dictionary_page_offset ?? meta.data_page_offset);
  const to = from + Number(meta.total_compressed_size);
  if (!(from >= 0) || !(to >= from) || to > file.byteLength)
    throw new Error(`a column claims bytes ${from} to ${to} of ${file.byteLength}`);
  if (Number(meta.num_values) > MOST_VALUES)
    throw new Error(`a column claims ${meta.num_values} values in one row group`);
  const reader = new Compact(new Uint8Array(await file.slice(from, to)));
  let [values, unpacked] = [0, 0];
  while (reader.left > 0) {
    const page = reader.struct();
    const [size, packed] = [number(page.get(2)), number(page.get(3))];
    if (size > LARGEST_PAGE) throw new Error(`a page claims to unpack to ${size} bytes`);
    if (packed > reader.left) throw new Error(`a page claims ${packed} bytes and the column has ${reader.left} more`);
    unpacked += size;
    // Data page, dictionary page, data page of version 2: the first field of each counts values.
    const counts = [5, 7, 8].flatMap((field) => {
      const header = page.get(field);
      return header instanceof Map ? [number(header.get(1))] : [];
    });
    for (const count of counts) if (count > MOST_VALUES) throw new Error(`a page claims ${count} values`);
    values += counts.reduce((a, b) => a + b, 0);
    if (unpacked > LARGEST_CHUNK || values > 2 * MOST_VALUES)
      throw new Error(`the pages of a column claim ${values} values in ${unpacked} bytes`);
    reader.skip(packed);
  }
}

/** A size or count; one that is missing or negative is out of bounds. */
function number(value: unknown): number {
  if (typeof value === 'number' && value >= 0) return value;
  throw new Error('a page header without its sizes');
}

const DEEPEST = 8;

/** Thrift's compact protocol, as far as page headers use it: structs as maps from field number to whole numbers and structs. */
class Compact {
  private readonly bytes: Uint8Array;
  private at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  skip(count: number): void {
    if (!(count <= this.left)) throw new Error('a page header that ends early');
    this.at += count;
  }

  struct(depth = 0): Map<number, unknown> {
    if (depth > DEEPEST) throw new Error('a page header nested too deep');
    const fields = new Map<number, unknown>();
    let id = 0;
    for (;;) {
      const head = this.byte();
      const type = head & 15;
      if (type === 0) return fields;
      id = head >> 4 ? id + (head >> 4) : this.zigzag();
      fields.set(id, this.value(type, depth));
    }
  }

  private byte(): number {
    this.skip(1);
    return this.bytes[this.at - 1];
  }

  private varint(): number {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const b = this.byte();
      value += (b & 127) * shift;
      if (b < 128) return value;
      if (shift > 2 ** 63) throw new Error('a number in a page header that does not end');
    }
  }

  private zigzag(): number {
    const n = this.varint();
    return n % 2 ? -(n + 1) / 2 : n / 2;
  }

  private value(type: number, depth: number): unknown {
    switch (type) {
      case 1:
      case 2: // true and false, told by the type itself
        return undefined;
      case 3:
        return this.byte();
      case 4:
      case 5:
      case 6:
        return this.zigzag();
      case 7:
        return this.skip(8);
      case 8:
        return this.skip(this.varint());
      case 9:
      case 10: {
        const head = this.byte();
        const count = head >> 4 === 15 ? this.varint() : head >> 4;
        for (let i = 0; i < count; i++) {
          // Booleans in a list take a byte each; everything else takes at least one.
          if ((head & 15) <= 2) this.skip(1);
          else this.value(head & 15, depth + 1);
        }
        return undefined;
      }
      case 12:
        return this.struct(depth + 1);
      default:
        throw new Error('a page header of an unknown type');
    }
  }
}
