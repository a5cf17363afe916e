/** @file Interprets a row: a query, documents, and their labels or scores. */
import { InputError } from '../../common/errors.ts';
import type { Roles } from './columns.ts';
import type { Row } from './rows.ts';
import { textOf } from './text-of.ts';

export interface Reading {
  query: string;
  /** Those in the column of documents, then negatives. */
  documents: string[];
  /** By the shape of the row: 1 relevant, 0 not, NaN where a number has to tell. */
  grades: number[];
  /** Numbers of the column of labels, one a document. */
  labels: number[] | undefined;
  /** Numbers of the column of scores, one a document; a margin is 0 for the positive and negative for the negatives. */
  scores: number[] | undefined;
  /** Whether the scores may turn out to be grades, as nothing else judges. */
  doubtful: boolean;
  /** Texts that were empty and are left out. */
  empty: number;
}

/** @throws InputError that names the row and the column where a text or a number is missing */
export function readRow({ values, where }: Row, roles: Roles): Reading {
  const bad = (column: string, expected: string): InputError =>
    new InputError({
      code: 'data.malformed-line',
      subject: `${where}: '${column}'`,
      expected,
      received: JSON.stringify(values[column], (_, v) => (typeof v === 'bigint' ? String(v) : v)) ?? 'nothing',
      remedy: 'fix or remove the row',
    });
  const texts = (column: string): string[] => {
    const value = values[column];
    const items = Array.isArray(value) ? value : value === null || value === undefined ? [] : [value];
    return items.map((t) => {
      if (t === null || t === undefined) return '';
      const text = textOf(t);
      if (text === undefined) throw bad(column, 'a text');
      return text.trim();
    });
  };
  const numbers = (column: string): number[] => {
    const value = values[column];
    return (Array.isArray(value) ? value : [value]).map((v) => {
      const n = toNumber(v);
      if (!Number.isFinite(n)) throw bad(column, 'a number');
      if (!Number.isFinite(Math.fround(n))) throw bad(column, 'a number that fits into 32 bits');
      return n;
    });
  };

  const [query] = texts(roles.query);
  if (!query) throw bad(roles.query, 'a text');
  const own = texts(roles.document);
  if (!own.some(Boolean)) throw bad(roles.document, 'a text');
  const negatives = roles.negatives.flatMap(texts);
  const all = [...own, ...negatives];
  const kept = all.flatMap((t, i) => (t ? [i] : []));
  const aligned = (given: number[] | undefined, margins: boolean, what: string): number[] | undefined => {
    if (!given || given.length === all.length) return given && kept.map((i) => given[i]);
    if (given.length === kept.length) return given;
    const marginOf = (count: number): boolean => margins && own.length === 1 && given.length === count;
    // A margin is the positive's score less the negative's; losses over scores do not see a shift common to both.
    if (marginOf(negatives.length)) return kept.map((i) => (i ? -given[i - 1] : 0));
    if (marginOf(kept.length - 1)) return [0, ...given.map((m) => -m)];
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${where} has ${given.length} ${what}`,
      expected: `${kept.length}, one a document${margins && own.length === 1 && negatives.length ? `, or ${negatives.length}, the margin to each negative` : ''}`,
      remedy: 'fix or remove the row',
    });
  };
  const labels = aligned(roles.label === undefined ? undefined : numbers(roles.label), false, 'labels');
  const separate = roles.scores.length > 1;
  const scores = aligned(roles.scores.length ? roles.scores.flatMap(numbersOrNone) : undefined, !separate, 'scores');
  const scalar = !Array.isArray(values[roles.document]);
  const doubtful = !roles.negatives.length && !labels && scores !== undefined && (scalar || !roles.onlyPositives);
  const unknown = doubtful || (labels !== undefined && !roles.negatives.length);
  return {
    query,
    documents: kept.map((i) => all[i]),
    grades: kept.map((i) => (unknown ? Number.NaN : Number(i < own.length))),
    labels,
    scores,
    doubtful,
    empty: all.length - kept.length,
  };

  /** Of two columns of scores one may be absent, with as many documents. */
  function numbersOrNone(column: string): number[] {
    const absent = separate && (values[column] === null || values[column] === undefined);
    return absent ? [] : numbers(column);
  }
}

function toNumber(value: unknown): number {
  if (value === null || value === undefined || (typeof value === 'string' && value.trim() === '')) return Number.NaN;
  if (typeof value === 'string' && /^\s*(true|false)\s*$/i.test(value)) return Number(/true/i.test(value));
  return Array.isArray(value) || typeof value === 'object' ? Number.NaN : Number(value);
}
