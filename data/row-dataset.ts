/** @file A data set from files of rows: texts become two tables without repetition, rows become judgements and candidates. */
import * as crypto from 'node:crypto';
import { basename } from 'node:path';
import { InputError } from '../common/errors.ts';
import { Random } from '../math/random.ts';
import { type Dataset, type Qrels, TextTableBuilder, unknownSplit } from './dataset.ts';
import { byPlace, type ColumnOptions, type Roles, rolesOf } from './files/columns.ts';
import { type Reading, readRow } from './files/row-reading.ts';
import { type Row, readRows } from './files/rows.ts';
import type { SplitName } from './files/splits.ts';
import { type JudgedLists, listsWhere, Pairs, qrelsOf, sortPairs } from './judged-lists.ts';
import { Numbers, settle } from './labels.ts';
import { HASH_DIGITS } from './table/ids.ts';

export interface RowOptions {
  /** The queries of dev and test. */
  splitSeed?: number;
  /** Share of the training queries that each of dev and test takes where no file is there for it. */
  holdOut?: number;
  /** Roles of columns, where their names do not show them. */
  columns?: ColumnOptions;
}

/** Number of rows from which the content of columns is inferred. */
const LOOKED_AT = 100;

/** What is known of all rows while they are read. */
interface Gathered {
  documents: TextTableBuilder;
  queries: TextTableBuilder;
  splits: Map<string, Pairs>;
  labels: Numbers;
  /** Scores of rows that nothing else judges. */
  doubtful: Numbers;
  hasScores: boolean;
  /** Files of a split that are read alike. */
  said: { how: string; files: string[]; split: string; rows: number; empty: number }[];
}

/**
 * Reads files of rows, each for a split. The order of rows and files does not matter.
 * @throws InputError that names file and line
 */
export async function openRows(
  name: string,
  files: readonly { file: string; split: SplitName }[],
  options: RowOptions = {},
): Promise<Dataset> {
  const all: Gathered = {
    documents: new TextTableBuilder({ byContent: true }),
    queries: new TextTableBuilder({ byContent: true }),
    splits: new Map(),
    labels: new Numbers(),
    doubtful: new Numbers(),
    hasScores: false,
    said: [],
  };
  for (const { file, split } of files) await addFile(all, file, split, options.columns);
  const meaning = settle([...all.splits.values()], all.labels, all.doubtful, all.hasScores, name);
  const { table: queries, moved: movedQueries } = all.queries.buildSorted();
  const { table: documents, moved: movedDocuments } = all.documents.buildSorted();
  const splits = new Map<string, JudgedLists>();
  for (const [split, pairs] of all.splits) {
    splits.set(split, sortPairs(pairs, movedQueries, movedDocuments));
    all.splits.set(split, new Pairs());
  }
  const notes = all.said.map(({ how, files: own, split, rows, empty }) => {
    const more = own.length > 1 ? ` and ${own.length - 1} more` : '';
    const { queries: q, positives } = count(splits.get(split) as JudgedLists);
    return `${own[0]}${more} (${split}): ${how}${meaning ? `; ${meaning}` : ''}; ${rows} rows${empty ? `, ${empty} empty texts left out` : ''}; the split has ${q} queries, ${positives} positives`;
  });
  notes.push(...holdOut(splits, options));
  const judged = new Map<string, Qrels>();
  for (const [split, lists] of splits) judged.set(split, qrelsOf(lists, queries, documents, split !== 'train'));
  const scored = [...splits.values()].some((l) => l.grades.length > 0 && l.grades.every(Number.isNaN));
  if (scored)
    notes.push(
      'the rows have scores but no judgements: in evaluation the document with the highest score counts as relevant',
    );
  const of = <T>(table: ReadonlyMap<string, T>, split: string): T => {
    const found = table.get(split);
    if (!found) throw unknownSplit(split, [...splits.keys()], name);
    return found;
  };
  const lists = [...splits.values()].some((l) => l.scores.some((s, i) => !Number.isNaN(s) || l.grades[i] === 0));
  return {
    name,
    documents,
    queries,
    splits: [...splits.keys()],
    qrels: (split) => of(judged, split),
    ...(lists && { candidates: (split: string) => of(splits, split) }),
    notes,
  };
}

