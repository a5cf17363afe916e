/** @file Rows of Parquet files, a row group at a time. */
import * as zlib from 'node:zlib';
import {
  asyncBufferFromFile,
  type Compressors,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { InputError } from '../../common/errors.ts';
import { checkRowGroup } from './parquet-limits.ts';
import type { Row } from './row.ts';

type Unpack = (input: Uint8Array, options: { maxOutputLength: number }) => Uint8Array;

/** Snappy is hyparquet's own; Zstandard is in Node from 22.15 on. */
const { zstdDecompressSync } = zlib as { zstdDecompressSync?: Unpack };
const unpackers: Compressors = {
  // A page that unpacks to more than it says is not unpacked; what it may say is checked before.
  GZIP: (input, size) => zlib.gunzipSync(input, { maxOutputLength: Math.max(1, size) }),
  BROTLI: (input, size) => zlib.brotliDecompressSync(input, { maxOutputLength: Math.max(1, size) }),
  ...(zstdDecompressSync && {
    ZSTD: (input: Uint8Array, size: number) => zstdDecompressSync(input, { maxOutputLength: Math.max(1, size) }),
  }),
};

export async function* readParquet(file: string): AsyncGenerator<Row> {
  let at = 0;
  try {
    const buffer = await asyncBufferFromFile(file);
    const metadata = await parquetMetadataAsync(buffer);
    for (const group of metadata.row_groups) {
      await checkRowGroup(buffer, group);
      const rowEnd = at + Number(group.num_rows);
      // One column at a time: of several that are damaged, all but one would fail with nobody listening.
      const rows: Record<string, unknown>[] = [];
      for (const { name } of parquetSchema(metadata).children.map((c) => c.element)) {
        const part = { file: buffer, metadata, columns: [name], rowStart: at, rowEnd, compressors: unpackers };
        for (const [i, values] of (await parquetReadObjects(part)).entries()) rows[i] = { ...rows[i], ...values };
      }
      for (const values of rows) yield { values, where: `${file} row ${++at}` };
    }
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    const packing = /unsupported compression codec/i.test((cause as Error).message);
    throw new InputError({
      code: 'data.unreadable',
      subject: `cannot read ${file} (${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message})`,
      remedy: packing ? 'write it with Snappy or gzip compression' : 'check that the file is there and whole',
      cause,
    });
  }
}
