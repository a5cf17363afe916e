/**
 * @file Reads data sets in BEIR's layout: corpus, queries and judgements, in the file formats common on disk and on the Hugging
 * Face Hub.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { InputError } from '../common/errors.ts';
import {
  type Dataset,
  type DataWarning,
  type Qrels,
  type TextTable,
  TextTableBuilder,
  unknownSplit,
} from './dataset.ts';
import { rowFormat, unreadForm } from './files/rows.ts';
import { splitOf } from './files/splits.ts';
import { lineEndings, readQrels } from './qrels.ts';
import { readTable, tableFiles } from './text-tables.ts';

export interface BeirOptions {
  /** Whether further fields of documents are read. */
  metadata?: boolean;
  /** Whether further fields of queries are read. */
  queryMetadata?: boolean;
  /** The documents, where the folder has no file of its own for them. */
  corpus?: TextTable;
}

/** Whether a folder holds a table of BEIR's layout. */
export const isBeir = (folder: string): boolean =>
  tableFiles(folder, 'corpus').length > 0 || tableFiles(folder, 'queries').length > 0;

/**
 * Reads a BEIR folder. Queries without a judgement are kept: the teacher can still score them.
 * @throws InputError that names file, line and remedy
 */
export async function openBeir(
  folder: string,
  { metadata = false, queryMetadata = false, corpus: given }: BeirOptions = {},
): Promise<Dataset> {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new InputError({
      code: 'data.missing-folder',
      subject: `there is no folder ${folder}`,
      remedy: 'give a folder with corpus.jsonl, queries.jsonl and qrels/*.tsv',
    });
  const {
    table: documents,
    files: corpus,
    notes: ofCorpus,
  } = given && !tableFiles(folder, 'corpus').length
    ? { table: given, files: [], notes: [] }
    : await readTable(folder, 'corpus', 'documents', { metadata });
  const { files, notes } = qrelsFiles(folder);
  const alone = !files.size && !readdirSync(folder).some((name) => /quer/i.test(name));
  const {
    table: queries,
    files: asked,
    notes: ofQueries,
  } = alone
    ? { table: new TextTableBuilder().build(), files: [], notes: [] }
    : await readTable(folder, 'queries', 'queries', { metadata: queryMetadata });
  const judged = new Map<string, Qrels>();
  const warnings: DataWarning[] = [];
  const short = (names: readonly string[]): string => names.map((f) => relative(folder, f)).join(', ');
  notes.unshift(
    `${corpus.length ? `${short(corpus)}: ` : 'the '}${documents.length} documents${corpus.length ? '' : ' of the old data'}${alone ? '' : `; ${short(asked)}: ${queries.length} queries`}`,
    ...ofCorpus,
    ...ofQueries,
  );
  for (const [split, own] of files) {
    const { qrels, judgements, said, warnings: more } = await readQrels(own, queries, documents);
    judged.set(split, qrels);
    warnings.push(...more.map((w) => ({ ...w, code: `${w.code}-${split}` })));
    notes.push(
      `${short(own)} (${split}): ${said}; ${judgements} judgements of ${qrels.size} queries, ${countPositives(qrels)} positives`,
    );
  }
  const splits = [...files.keys()];
  return {
    name: basename(resolve(folder)),
    documents,
    queries,
    splits,
    qrels(split) {
      const found = judged.get(split);
      if (!found) throw unknownSplit(split, splits, join(folder, 'qrels'));
      return found;
    },
    notes,
    warnings,
  };
}

export function countPositives(qrels: Qrels): number {
  let count = 0;
  for (const grades of qrels.values()) for (const grade of grades.values()) count += Number(grade > 0);
  return count;
}

/** A file of judgements by its name: `test.tsv`, `test-00000-of-00002.parquet`, `qrels.dev.txt.gz`. */
const NAME = /^(.*?)(-\d+-of-\d+)?(?:\.([a-z]+))?(\.gz)?$/i;

/** The files of judgements by split; those of one split are the parts of one table. */
function qrelsFiles(folder: string): { files: Map<string, string[]>; notes: string[] } {
  const files = new Map<string, string[]>();
  const forms = new Map<string, string>();
  const notes: string[] = [];
  const add = (split: string, path: string): void => {
    const [, , part = '', ending = ''] = NAME.exec(basename(path)) ?? [];
    const form = `${part && 'parts '}${ending.toLowerCase()}`;
    const others = files.get(split);
    if (others && (!part || forms.get(split) !== form))
      throw new InputError({
        code: 'data.two-forms',
        subject: `${others[0]} and ${path} both hold judgements of the split '${split}'`,
        remedy: 'keep one of them',
      });
    forms.set(split, form);
    files.set(split, [...(others ?? []), path]);
  };
  for (const path of filesIn(join(folder, 'qrels'))) {
    const [, stem = '', , ending] = NAME.exec(basename(path)) ?? [];
    if (isTable(path)) add(stem.replace(/^qrels?[._-](?=.)|[._-]qrels?$/gi, ''), path);
    else if (unreadForm(path)) throw unread(path);
    else if (ending && !/^(md|yaml|yml)$/i.test(ending)) notes.push(`not read: ${relative(folder, path)}`);
  }
  for (const path of filesIn(folder)) {
    const name = basename(path);
    if (!/^qrels?[._-]|[._-]qrels?[._]|\.qrels?$/i.test(name)) continue;
    if (unreadForm(path)) throw unread(path);
    if (!isTable(path)) continue;
    const split = splitOf(name) ?? 'test';
    if (!splitOf(name)) notes.push(`${name} names no split and is read as 'test'`);
    add(split, path);
  }
  // On the Hub judgements are often the default part, in data/ or default/, with corpus and queries next to it.
  for (const dir of files.size ? [] : ['data', 'default'])
    for (const path of filesIn(join(folder, dir)))
      if (rowFormat(path) && splitOf(basename(path))) add(splitOf(basename(path)) as string, path);
  return { files, notes };
}

function filesIn(dir: string): string[] {
  if (!existsSync(dir) || !statSync(dir).isDirectory()) return [];
  return readdirSync(dir)
    .sort()
    .filter((name) => !name.startsWith('.'))
    .map((name) => join(dir, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
}

function isTable(path: string): boolean {
  const ending = NAME.exec(basename(path))?.[3]?.toLowerCase();
  // `.json` files are mostly descriptions of the data.
  if (ending === 'json') return splitOf(basename(path)) !== undefined;
  if (ending === undefined) return !/^(readme|licen[cs]e)$/i.test(basename(path));
  return lineEndings.includes(ending) || rowFormat(path) !== undefined;
}

const unread = (path: string): InputError =>
  new InputError({
    code: 'data.unknown-format',
    subject: `${path} is not a file of judgements that is read`,
    expected: `${lineEndings.map((e) => `.${e}`).join(', ')}, .jsonl, .csv, .parquet or .arrow`,
    remedy: unreadForm(path),
  });
