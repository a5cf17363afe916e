/** @file Reads files of rows that contain only documents: one text per row, optionally with a title and an id. */
import { basename } from 'node:path';
import { type Dataset, TextTableBuilder } from './dataset.ts';
import { metadataOf } from './files/metadata.ts';
import { type Row, readRows } from './files/rows.ts';
import { FEWEST_ALONE } from './made-queries.ts';
import { paragraphs } from './text/blocks.ts';
import { type PassageOptions, passages } from './text/passages.ts';
import { withoutSplits } from './text-folder.ts';
import { idNames, idText } from './text-tables.ts';

/** Column names of a document's text, and of columns next to it that are not queries. */
const TEXT = /^(text|content|contents|body|passage|document|doc|page_content|markdown|abstract)$/;
const TITLE = /^(title|heading|headline|subject|name)$/;
const ASIDE =
  /^(url|uri|link|href|source|src|file|filename|file_name|path|lang|language|date|time|timestamp|created|updated|author|authors|license|licence|category|categories|section|tags|keywords|split|meta|metadata|type|format|hash|sha256)$/;
const ID = /^_?(id|idx|index|uid|uuid|guid|docid|docno)$|_(id|idx|uid|uuid)$/;

/** Number of rows from which the columns are inferred. */
const LOOKED_AT = 100;

interface Columns {
  id: string | undefined;
  title: string | undefined;
  text: string;
  aside: string[];
}

/** The columns of rows that contain only documents; undefined where a further column may be a query, a label or a score. */
function columnsOf(rows: readonly Row[]): Columns | undefined {
  const names = [...new Set(rows.flatMap((r) => Object.keys(r.values)))];
  const plain = (name: string): string =>
    name
      .trim()
      .toLowerCase()
      .replace(/[\s-]+/g, '_');
  const found = (pattern: RegExp): string[] => names.filter((n) => pattern.test(plain(n)));
  const [texts, titles, ids] = [found(TEXT), found(TITLE), found(ID)];
  const aside = names.filter((n) => ASIDE.test(plain(n)));
  if (texts.length !== 1 || titles.length > 1) return undefined;
  // A title and a text without an id are also how pairs of a query and its document are written.
  if (titles.length && !ids.length && !aside.length) return undefined;
  if (names.length > 1 + titles.length + ids.length + aside.length) return undefined;
  if (!rows.every((r) => r.values[texts[0]] == null || typeof r.values[texts[0]] === 'string')) return undefined;
  return { id: ids.find((n) => idNames.includes(n)) ?? ids[0], title: titles[0], text: texts[0], aside };
}

async function firstRows(file: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of readRows(file)) if (rows.push(row) >= LOOKED_AT) break;
  return rows;
}

/**
 * Reads files of rows as documents if they contain nothing else. Long texts become several passages, `id#1`, `id#2`.
 * @returns undefined where a file holds more than documents
 */
export async function openCorpusRows(
  name: string,
  files: readonly string[],
  { metadata = false, ...options }: PassageOptions & { metadata?: boolean } = {},
): Promise<Dataset | undefined> {
  const columns = new Map<string, Columns>();
  for (const file of files) {
    const own = columnsOf(await firstRows(file));
    if (!own) return undefined;
    columns.set(file, own);
  }
  const documents = new TextTableBuilder();
  let [rows, empty] = [0, 0];
  for (const [file, own] of columns)
    for await (const { values } of readRows(file)) {
      rows++;
      const given = own.title === undefined ? undefined : values[own.title];
      const title = typeof given === 'string' ? given.trim() : '';
      const text = values[own.text];
      const id = (own.id !== undefined && idText(values[own.id])) || `${basename(file)}#${rows}`;
      const found = typeof text === 'string' ? passages(title, paragraphs(text), options) : [];
      empty += Number(!found.length);
      const used = [own.text, own.id, own.title].filter((n) => n !== undefined);
      const more = metadata ? metadataOf(values, used) : undefined;
      for (const [i, p] of found.entries()) {
        const called = found.length > 1 ? `${id}#${i + 1}` : id;
        // Ids that repeat would hide a document.
        const unique = documents.has(called) ? `${called}@${rows}` : called;
        documents.add(unique, `${p.title} ${p.text}`.trim(), p.title, more);
      }
    }
  // With so few rows they are more likely pairs with a missing column.
  if (documents.length < FEWEST_ALONE) return undefined;
  const [{ id, title, text, aside }] = columns.values();
  const said = [
    `text = ${text}`,
    ...(title === undefined ? [] : [`title = ${title}`]),
    ...(id === undefined ? [] : [`id = ${id}`]),
  ];
  return {
    ...withoutSplits(name, documents.build()),
    notes: [
      `${files.map((f) => basename(f)).join(', ')}: documents only, ${said.join(', ')}; ${rows} rows, ${documents.length} passages${empty ? `, ${empty} empty texts left out` : ''}${aside.length && !metadata ? `; not read: ${aside.join(', ')}` : ''}`,
    ],
  };
}
