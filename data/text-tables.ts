/** @file The two tables of texts of a BEIR folder, corpus and queries, from files of any form that rows are read from. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { type TextTable, TextTableBuilder } from './dataset.ts';
import { metadataOf } from './files/metadata.ts';
import { type Row, readRows, rowEndings, rowFormat, unreadForm } from './files/rows.ts';

/** What an id and a text may be called, the first that a row has. */
export const idNames = ['_id', 'id', 'doc_id', 'docid', 'corpus-id', 'corpus_id', 'query-id', 'query_id', 'qid', 'pid'];
export const textNames = ['text', 'contents', 'body', 'passage', 'document', 'query'];

/** File names of a table in order of priority. */
const endings = ['jsonl', ...rowEndings.filter((e) => e !== 'jsonl')].flatMap((e) => [e, `${e}.gz`]);

/** Other forms of a table next to the one that is read, but for a packed copy. */
function passedOver(folder: string, name: string, read: readonly string[]): string[] {
  const plain = (file: string): string => basename(file).replace(/\.gz$/i, '');
  const own = new Set(read.map(plain));
  return endings.map((e) => `${name}.${e}`).filter((f) => existsSync(join(folder, f)) && !own.has(plain(f)));
}

/** The files of a table: `corpus.jsonl` and its like, or the files of a folder `corpus/`; empty where there is none. */
export function tableFiles(folder: string, name: 'corpus' | 'queries'): string[] {
  const file = endings.map((e) => join(folder, `${name}.${e}`)).find((f) => rowFormat(f) && existsSync(f));
  if (file) return [file];
  const dir = join(folder, name);
  if (!existsSync(dir) || !statSync(dir).isDirectory()) return [];
  return readdirSync(dir)
    .sort()
    .filter((n) => rowFormat(n) && !/\.json(\.gz)?$/i.test(n))
    .map((n) => join(dir, n));
}

/**
 * @param what the texts are, for messages
 * @param metadata whether the other fields are read too
 * @throws InputError that names file and line
 */
export async function readTable(
  folder: string,
  name: 'corpus' | 'queries',
  what: 'documents' | 'queries',
  { metadata = false } = {},
): Promise<{ table: TextTable; files: string[]; notes: string[] }> {
  const files = tableFiles(folder, name);
  if (!files.length) throw missing(folder, name, what);
  const table = new TextTableBuilder();
  let bare = 0;
  for (const file of files)
    for await (const row of readRows(file)) {
      const { id, title, text } = readText(row);
      if (table.has(id))
        throw new InputError({
          code: 'data.duplicate-id',
          subject: `${row.where} uses the id '${id}' a second time`,
          remedy: 'give each text an id of its own',
        });
      bare += Number(!title.trim() && !text.trim());
      const more = metadata ? metadataOf(row.values, usedBy(row)) : undefined;
      table.add(id, (title ? `${title} ${text}` : text).trim(), title.trim(), more);
    }
  const built = table.build();
  if (!built.length)
    throw new InputError({
      code: 'data.empty',
      subject: `${files.join(', ')} holds no ${what}`,
      remedy: `write at least one of the ${what}, one JSON object a line`,
    });
  const notes = bare
    ? [`${bare} of ${built.length} ${what} have no text (${files.map((f) => basename(f)).join(', ')})`]
    : [];
  const others = passedOver(folder, name, files);
  if (others.length) notes.push(`not read: ${others.join(', ')} (${basename(files[0])} holds the ${what})`);
  return { table: built, files, notes };
}

/** The fields that a row's id, title and text come from. */
const usedBy = ({ values }: Row): string[] => ['title', firstOf(values, idNames), firstOf(values, textNames)];

/** The first of some names that a row has; the first of all where it has none. */
const firstOf = (values: Row['values'], names: readonly string[]): string =>
  names.find((n) => values[n] !== undefined && values[n] !== null) ?? names[0];

function missing(folder: string, name: string, what: string): InputError {
  const other = readdirSync(folder).find((n) => n.startsWith(`${name}.`) && unreadForm(n));
  return new InputError({
    code: 'data.missing-file',
    subject: `${folder} has no ${name}.jsonl or ${name}.jsonl.gz${other ? `, and ${other} is not read` : ''}`,
    remedy: (other && unreadForm(other)) ?? `write the ${what} there, one JSON object a line with _id and text`,
  });
}

function readText({ values, where }: Row): { id: string; title: string; text: string } {
  const bad = (expected: string, received: unknown): InputError =>
    new InputError({
      code: 'data.malformed-line',
      subject: where,
      expected,
      received: JSON.stringify(received) ?? 'nothing',
      remedy: 'fix or remove the line',
    });
  const id = idText(values[firstOf(values, idNames)]);
  const text = values[firstOf(values, textNames)];
  const { title } = values;
  if (!id) throw bad("a text under '_id'", values._id);
  if (typeof text !== 'string') throw bad("a text under 'text'", text);
  if (title !== undefined && title !== null && typeof title !== 'string') throw bad("a text under 'title'", title);
  return { id, title: title ?? '', text };
}

/**
 * An id as text, whether it was written as a number or as a text; undefined for anything that does not name exactly one thing.
 */
export function idText(id: unknown): string | undefined {
  if (typeof id === 'bigint' || (typeof id === 'number' && Number.isFinite(id))) {
    // Beyond 2^53 a double represents several integers; JSON's are kept as digits before this.
    return typeof id === 'number' && Number.isInteger(id) && !Number.isSafeInteger(id) ? undefined : String(id);
  }
  return typeof id === 'string' && id !== '' ? id : undefined;
}
