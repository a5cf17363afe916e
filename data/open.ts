/** @file A data set from whatever a path holds: a BEIR folder, a file of rows, or a folder of train, dev and test files. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { isBeir, openBeir } from './beir.ts';
import { openCorpusRows } from './corpus-rows.ts';
import type { Dataset, TextTable } from './dataset.ts';
import { rowFormat, unreadForm } from './files/rows.ts';
import { type SplitName, splitOf } from './files/splits.ts';
import { withMadeQueries } from './made-queries.ts';
import { openRows, type RowOptions } from './row-dataset.ts';
import { holdsTexts, openTextFolder } from './text-folder.ts';

export { splitOf } from './files/splits.ts';
/** How a data set is read. */
export interface DataOptions extends RowOptions {
  /** Whether what else is known of documents is read: the metadata of a corpus, further fields of its rows. */
  metadata?: boolean;
  /** Whether further fields of the queries of a BEIR folder are read. */
  queryMetadata?: boolean;
  /** The documents of a BEIR folder that has no file of its own for them. */
  corpus?: TextTable;
  /**
   * Splits, of 'train' and 'dev', that are made where all others are for choosing and measuring: of queries that nothing judges, and
   * of generated ones. None by default; see `openAsRun`.
   */
  makes?: readonly string[];
  /** What the ids of generated queries begin with. */
  madeIds?: string;
  /** Whether queries that nothing judges may take its place; true by default. */
  unlabelled?: boolean;
}

/** What a run says of its data, from which the splits follow that its files do not have. */
export interface RunDataOptions extends DataOptions {
  splits?: { train?: string; dev?: string | null; test?: string };
}

export type DataKind = 'beir' | 'rows' | 'text';

interface RowFiles {
  files: { file: string; split: SplitName }[];
  /** Data files that are there and are not read. */
  unread: string[];
}

/** The files of rows that a path holds, each with its split; empty where it holds none. */
export function rowFiles(path: string): RowFiles {
  if (!statSync(path).isDirectory()) return { files: [{ file: path, split: 'train' }], unread: [] };
  const kept = savedByDatasets(path);
  if (kept) return { files: kept, unread: [] };
  const here = filesHere(path);
  // The layout of Hugging Face's data sets.
  const data = join(path, 'data');
  return here.files.length || !existsSync(data) || !statSync(data).isDirectory() ? here : filesHere(data);
}

function filesHere(dir: string): RowFiles {
  const names = readdirSync(dir)
    .sort()
    .filter((name) => !/^\.|^(teacher-)?scores|^corpus\.|^queries\.|^qrels/i.test(name));
  const rows = names
    .filter((name) => rowFormat(name) && (!/\.json(\.gz)?$/i.test(name) || isJsonOfSplit(name)))
    .map((name) => join(dir, name));
  const packed = names.filter((name) => unreadForm(name) && splitOf(name)).map((name) => join(dir, name));
  const named = rows.flatMap((file) => {
    const split = splitOf(file);
    return split ? [{ file, split }] : [];
  });
  if (!named.length) return { files: rows.map((file) => ({ file, split: 'train' })), unread: packed };
  return { files: named, unread: [...packed, ...rows.filter((file) => !splitOf(file))] };
}

/** `train.json`, `my-dev.json`; not `test_results.json`: most .json files describe something. */
const isJsonOfSplit = (name: string): boolean => {
  const stem = name.replace(/(-\d+-of-\d+)?\.json(\.gz)?$/i, '');
  return splitOf(stem.split(/[^a-z]+/i).at(-1) as string) !== undefined;
};

/** The files of a folder that `datasets` wrote by save_to_disk: one split, or several under dataset_dict.json. */
function savedByDatasets(path: string): { file: string; split: SplitName }[] | undefined {
  if (existsSync(join(path, 'dataset_dict.json'))) {
    const { splits } = readDescription(join(path, 'dataset_dict.json')) as { splits?: unknown };
    if (!Array.isArray(splits) || !splits.every((s) => typeof s === 'string' && s === basename(s)))
      throw malformed(join(path, 'dataset_dict.json'), 'the names of splits');
    return splits.flatMap((split: string) => partsOf(join(path, split), splitOf(split) ?? 'train'));
  }
  if (!existsSync(join(path, 'dataset_info.json')) || !existsSync(join(path, 'state.json'))) return undefined;
  const { _split } = readDescription(join(path, 'state.json')) as { _split?: unknown };
  return partsOf(path, (typeof _split === 'string' && splitOf(_split)) || 'train');
}

function partsOf(dir: string, split: SplitName): { file: string; split: SplitName }[] {
  const state = join(dir, 'state.json');
  const { _data_files: files, _indices_files: indices } = readDescription(state) as Record<string, unknown>;
  const names = Array.isArray(files) ? files.map((f) => (f as { filename?: unknown } | null)?.filename) : [];
  if (!names.length || !names.every((n) => typeof n === 'string' && n === basename(n)))
    throw malformed(state, 'the files of the data set under _data_files');
  if (Array.isArray(indices) && indices.length)
    throw new InputError({
      code: 'data.indices',
      subject: `${dir} keeps a selection of rows apart from the rows (_indices_files), which is not read`,
      remedy: 'call flatten_indices() before save_to_disk',
    });
  return (names as string[]).map((name) => ({ file: join(dir, name), split }));
}

function readDescription(file: string): object {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (value && typeof value === 'object') return value;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
      throw new InputError({
        code: 'data.missing-file',
        subject: `there is no ${file}`,
        remedy: 'save the data set again, or give a folder of files of rows',
      });
  }
  throw malformed(file, 'a JSON object');
}

