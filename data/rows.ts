/** @file Rows of JSONL, CSV, TSV and Parquet files, one at a time. */
import { Readable } from 'node:stream';
import * as zlib from 'node:zlib';
import { CsvError, parse } from 'csv-parse';
import {
  asyncBufferFromFile,
  type Compressors,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { InputError } from '../common/errors.ts';
import { parseObject, readBytes, readLines, unreadable } from './lines.ts';
import { checkRowGroup } from './parquet-limits.ts';

export interface Row {
  /** By column, in the file's order. */
  values: Readonly<Record<string, unknown>>;
  /** E.g. `pairs.csv line 12`, for messages. */
  where: string;
}

/** File endings that are read as rows, by what reads them. */
const readers: Record<string, (file: string) => AsyncGenerator<Row>> = {
  csv: (file) => readSeparated(file, { delimiter: ',' }),
  jsonl: readJsonLines,
  ndjson: readJsonLines,
  parquet: readParquet,
  // As sentence-transformers' own TSV files: a quotation mark is a letter like any other.
  tsv: (file) => readSeparated(file, { delimiter: '\t', quote: null }),
};

/** What kind of rows a file's name promises: csv, jsonl, ndjson, parquet, tsv; text files may end in .gz too. */
export function rowFormat(file: string): string | undefined {
  const [, ending, packed] = /\.([a-z]+)(\.gz)?$/i.exec(file) ?? [];
  const format = ending?.toLowerCase();
  return format && Object.hasOwn(readers, format) && !(packed && format === 'parquet') ? format : undefined;
}

/** @throws InputError that names file and line where a row cannot be read */
export function readRows(file: string): AsyncGenerator<Row> {
  const format = rowFormat(file);
  if (format) return readers[format](file);
  throw new InputError({
    code: 'data.unknown-format',
    subject: `${file} is no file of rows`,
    expected: `a name that ends in ${Object.keys(readers)
      .map((f) => `.${f}`)
      .join(', ')} (text files also .gz)`,
    remedy: 'rename or convert it, or give a folder in BEIR layout',
  });
}

async function* readJsonLines(file: string): AsyncGenerator<Row> {
  for await (const line of readLines(file))
    if (line.text.trim()) yield { values: parseObject(line, file), where: `${file} line ${line.number}` };
}

async function* readSeparated(file: string, format: { delimiter: string; quote?: null }): AsyncGenerator<Row> {
  const parser = parse({ ...format, bom: true, info: true, skip_empty_lines: true, max_record_size: 64 * 1024 ** 2 });
  const source = Readable.from(readBytes(file));
  source.on('error', (e) => parser.destroy(e));
  source.pipe(parser);
  let columns: string[] | undefined;
  try {
    for await (const { record, info } of parser as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
      if (columns)
        yield {
          values: Object.fromEntries(columns.map((c, i) => [c, record[i]])),
          where: `${file} line ${info.lines}`,
        };
      else columns = record.map((c) => c.trim());
    }
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw unreadable(file, cause);
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${file} cannot be split into columns (${cause.message})`,
      remedy: 'mend the line, and put quotation marks around texts that hold a comma',
      cause,
    });
  } finally {
    source.destroy();
  }
}

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

async function* readParquet(file: string): AsyncGenerator<Row> {
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
