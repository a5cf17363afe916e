/** @file A data set from files of rows: texts become two tables without repetition, rows become judgements and candidates. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { InputError } from '../common/errors.ts';
import { Random } from '../math/random.ts';
import { type Reading, type Roles, readRow, rolesOf } from './columns.ts';
import { type Dataset, type Qrels, TextTableBuilder, unknownSplit } from './dataset.ts';
import { type CandidateLists, candidateLists } from './lists.ts';
import { readRows } from './rows.ts';

export type SplitName = 'train' | 'dev' | 'test';

export interface RowOptions {
  /** Which queries dev and test take. */
  splitSeed?: number;
  /** Share of the training queries that each of dev and test takes where no file is there for it. */
  holdOut?: number;
}

/** What the rows of one split say of query-document pairs, a pair an entry. */
class Pairs {
  readonly queries: number[] = [];
  readonly documents: number[] = [];
  /** NaN where a row judges nothing. */
  readonly grades: number[] = [];
  /** NaN where a row scores nothing. */
  readonly scores: number[] = [];

  add(query: number, document: number, grade: number, score: number): void {
    this.queries.push(query);
    this.documents.push(document);
    this.grades.push(grade);
    this.scores.push(score);
  }
}

/**
 * Reads files of rows, each for a split.
 * @throws InputError that names file and line
 */
export async function openRows(
  name: string,
  files: readonly { file: string; split: SplitName }[],
  options: RowOptions = {},
): Promise<Dataset> {
  const documents = new TextTableBuilder();
  const queries = new TextTableBuilder();
  const notes: string[] = [];
  const splits = new Map<string, Pairs>();
  for (const { file, split } of files) {
    const pairs = splits.get(split) ?? new Pairs();
    splits.set(split, pairs);
    let roles: Roles | undefined;
    for await (const row of readRows(file)) {
      if (!roles) {
        roles = rolesOf(row);
        notes.push(`${basename(file)} (${split}): ${roles.said}`);
      }
      addRow(readRow(row, roles), row.where, pairs, queries, documents);
    }
    if (!roles)
      throw new InputError({ code: 'data.empty', subject: `${file} holds no row`, remedy: 'write at least one row' });
  }
  settleScores([...splits.values()]);
  notes.push(...holdOut(splits, options));
  const judged = new Map<string, Qrels>();
  const queryTable = queries.build();
  const documentTable = documents.build();
  for (const [split, pairs] of splits)
    judged.set(split, judgements(pairs, queryTable.ids, documentTable.ids, split !== 'train'));
  if ([...splits.values()].some((p) => p.scores.length && p.grades.every(Number.isNaN)))
    notes.push('the rows score and do not judge: in evaluation the document scored highest counts as the relevant one');
  const of = <T>(table: ReadonlyMap<string, T>, split: string): T => {
    const found = table.get(split);
    if (!found) throw unknownSplit(split, [...splits.keys()], name);
    return found;
  };
  const names = [...splits.keys()];
  const lists = [...splits.values()].some((p) => p.scores.some((s, i) => !Number.isNaN(s) || p.grades[i] === 0));
  return {
    name,
    documents: documentTable,
    queries: queryTable,
    splits: names,
    qrels: (split) => of(judged, split),
    ...(lists && { candidates: (split: string) => listed(of(splits, split)) }),
    notes,
  };
}

const idOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 24);

