/** @file Data sets in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/*.tsv, plain or gzipped. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { InputError } from '../common/errors.ts';
import { type Dataset, type Qrels, type TextTable, TextTableBuilder, unknownSplit } from './dataset.ts';
import { findFile, parseObject, readLines } from './lines.ts';

/**
 * Reads a BEIR folder. Queries without a judgement are kept: the teacher alone can speak for them.
 * @throws InputError that names file, line and remedy
 */
export async function openBeir(folder: string): Promise<Dataset> {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new InputError({
      code: 'data.missing-folder',
      subject: `there is no folder ${folder}`,
      remedy: 'give a folder with corpus.jsonl, queries.jsonl and qrels/*.tsv',
    });
  const documents = await readTable(folder, 'corpus.jsonl', 'documents');
  const queries = await readTable(folder, 'queries.jsonl', 'queries');
  const files = qrelsFiles(folder);
  const judged = new Map<string, Qrels>();
  for (const [split, file] of files) judged.set(split, await readQrels(file, queries, documents));
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
  };
}

function qrelsFiles(folder: string): Map<string, string> {
  const dir = join(folder, 'qrels');
  const names = existsSync(dir) ? readdirSync(dir).sort() : [];
  return new Map(
    names.flatMap((name) => {
      const split = /^(.+)\.tsv(\.gz)?$/.exec(name)?.[1];
      return split ? [[split, join(dir, name)] as const] : [];
    }),
  );
}

async function readTable(folder: string, name: string, what: string): Promise<TextTable> {
  const file = findFile(join(folder, name));
  if (!file)
    throw new InputError({
      code: 'data.missing-file',
      subject: `${folder} has no ${name} or ${name}.gz`,
      remedy: `write the ${what} there, one JSON object a line with _id and text`,
    });
  const table = new TextTableBuilder();
  for await (const line of readLines(file)) {
    if (!line.text.trim()) continue;
    const object = parseObject(line, file);
    const { _id: id, text, title } = object;
    const bad = (expected: string, received: unknown): InputError =>
      new InputError({
        code: 'data.malformed-line',
        subject: `${file} line ${line.number}`,
        expected,
        received: JSON.stringify(received) ?? 'nothing',
        remedy: 'mend or remove the line',
      });
    if (typeof id !== 'string' && typeof id !== 'number') throw bad("a text under '_id'", id);
    if (typeof text !== 'string') throw bad("a text under 'text'", text);
    if (title !== undefined && title !== null && typeof title !== 'string') throw bad("a text under 'title'", title);
    if (table.has(String(id)))
      throw new InputError({
        code: 'data.duplicate-id',
        subject: `${file} line ${line.number} uses the id '${id}' a second time`,
        remedy: 'give each text an id of its own',
      });
    table.add(String(id), title ? `${title} ${text}`.trim() : text.trim(), title?.trim());
  }
  const built = table.build();
  if (!built.length)
    throw new InputError({
      code: 'data.empty',
      subject: `${file} holds no ${what}`,
      remedy: `write at least one of the ${what}, one JSON object a line`,
    });
  return built;
}

/** Reads `query-id corpus-id score` lines; a first line that is no judgement is the header. */
export async function readQrels(file: string, queries: TextTable, documents: TextTable): Promise<Qrels> {
  const qrels = new Map<string, Map<string, number>>();
  for await (const { text, number } of readLines(file)) {
    if (!text.trim() || (number === 1 && /^query-?_?id\t/i.test(text))) continue;
    const fields = text.split('\t');
    const [query, document, score] = fields.length >= 4 ? [fields[0], fields[2], fields[3]] : fields;
    const grade = Number(score);
    if (!query || !document || score?.trim() === '' || !Number.isInteger(grade))
      throw new InputError({
        code: 'data.malformed-line',
        subject: `${file} line ${number}`,
        expected: 'query-id, corpus-id and a whole number, separated by tabs',
        received: JSON.stringify(text.slice(0, 80)),
        remedy: 'mend or remove the line',
      });
    const unknown =
      queries.indexOf(query) === undefined
        ? ['query', query]
        : documents.indexOf(document) === undefined
          ? ['document', document]
          : undefined;
    if (unknown)
      throw new InputError({
        code: 'data.unknown-id',
        subject: `${file} line ${number} names the ${unknown[0]} '${unknown[1]}', which is not in the data`,
        remedy: `add it to ${unknown[0] === 'query' ? 'queries.jsonl' : 'corpus.jsonl'} or remove the line`,
      });
    let judgements = qrels.get(query);
    if (!judgements) {
      judgements = new Map();
      qrels.set(query, judgements);
    }
    judgements.set(document, grade);
  }
  return qrels;
}
