/** @file A folder of plain text, Markdown and HTML as a data set of passages. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, extname, join, relative, resolve, sep } from 'node:path';
import { InputError } from '../common/errors.ts';
import { type Dataset, type TextTable, TextTableBuilder, unknownSplit } from './dataset.ts';
import { readWhole } from './files/lines.ts';
import { textReaders } from './text/blocks.ts';
import { type PassageOptions, passages } from './text/passages.ts';

const ending = (file: string): string => extname(file).slice(1).toLowerCase();

const isText = (file: string): boolean => Object.hasOwn(textReaders, ending(file));

/** Files that mark a folder as a model or the output of a run, whose texts are cards and reports. */
const OTHER_FOLDERS = ['tokenizer.json', 'model.onnx', 'onnx-distill.json'];

/** The text files of a folder and the folders in it, by path; hidden ones, models, runs and node_modules are left out. */
export function textFiles(path: string): string[] {
  if (OTHER_FOLDERS.some((name) => existsSync(join(path, name)))) return [];
  return readdirSync(path, { withFileTypes: true })
    .filter((e) => !e.name.startsWith('.') && e.name !== 'node_modules')
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((e) => {
      const below = join(path, e.name);
      if (e.isDirectory()) return textFiles(below);
      return e.isFile() && isText(below) ? [below] : [];
    });
}

/** Files that describe a folder's content. */
const CARD = /^(readme|licen[cs]e|changelog|contributing|notice)\b/i;

/** Whether a path has texts to search, and not only files that describe it. */
export const holdsTexts = (path: string): boolean => textFiles(path).some((f) => !CARD.test(basename(f)));

/** A data set of documents without queries and judgements. */
export const withoutSplits = (name: string, documents: TextTable): Dataset => ({
  name,
  documents,
  queries: new TextTableBuilder().build(),
  splits: [],
  qrels: (split) => {
    throw unknownSplit(split, [], name);
  },
});

/**
 * Reads every text file into passages; ids are `path#number`.
 * @throws InputError that names a file that is not UTF-8, or where no file holds any text
 */
export async function openTextFolder(folder: string, options: PassageOptions = {}): Promise<Dataset> {
  const files = textFiles(folder);
  const documents = new TextTableBuilder();
  const empty: string[] = [];
  for (const file of files) {
    const name = relative(folder, file).split(sep).join('/');
    const { title, blocks } = await textReaders[ending(file)](await readWhole(file));
    const found = passages(title || basename(file, extname(file)), blocks, options);
    if (!found.length) empty.push(name);
    for (const [i, p] of found.entries()) documents.add(`${name}#${i + 1}`, `${p.title} ${p.text}`, p.title);
  }
  if (!documents.length)
    throw new InputError({
      code: 'data.no-text',
      subject: `${folder} holds no text`,
      expected: `files that end in ${Object.keys(textReaders).join(', ')}`,
      remedy: 'give a folder with such files, or a data set (corpus.jsonl, queries.jsonl, qrels) or a file of rows',
    });
  const notes = [`${documents.length} passages of ${files.length - empty.length} text files`];
  if (empty.length) notes.push(`${empty.length} text files hold no text, the first is ${empty[0]}`);
  return { ...withoutSplits(basename(resolve(folder)), documents.build()), notes };
}
