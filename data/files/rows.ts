/** @file Rows of CSV, TSV, JSONL, JSON, Parquet and Arrow files, one at a time. */
import { InputError } from '../../common/errors.ts';
import { readArrow } from './arrow.ts';
import { readJson, readJsonLines } from './json.ts';
import { readParquet } from './parquet.ts';
import type { Row } from './row.ts';
import { readSeparated } from './separated.ts';

export type { Row } from './row.ts';

export interface ReadOptions {
  /** Whether the first line of CSV and TSV holds the columns' names; without, columns are called 1, 2, ... */
  header?: boolean;
}

/** File endings that are read as rows, by what reads them. */
const readers: Record<string, (file: string, options: ReadOptions) => AsyncGenerator<Row>> = {
  arrow: readArrow,
  csv: (file, options) => readSeparated(file, ',', options),
  feather: readArrow,
  json: readJson,
  jsonl: readJsonLines,
  ndjson: readJsonLines,
  parquet: readParquet,
  tsv: (file, options) => readSeparated(file, '\t', options),
};

/** Formats whose pages or buffers are packed within the file. */
const packedWithin = new Set(['arrow', 'feather', 'parquet']);

/** All endings that are read as rows. */
export const rowEndings: readonly string[] = Object.keys(readers);

/** What kind of rows a file's name promises, e.g. csv for `train.csv.gz`; text files may end in .gz too. */
export function rowFormat(file: string): string | undefined {
  const [, ending, packed] = /\.([a-z]+)(\.gz)?$/i.exec(file) ?? [];
  const format = ending?.toLowerCase();
  return format && Object.hasOwn(readers, format) && !(packed && packedWithin.has(format)) ? format : undefined;
}

/** Endings of data files that are not read, with what to do about each. */
export const unreadEndings: Record<string, string> = {
  '7z': 'unpack it',
  avro: 'convert it to Parquet or JSONL',
  br: 'unpack it, or pack it with gzip',
  bz2: 'unpack it, or pack it with gzip',
  h5: 'convert it to Parquet or JSONL',
  lz4: 'unpack it, or pack it with gzip',
  npz: 'convert it to Parquet or JSONL',
  orc: 'convert it to Parquet or JSONL',
  pickle: 'convert it to Parquet or JSONL',
  pkl: 'convert it to Parquet or JSONL',
  rar: 'unpack it',
  tar: 'unpack it',
  tgz: 'unpack it',
  xls: 'save it as CSV in UTF-8',
  xlsx: 'save it as CSV in UTF-8',
  xz: 'unpack it, or pack it with gzip',
  zip: 'unpack it',
  zst: 'unpack it, or pack it with gzip',
};

/** The remedy for a data file in a form that is not read; undefined for other files. */
export function unreadForm(file: string): string | undefined {
  const ending = /\.(\w+)$/.exec(file)?.[1].toLowerCase() ?? '';
  if (Object.hasOwn(unreadEndings, ending)) return unreadEndings[ending];
  return /\.(arrow|feather|parquet)\.gz$/i.test(file) ? 'unpack it' : undefined;
}

/** @throws InputError that names file and line where a row cannot be read */
export function readRows(file: string, options: ReadOptions = {}): AsyncGenerator<Row> {
  const format = rowFormat(file);
  if (format) return readers[format](file, options);
  throw new InputError({
    code: 'data.unknown-format',
    subject: `${file} is not a file of rows`,
    expected: `a name that ends in ${rowEndings.map((f) => `.${f}`).join(', ')} (text files also .gz)`,
    remedy: unreadForm(file) ?? 'rename or convert it, or give a folder in BEIR layout',
  });
}
