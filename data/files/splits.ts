/** @file Names of splits, as files and folders say them. */
import { basename } from 'node:path';

export type SplitName = 'train' | 'dev' | 'test';

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