async function addFile(all: Gathered, file: string, split: SplitName, columns?: ColumnOptions): Promise<void> {
  const pairs = all.splits.get(split) ?? new Pairs();
  all.splits.set(split, pairs);
  let roles: Roles | undefined;
  let first: Row[] = [];
  let [rows, empty] = [0, 0];
  const add = (row: Row): void => {
    const reading = readRow(row, roles as Roles);
    rows++;
    empty += reading.empty;
    addReading(all, pairs, reading);
  };
  const start = (): void => {
    roles = rolesOf(first, columns);
    for (const row of first) add(row);
    first = [];
  };
  for await (const row of readRows(file, { header: !byPlace(columns) })) {
    if (roles) add(row);
    else if (first.push(row) === LOOKED_AT) start();
  }
  if (!roles && first.length) start();
  if (!roles)
    throw new InputError({ code: 'data.empty', subject: `${file} holds no row`, remedy: 'write at least one row' });
  const { said, aside } = roles as Roles;
  const how = [said, ...aside].join('; ');
  const alike = all.said.find((s) => s.how === how && s.split === split);
  if (alike) {
    alike.files.push(basename(file));
    alike.rows += rows;
    alike.empty += empty;
  } else all.said.push({ how, files: [basename(file)], split, rows, empty });
}

/** In one call where Node has one (20.12 and later): a text takes a third of the time. */
const sha256: (text: string) => string =
  typeof crypto.hash === 'function'
    ? (text) => crypto.hash('sha256', text, 'hex')
    : (text) => crypto.createHash('sha256').update(text).digest('hex');
const idOf = (text: string): string => sha256(text).slice(0, HASH_DIGITS);

function addReading(all: Gathered, pairs: Pairs, row: Reading): void {
  const query = all.queries.put(idOf(row.query), row.query);
  all.hasScores ||= row.scores !== undefined;
  for (const [i, text] of row.documents.entries()) {
    const label = row.labels?.[i] ?? Number.NaN;
    const score = row.scores?.[i] ?? Number.NaN;
    if (row.labels) all.labels.add(label);
    if (row.doubtful) all.doubtful.add(score);
    pairs.add(query, all.documents.put(idOf(text), text), row.grades[i], label, score);
  }
}

function count({ queries, grades }: JudgedLists): { queries: number; positives: number } {
  let positives = 0;
  for (const g of grades) positives += Number(g > 0);
  return { queries: queries.length, positives };
}

/** Cuts dev and test from the training queries where no file is there for them. @returns what was done */
function holdOut(splits: Map<string, JudgedLists>, { splitSeed = 0, holdOut: share = 0.05 }: RowOptions): string[] {
  const train = splits.get('train');
  const missing = (['dev', 'test'] as const).filter((s) => !splits.has(s));
  if (!train || !missing.length) return [];
  const queries = Random.of(splitSeed, 'splits').shuffle(train.queries.slice());
  const count = Math.min(Math.ceil(queries.length * share), Math.floor(queries.length / 4));
  if (!count) return [];
  const goes = new Map<number, string>();
  for (const [i, split] of missing.entries()) {
    for (const q of queries.subarray(i * count, (i + 1) * count)) goes.set(q, split);
    splits.set(
      split,
      listsWhere(train, (q) => goes.get(q) === split),
    );
  }
  splits.set(
    'train',
    listsWhere(train, (q) => !goes.has(q)),
  );
  return [
    `no file for ${missing.join(' and ')}: ${count} of ${queries.length} queries each, drawn with seed ${splitSeed}`,
  ];
}