function addRow(
  row: Reading,
  where: string,
  pairs: Pairs,
  queries: TextTableBuilder,
  documents: TextTableBuilder,
): void {
  const { positives, negatives, scores } = row;
  const query = queries.put(idOf(row.query), row.query);
  const at = [...positives, ...negatives].map((text) => documents.put(idOf(text), text));
  const P = positives.length;
  if (scores && !(scores.length === at.length || (P === 1 && scores.length === negatives.length)))
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${where} has ${scores.length} scores`,
      expected: `${at.length}, one a document${P === 1 && negatives.length ? `, or ${negatives.length}, the margin to each negative` : ''}`,
      remedy: 'mend or remove the row',
    });
  for (const [i, document] of at.entries()) {
    // A margin is the positive's score less the negative's; losses over scores do not see a shift common to both.
    const score = !scores ? Number.NaN : scores.length === at.length ? scores[i] : i === 0 ? 0 : -scores[i - 1];
    // A pair's number may be a grade or a score: that is known when all rows are read.
    const grade = scores && row.pair ? Number.NaN : i < P ? 1 : 0;
    pairs.add(query, document, grade, score);
  }
}

/** Numbers of pairs that are whole and not negative in every row are grades; otherwise they are a teacher's scores. */
function settleScores(all: readonly Pairs[]): void {
  const numbers = all.flatMap((p) => p.scores.filter((_, i) => Number.isNaN(p.grades[i])));
  if (!numbers.every((s) => Number.isInteger(s) && s >= 0)) return;
  for (const p of all)
    for (const [i, g] of p.grades.entries())
      if (Number.isNaN(g)) [p.grades[i], p.scores[i]] = [p.scores[i], Number.NaN];
}

/** Cuts dev and test from the training queries where no file is there for them. @returns what was done */
function holdOut(splits: Map<string, Pairs>, { splitSeed = 0, holdOut: share = 0.05 }: RowOptions): string[] {
  const train = splits.get('train');
  const missing = (['dev', 'test'] as const).filter((s) => !splits.has(s));
  if (!train || !missing.length) return [];
  const queries = Random.of(splitSeed, 'splits').shuffle([...new Set(train.queries)]);
  const count = Math.min(Math.ceil(queries.length * share), Math.floor(queries.length / 4));
  if (!count) return [];
  const goes = new Map<number, Pairs>();
  for (const [i, split] of missing.entries()) {
    const pairs = new Pairs();
    splits.set(split, pairs);
    for (const q of queries.slice(i * count, (i + 1) * count)) goes.set(q, pairs);
  }
  const kept = new Pairs();
  for (let i = 0; i < train.queries.length; i++)
    (goes.get(train.queries[i]) ?? kept).add(train.queries[i], train.documents[i], train.grades[i], train.scores[i]);
  splits.set('train', kept);
  return [
    `no file for ${missing.join(' and ')}: ${count} of ${queries.length} queries each, drawn with seed ${splitSeed}`,
  ];
}

/** @param best whether the document scored highest stands in for judgements where a query has none */
function judgements(pairs: Pairs, queryIds: readonly string[], documentIds: readonly string[], best: boolean): Qrels {
  const qrels = new Map<string, Map<string, number>>();
  const top = new Map<number, number>();
  for (const [i, q] of pairs.queries.entries()) {
    const grade = pairs.grades[i];
    if (Number.isNaN(grade)) {
      if (pairs.scores[i] > (pairs.scores[top.get(q) ?? -1] ?? Number.NEGATIVE_INFINITY)) top.set(q, i);
      continue;
    }
    const own = qrels.get(queryIds[q]) ?? new Map<string, number>();
    const id = documentIds[pairs.documents[i]];
    own.set(id, Math.max(grade, own.get(id) ?? 0));
    qrels.set(queryIds[q], own);
  }
  if (best)
    for (const [q, i] of top)
      if (!qrels.has(queryIds[q])) qrels.set(queryIds[q], new Map([[documentIds[pairs.documents[i]], 1]]));
  return qrels;
}

function listed(pairs: Pairs): CandidateLists {
  const lists = new Map<number, Map<number, number>>();
  for (const [i, q] of pairs.queries.entries()) {
    const own = lists.get(q) ?? new Map<number, number>();
    const d = pairs.documents[i];
    own.set(d, Number.isNaN(pairs.scores[i]) ? (own.get(d) ?? Number.NaN) : pairs.scores[i]);
    lists.set(q, own);
  }
  return candidateLists(
    [...lists].map(([query, own]) => ({ query, documents: [...own.keys()], scores: [...own.values()] })),
  );
}
