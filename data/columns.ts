/** @file What the columns of a row are: sentence-transformers' names first, its order where no name is known. */
import { InputError } from '../common/errors.ts';
import type { Row } from './rows.ts';

const queryNames = ['query', 'anchor', 'question', 'sentence1', 'sentence_1', 'text1', 'sentence_a', 'q'];
const documentNames = [
  'positive',
  'pos',
  'document',
  'passage',
  'answer',
  'response',
  'sentence2',
  'sentence_2',
  'text2',
  'sentence_b',
  'context',
  'text',
];
const scoreNames = ['score', 'scores', 'label', 'labels', 'similarity', 'similarity_score', 'margin', 'teacher_score'];
const NEGATIVE = /^(hard_)?neg(ative)?s?([_-]?\d+)?$/i;
const NUMBERING = /^_?(id|idx|index)$/i;

export interface Roles {
  query: string;
  positive: string;
  negatives(values: Row['values']): string[];
  score: string | undefined;
  /** E.g. `query = anchor, positive = answer, negatives = negative_1, negative_2`. */
  said: string;
}

/** What a row says: a query, its documents, and what is known of each. */
export interface Reading {
  query: string;
  positives: string[];
  negatives: string[];
  /** Whether it is a query and one document, so that its number may be a grade. */
  pair: boolean;
  /** One number for the pair, or one a document (positives first), or one margin a negative. */
  scores: number[] | undefined;
}

/** @throws InputError where there are not at least two columns of text */
export function rolesOf(row: Row): Roles {
  const names = Object.keys(row.values);
  const named = (known: readonly string[], among: readonly string[]): string | undefined =>
    known.flatMap((k) => among.filter((n) => n.toLowerCase() === k))[0];
  const score = named(scoreNames, names);
  const texts = names.filter((n) => n !== score && !NUMBERING.test(n));
  const query = named(queryNames, texts) ?? texts.find((n) => !NEGATIVE.test(n) && !documentNames.includes(n));
  const others = texts.filter((n) => n !== query);
  const known = named(documentNames, others);
  const positive = known ?? others.find((n) => !NEGATIVE.test(n));
  if (query === undefined || positive === undefined)
    throw new InputError({
      code: 'data.columns',
      subject: `${row.where} has the columns ${names.join(', ') || '(none)'}`,
      expected: 'a query and a document, e.g. query and positive, or anchor, positive and negative',
      remedy: 'name the columns so, e.g. with a first line query,positive in CSV',
    });
  // Without a known name the order speaks, as in sentence-transformers: what follows the positive is negative.
  const inOrder = known ? [] : others.filter((n) => n !== positive && !NEGATIVE.test(n));
  const negatives = (values: Row['values']): string[] => [
    ...Object.keys(values).filter((n) => NEGATIVE.test(n)),
    ...inOrder,
  ];
  const listed = negatives(row.values);
  const said = [
    `query = ${query}`,
    `positive = ${positive}`,
    ...(listed.length ? [`negatives = ${listed.join(', ')}`] : []),
    ...(score ? [`score = ${score}`] : []),
  ].join(', ');
  return { query, positive, negatives, score, said };
}

/** @throws InputError that names the row and the column where a text or a number is missing */
export function readRow({ values, where }: Row, roles: Roles): Reading {
  const bad = (column: string, expected: string): InputError =>
    new InputError({
      code: 'data.malformed-line',
      subject: `${where}: '${column}'`,
      expected,
      received: JSON.stringify(values[column], (_, v) => (typeof v === 'bigint' ? Number(v) : v)) ?? 'nothing',
      remedy: 'mend or remove the row',
    });
  const texts = (column: string): string[] => {
    const value = values[column];
    const list = Array.isArray(value) ? value : value === null || value === undefined ? [] : [value];
    if (!list.every((t) => typeof t === 'string')) throw bad(column, 'a text');
    return list.map((t) => t.trim()).filter(Boolean);
  };
  const [query] = texts(roles.query);
  if (query === undefined) throw bad(roles.query, 'a text');
  const positives = texts(roles.positive);
  if (!positives.length) throw bad(roles.positive, 'a text');
  let scores: number[] | undefined;
  if (roles.score) {
    const value = values[roles.score];
    const empty = value === null || value === undefined || value === '';
    scores = (Array.isArray(value) ? value : [value]).map(Number);
    if (empty || !scores.every(Number.isFinite)) throw bad(roles.score, 'a number');
  }
  const columns = roles.negatives(values);
  const pair = !columns.length && !Array.isArray(values[roles.positive]);
  return { query, positives, negatives: columns.flatMap(texts), pair, scores };
}
