/** @file Relevance judgements: TREC's four columns, tables with or without a header, and rows of any form. */
import { basename } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { Qrels, TextTable } from './dataset.ts';
import { readLines } from './files/lines.ts';
import { type Row, readRows, rowFormat } from './files/rows.ts';
import { Pairs, qrelsOf, sortPairs } from './judged-lists.ts';
import { TextIds } from './table/ids.ts';
import { idText } from './text-tables.ts';

/** Known names of the columns of judgements, ignoring case and separators. */
export const qrelsNames = {
  query: ['query_id', 'qid', 'queryid', 'query', 'topic', 'topic_id'],
  document: ['corpus_id', 'doc_id', 'document_id', 'docid', 'docno', 'did', 'pid', 'passage_id', 'document', 'doc'],
  grade: ['score', 'relevance', 'rel', 'label', 'grade', 'rating', 'judgement', 'judgment'],
};
type Column = keyof typeof qrelsNames;

/** Endings of files of lines; those of rows are known by `rowFormat`. */
export const lineEndings = ['tsv', 'txt', 'trec', 'qrels', 'qrel'];

export interface ReadQrels {
  qrels: Qrels;
  judgements: number;
  /** The interpretation of the columns. */
  said: string;
  /** Judgements that are changed or left out. */
  warnings: { code: string; text: string }[];
}

interface Judgement {
  query: unknown;
  document: unknown;
  grade: unknown;
  where: string;
  /** The line or row, for messages. */
  raw: string;
  said: string;
}

/**
 * Reads the files of one split. Queries come in the order of their table and documents by grade, so that the order of lines
 * does not matter. A judgement of a document that the corpus lacks stays: trec_eval counts it as relevant and never found.
 *
 * @throws InputError that names file and line, and where no judgement is left
 */
export async function readQrels(
  files: readonly string[],
  queries: TextTable,
  documents: TextTable,
): Promise<ReadQrels> {
  const pairs = new Pairs();
  /** Documents that the corpus lacks. */
  const others = new TextIds();
  const gone = { queries: new Left(), documents: new Left() };
  let [lines, said] = [0, ''];
  for (const file of files)
    for await (const judgement of judgementsOf(file)) {
      const { query, document, grade } = checked(judgement);
      lines++;
      said ||= judgement.said;
      const q = queries.indexOf(query);
      if (q === undefined) {
        gone.queries.add(() => query);
        continue;
      }
      const d = documents.indexOf(document);
      if (d === undefined) gone.documents.add(() => document);
      pairs.add(q, d ?? documents.length + others.put(document), grade, Number.NaN, Number.NaN);
    }
  const names = files.map((f) => basename(f)).join(', ');
  if (!pairs.length)
    throw new InputError({
      code: 'data.no-judgements',
      subject: lines
        ? `${files.join(', ')}: none of its ${lines} judgements is of a query that the data holds (e.g. '${gone.queries.first}')`
        : `${files.join(', ')} holds no judgement`,
      remedy: lines ? "use the ids of the queries' table" : 'add lines query-id, corpus-id, score, or remove the file',
    });
  const { qrels, contradictions } = judgementsAsQrels(pairs, queries, documents, others);
  const warnings = [
    gone.queries.count && {
      code: 'data.unknown-queries',
      text: `${gone.queries.count} of ${lines} judgements in ${names} are left out: the data has no such query, e.g. '${gone.queries.first}'`,
    },
    gone.documents.count && {
      code: 'data.unknown-documents',
      text: `${gone.documents.count} of ${lines} judgements in ${names} are of documents that the corpus lacks, e.g. '${gone.documents.first}': they count as never found, as trec_eval counts them`,
    },
    contradictions.count && {
      code: 'data.contradictions',
      text: `${contradictions.count} pairs in ${names} are judged more than once with different grades, e.g. ${contradictions.first}: the highest counts`,
    },
  ].filter((w) => w !== 0);
  return { qrels, judgements: lines, said, warnings };
}

/** How many there are, and the first. */
class Left {
  count = 0;
  first = '';

  add(item: () => string): void {
    if (!this.count++) this.first = item();
  }
}

/** Pairs as judgements; documents that the corpus lacks stand behind those that it has, in the order of their ids. */
function judgementsAsQrels(
  pairs: Pairs,
  queries: TextTable,
  documents: TextTable,
  others: TextIds,
): { qrels: Qrels; contradictions: Left } {
  const ids = Array.from({ length: others.length }, (_, i) => others.id(i)).sort();
  const moved = new Int32Array(documents.length + ids.length);
  for (let d = 0; d < documents.length; d++) moved[d] = d;
  for (const [i, id] of ids.entries()) moved[documents.length + (others.indexOf(id) as number)] = documents.length + i;
  const same = new Int32Array(queries.length);
  for (let q = 0; q < queries.length; q++) same[q] = q;
  const idOf = (d: number): string => (d < documents.length ? documents.ids[d] : ids[d - documents.length]);
  const contradictions = new Left();
  const lists = sortPairs(pairs, same, moved, (q, d) =>
    contradictions.add(() => `'${queries.ids[q]}' and '${idOf(d)}'`),
  );
  return { qrels: qrelsOf(lists, queries, documents, false, idOf), contradictions };
}