const malformed = (file: string, expected: string): InputError =>
  new InputError({ code: 'data.malformed-file', subject: file, expected, remedy: 'save the data set again' });

/** How a path would be read; undefined where it holds no data. */
export function dataKind(path: string): DataKind | undefined {
  if (!existsSync(path)) return undefined;
  if (statSync(path).isDirectory()) {
    if (isBeir(path)) return 'beir';
    if (rowFiles(path).files.length) return 'rows';
    return holdsTexts(path) ? 'text' : undefined;
  }
  return rowFormat(path) ? 'rows' : undefined;
}

/**
 * Opens a data set.
 * @param path a BEIR folder; a file of rows (JSONL, JSON, CSV, TSV, Parquet, Arrow); a folder of such files named by split;
 *   a folder that `datasets` saved; or documents alone: a folder of texts, rows of one text each. See docs/data.md.
 *   Queries are made of documents where there are none, and a warning says so.
 * @param watch is told how it was read, a line at a time
 * @throws InputError that names file, line and remedy
 */
export async function openDataset(path: string, options: DataOptions = {}, watch: RunControl = {}): Promise<Dataset> {
  const found = await open(path, options);
  // A table of judgements under an unknown name must not be taken for none.
  const { splitSeed: seed, unlabelled, makes = [], madeIds } = options;
  const unnamed = found.splits.length
    ? lacksTrain(found.splits) && makes.some((s) => !found.splits.includes(s))
    : !namesJudgements(path);
  const dataset = !found.queries.length || unnamed ? withMadeQueries(found, { seed, unlabelled, ids: madeIds }) : found;
  const say = (note: string): void => watch.onProgress?.({ stage: 'data', done: 0, unit: 'files', note });
  for (const note of dataset.notes ?? []) say(note);
  for (const { text } of dataset.warnings ?? []) say(`warning: ${text}`);
  return dataset;
}

/**
 * Opens a data set as a run with these options reads it, for some of its splits: the same queries of rows are held out, and queries
 * that the run generates for a split are generated again, the same ones. Every job that comes after a run reads its data by this.
 * @param options of the run's config under `data`, also as a checkpoint's distill.json records them; defaults where it has none
 * @param asked the splits that will be read. Nothing is generated for others: data that have them are not changed
 * @throws InputError as `openDataset`
 */
export function openAsRun(
  path: string,
  options: RunDataOptions,
  asked: readonly (string | null | undefined)[],
  watch: RunControl = {},
): Promise<Dataset> {
  const { train = 'train' } = options.splits ?? {};
  // Another name than the default is one that the user's data have.
  const makes = train === 'train' ? asked.filter((s): s is string => s === 'train' || s === 'dev') : [];
  return openDataset(path, { ...options, makes }, watch);
}

/**
 * The split that a job reads where none is asked for: the one that a run had for it, which is said where it has another name.
 * @param recorded the names in the record of a checkpoint
 */
export function splitFor(
  asked: string | undefined,
  role: 'train' | 'dev' | 'test',
  recorded: RunDataOptions['splits'],
  watch: RunControl,
): string {
  if (asked !== undefined) return asked;
  const split = recorded?.[role] ?? role;
  const note = `the split '${split}' is read: the model was made with it as ${role}`;
  if (split !== role) watch.onProgress?.({ stage: 'data', done: 0, unit: 'files', note });
  return split;
}

/** Splits for choosing and measuring alone: nothing is judged to learn from. */
const lacksTrain = (splits: readonly string[]): boolean =>
  splits.every((s) => ['dev', 'test'].includes(splitOf(s) as string));

/**
 * The documents alone of whatever `openDataset` reads: no queries are made where there are none.
 * @throws InputError as `openDataset`
 */
export async function openDocuments(path: string): Promise<Pick<Dataset, 'documents' | 'notes'>> {
  const { documents, notes } = await open(path, {});
  return { documents, notes };
}

/** Whether something in a folder is called judgements, and is not an empty folder. */
function namesJudgements(path: string): boolean {
  if (!statSync(path).isDirectory()) return false;
  return readdirSync(path, { withFileTypes: true }).some(
    (e) => /qrel|judg/i.test(e.name) && !(e.isDirectory() && !readdirSync(join(path, e.name)).length),
  );
}

async function open(path: string, options: DataOptions): Promise<Dataset> {
  const expected =
    'a folder with corpus.jsonl, queries.jsonl and qrels/*.tsv, a file of rows (.jsonl, .csv, .tsv, .parquet), or a folder of texts (.txt, .md, .html)';
  if (!existsSync(path))
    throw new InputError({
      code: 'data.missing-folder',
      subject: `there is no data ${path}`,
      remedy: `give ${expected}`,
    });
  const { metadata, queryMetadata, corpus } = options;
  if (statSync(path).isDirectory() && isBeir(path)) return openBeir(path, { metadata, queryMetadata, corpus });
  const { files, unread } = rowFiles(path);
  if (!files.length) {
    if (holdsTexts(path)) return openTextFolder(path);
    if (!unread.length) return openBeir(path);
    throw new InputError({
      code: 'data.unknown-format',
      subject: `${unread[0]} is not a file that is read`,
      expected,
      remedy: unreadForm(unread[0]),
    });
  }
  const name = basename(resolve(path)).replace(/\..*/, '');
  const paths = files.map((f) => f.file);
  const dataset =
    (options.columns ? undefined : await openCorpusRows(name, paths, { metadata })) ??
    (await openRows(name, files, options));
  const notes = unread.map(
    (file) => `not read: ${file}${unreadForm(file) ? `; ${unreadForm(file)}` : ', its name has no split'}`,
  );
  return { ...dataset, notes: [...(dataset.notes ?? []), ...notes] };
}
