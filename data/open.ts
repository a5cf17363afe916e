/** @file A data set from whatever a path holds: a BEIR folder, a file of rows, or a folder of train, dev and test files. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { openBeir } from './beir.ts';
import type { Dataset } from './dataset.ts';
import { findFile } from './lines.ts';
import { openRows, type RowOptions, type SplitName } from './row-dataset.ts';
import { rowFormat } from './rows.ts';

export type DataKind = 'beir' | 'rows';

/** Names of files, or parts of them, that say which split they hold. */
const splitWords: Record<string, SplitName> = {
  train: 'train',
  training: 'train',
  dev: 'dev',
  val: 'dev',
  valid: 'dev',
  validation: 'dev',
  eval: 'dev',
  test: 'test',
};

/** The split that a file's name says, e.g. dev for `validation-00000-of-00001.parquet`. */
export const splitOf = (file: string): SplitName | undefined =>
  basename(file)
    .toLowerCase()
    .split(/[^a-z]+/)
    .flatMap((word) => (Object.hasOwn(splitWords, word) ? [splitWords[word]] : []))[0];

/** The files of rows that a path holds, each with its split; empty where it holds none. */
export function rowFiles(path: string, deeper = true): { file: string; split: SplitName }[] {
  if (!statSync(path).isDirectory()) return [{ file: path, split: 'train' }];
  const here = readdirSync(path)
    .sort()
    .filter((name) => rowFormat(name) && !/^(teacher-)?scores|^corpus\.|^queries\.|^qrels/i.test(name))
    .map((name) => join(path, name));
  const named = here.flatMap((file) => {
    const split = splitOf(file);
    return split ? [{ file, split }] : [];
  });
  if (named.length) return named;
  if (here.length) return here.map((file) => ({ file, split: 'train' }));
  // The layout of Hugging Face's data sets.
  const data = join(path, 'data');
  return deeper && existsSync(data) && statSync(data).isDirectory() ? rowFiles(data, false) : [];
}

/** How a path would be read; undefined where it holds no data. */
export function dataKind(path: string): DataKind | undefined {
  if (!existsSync(path)) return undefined;
  if (!statSync(path).isDirectory()) return rowFormat(path) ? 'rows' : undefined;
  if (findFile(join(path, 'corpus.jsonl')) || findFile(join(path, 'queries.jsonl'))) return 'beir';
  return rowFiles(path).length ? 'rows' : undefined;
}

/**
 * Opens a data set.
 * @param path a BEIR folder; a file of rows (JSONL, CSV, TSV, Parquet); or a folder of such files named by split
 * @throws InputError that names file, line and remedy
 */
export async function openDataset(path: string, options: RowOptions = {}): Promise<Dataset> {
  if (!existsSync(path))
    throw new InputError({
      code: 'data.missing-folder',
      subject: `there is no data ${path}`,
      remedy:
        'give a folder with corpus.jsonl, queries.jsonl and qrels/*.tsv, or a file of rows (.jsonl, .csv, .tsv, .parquet)',
    });
  if (!statSync(path).isDirectory() || dataKind(path) === 'rows')
    return openRows(basename(path).replace(/\..*/, ''), rowFiles(path), options);
  return openBeir(path);
}