/** Grades are whole numbers; 32 bits hold every scale. */
const isGrade = (n: number): boolean => Number.isInteger(n) && Math.abs(n) < 2 ** 31;

function checked({ query, document, grade, where, raw }: Judgement): {
  query: string;
  document: string;
  grade: number;
} {
  const [q, d] = [idText(query), idText(document)];
  const written = typeof grade === 'string' ? grade.trim() : grade;
  // Not 0x10, 1e3 or an empty field.
  const g =
    typeof written === 'string' && !/^[+-]?\d+(\.0*)?$/.test(written) ? Number.NaN : Number(written ?? Number.NaN);
  if (!q || !d || !isGrade(g))
    throw new InputError({
      code: 'data.malformed-line',
      subject: where,
      expected: 'query-id, corpus-id and a whole number, separated by tabs',
      received: raw.length > 80 ? `${raw.slice(0, 80)}...` : raw,
      remedy: 'fix or remove the line',
    });
  return { query: q, document: d, grade: g };
}

const plainName = (name: string): string =>
  name
    .trim()
    .toLowerCase()
    .replace(/[\s-]+/g, '_');

/** The place of each column among names; undefined where one is not there. */
function placesOf(names: readonly string[]): Record<Column, number> | undefined {
  const plain = names.map(plainName);
  const place = (column: Column): number => {
    const name = qrelsNames[column].find((n) => plain.includes(n));
    return name === undefined ? -1 : plain.indexOf(name);
  };
  const places = { query: place('query'), document: place('document'), grade: place('grade') };
  return Object.values(places).includes(-1) ? undefined : places;
}

async function* judgementsOf(file: string): AsyncGenerator<Judgement> {
  if (rowFormat(file) && !/\.tsv(\.gz)?$/i.test(file)) yield* fromRows(file);
  else yield* fromLines(file);
}

async function* fromLines(file: string): AsyncGenerator<Judgement> {
  let header: Record<Column, number> | undefined;
  for await (const { text, number } of readLines(file)) {
    if (!text.trim()) continue;
    const fields = text.includes('\t') ? text.split('\t') : text.trim().split(/\s+/);
    if (number === 1) {
      header = placesOf(fields);
      if (header) continue;
    }
    if (!header && fields.length > 4) throw tooMany(file, number, text);
    const trec = fields.length >= 4;
    const { query, document, grade } = header ?? { query: 0, document: trec ? 2 : 1, grade: trec ? 3 : 2 };
    yield {
      query: fields[query],
      document: fields[document],
      grade: fields[grade],
      where: `${file} line ${number}`,
      raw: JSON.stringify(text),
      said: header
        ? 'columns by its header'
        : trec
          ? "TREC's four columns"
          : 'query-id, corpus-id, score without a header',
    };
  }
}

/** A run has six columns, and its rank must not be taken for a grade. */
const tooMany = (where: string, line: number | undefined, text: string): InputError =>
  new InputError({
    code: 'data.malformed-line',
    subject: `${where}${line === undefined ? '' : ` line ${line}`} has more than four columns`,
    expected: 'query-id, corpus-id and score, or query, iteration, document and grade as TREC writes judgements',
    received: JSON.stringify(text.slice(0, 80)),
    remedy: 'a file of six columns is a run, not judgements; other columns need a first line of names',
  });

async function* fromRows(file: string): AsyncGenerator<Judgement> {
  let header = true;
  // The first line of a CSV file may be a judgement already.
  for await (const { headed, values } of readRows(file, { header: false })) {
    header = headed === undefined || placesOf(Object.values(values).map(String)) !== undefined;
    break;
  }
  for await (const row of readRows(file, { header })) yield fromRow(row, header);
}

function fromRow({ values, where }: Row, header: boolean): Judgement {
  const names = Object.keys(values);
  if (!header && names.length > 4) throw tooMany(where, undefined, Object.values(values).join(' '));
  const trec = names.length >= 4;
  const places = header ? placesOf(names) : { query: 0, document: trec ? 2 : 1, grade: trec ? 3 : 2 };
  if (!places)
    throw new InputError({
      code: 'data.columns',
      subject: `${where} has the columns ${names.join(', ') || '(none)'}`,
      expected: 'query-id, corpus-id and score',
      remedy: 'name the columns of judgements so',
    });
  const [query, document, grade] = [places.query, places.document, places.grade].map((i) => values[names[i]]);
  const raw = JSON.stringify(values, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  const said = header ? `${names[places.query]}, ${names[places.document]}, ${names[places.grade]}` : 'no header';
  return { query, document, grade, where, raw, said };
}
