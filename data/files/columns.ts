/** @file What the columns of rows are: told by `data.columns`, else by known names, else by their order as in sentence-transformers. */
import { InputError, shown } from '../../common/errors.ts';
import type { Row } from './rows.ts';
import { textOf } from './text-of.ts';

/** Columns by name, or by place from 1 in a file without a header. */
export interface ColumnOptions {
  query?: string | number;
  /** Relevant documents, or documents with labels or scores. */
  document?: string | number;
  negatives?: string | number | (string | number)[];
  /** Grades: whole numbers, over 0 relevant; or -1 and 1. */
  label?: string | number;
  /** A teacher's scores: one column, or those of the documents and of the negatives. */
  scores?: string | number | (string | number)[];
  /** Columns that are ignored on request. */
  ignore?: string | number | (string | number)[];
}

/** Names by which columns are known; case, spaces and hyphens do not matter. The first in a list goes before the others. */
export const columnNames = {
  query: [
    ...['query', 'anchor', 'question', 'sentence1', 'sentence_1', 'text1', 'text_1', 'sentence_a', 'text_a', 'q'],
    ...['queries', 'query_text', 'search_term', 'search_query', 'question_text'],
  ],
  document: [
    ...[
      'positive',
      'positives',
      'pos',
      'positive_passages',
      'positive_ctxs',
      'positive_passage',
      'document',
      'documents',
      'docs',
      'doc',
      'passage',
      'passages',
      'answer',
    ],
    ...['answers', 'response', 'sentence2', 'sentence_2', 'text2', 'text_2', 'sentence_b', 'text_b', 'context'],
    ...['contexts', 'candidates', 'document_text', 'passage_text', 'product_title', 'text', 'content'],
  ],
  negatives: [
    ...['negative', 'negatives', 'neg', 'hard_negative', 'hard_negatives', 'negative_1', 'neg_2'],
    ...['negative_passages', 'negative_ctxs', 'hard_negative_ctxs'],
  ],
  label: [
    ...['label', 'labels', 'relevance', 'rel', 'relevancy', 'grade', 'grades', 'rating', 'ratings', 'gain', 'gains'],
    ...['judgement', 'judgment', 'is_relevant', 'relevant', 'target', 'targets', 'gold'],
  ],
  scores: [
    ...['score', 'scores', 'similarity', 'similarity_score', 'margin', 'teacher_score', 'teacher_scores'],
    ...['relevance_score', 'logit', 'logits'],
  ],
  'scores of documents': ['pos_scores', 'positive_scores', 'pos_score', 'positive_score'],
  'scores of negatives': ['neg_scores', 'negative_scores', 'neg_score', 'negative_score'],
  prompt: ['prompt', 'instruction', 'query_instruction', 'task'],
} as const;

const NEGATIVE = /^(hard_)?neg(ative)?s?(_(passage|ctx|document|doc|text)s?)?(_?\d+)?$/;
/** Numbering and ids, which say nothing of relevance. */
const NUMBERING =
  /^_?(id|idx|index|uid|uuid|guid|qid|pid|did|docid|docno|rank|\(column_\d+\)|(.+_)(id|ids|idx|uid|uuid|no))$|^unnamed:/;
/** Columns that by their name hold relevant documents only. */
const POSITIVE = /^pos(itive)?s?(_(passage|ctx)s?)?$/;
/** Names that promise a judgement. */
const JUDGING = /label|relev|(^|_)rel(_|$)|grade|judg|(^|_)gold(_|$)/;

const plain = (name: string): string =>
  name
    .trim()
    .toLowerCase()
    .replace(/[\s-]+/g, '_');

export interface Roles {
  query: string;
  document: string;
  /** Whether the name means that its documents are relevant. */
  onlyPositives: boolean;
  negatives: string[];
  label: string | undefined;
  /** One column, or that of the documents and that of the negatives. */
  scores: string[];
  /** E.g. `query = anchor, positive = answer, negatives = negative_1, negative_2`. */
  said: string;
  /** Notes, e.g. on columns that are not read. */
  aside: string[];
}

type Kind = 'number' | 'numbers' | 'text' | 'texts' | 'empty' | 'other';

/** Answers as spans of a context, which is the document (SQuAD). */
const isSpans = (v: unknown): boolean => v !== null && typeof v === 'object' && 'answer_start' in v;

const isNumber = (v: unknown): boolean =>
  typeof v === 'number' ||
  typeof v === 'bigint' ||
  typeof v === 'boolean' ||
  (typeof v === 'string' && v.trim() !== '' && Number.isFinite(Number(v)));

/** What a column holds, by some rows of it. */
function kindOf(values: readonly unknown[]): Kind {
  const given = values.filter((v) => v !== null && v !== undefined && v !== '');
  if (!given.length) return 'empty';
  if (given.every(isNumber)) return 'number';
  if (given.every((v) => textOf(v) !== undefined)) return 'text';
  if (!given.every(Array.isArray)) return 'other';
  const items = given.flat().filter((v) => v !== null && v !== '');
  if (items.length && items.every(isNumber)) return 'numbers';
  return items.every((v) => textOf(v) !== undefined) ? 'texts' : 'other';
}

const refuse = (subject: string, expected: string | undefined, remedy: string): InputError =>
  new InputError({ code: 'data.columns', subject, expected, remedy });

const list = (value: string | number | readonly (string | number)[] | undefined): string[] =>
  value === undefined ? [] : (Array.isArray(value) ? value : [value]).map(String);

/** Whether columns are given by position, so that the file has no header. */
export const byPlace = (options: ColumnOptions = {}): boolean =>
  Object.values(options)
    .flat()
    .some((v) => typeof v === 'number');

/**
 * The role of each column.
 * @param rows the first rows of a file
 * @throws InputError where there are not a query and a document, or a column of numbers is not understood
 */
export function rolesOf(rows: readonly Row[], options: ColumnOptions = {}): Roles {
  const [{ where, headed, note }] = rows;
  const names = [...new Set(rows.flatMap((r) => Object.keys(r.values)))];
  const kinds = new Map(names.map((n) => [n, kindOf(rows.map((r) => r.values[n]))]));
  checkTold(names, options, where);
  if (headed && !byPlace(options)) checkHeader(names, options, where);
  const ignored = new Set(list(options.ignore));
  const free = names.filter((n) => !ignored.has(n));
  const named = (known: readonly string[], among: readonly string[]): string | undefined =>
    known.flatMap((k) => among.filter((n) => plain(n) === k))[0];
  const told = new Set(
    [options.query, options.document, options.label, options.negatives, options.scores].flatMap(list),
  );
  const open = free.filter((n) => !told.has(n));

  refuseUnread(open, rows, kinds, where);
  const asLabel = list(options.label)[0] ?? named(columnNames.label, open);
  // A column of scores in which nothing stands is none.
  const filled = open.filter((n) => kinds.get(n) !== 'empty');
  const pairScores = [columnNames['scores of documents'], columnNames['scores of negatives']].flatMap(
    (known) => named(known, filled) ?? [],
  );
  const single = named(columnNames.scores, filled);
  const asScores =
    options.scores !== undefined ? list(options.scores) : pairScores.length ? pairScores : single ? [single] : [];
  const prompt = named(columnNames.prompt, open);
  const numeric = (n: string): boolean => ['number', 'numbers', 'other'].includes(kinds.get(n) as string);
  const texts = open.filter(
    (n) => n !== asLabel && n !== prompt && !asScores.includes(n) && !NUMBERING.test(plain(n)) && !numeric(n),
  );
  const isDocument = (n: string): boolean => (columnNames.document as readonly string[]).includes(plain(n));
  const knownQuery = list(options.query)[0] ?? named(columnNames.query, texts);
  const query = knownQuery ?? texts.find((n) => !NEGATIVE.test(plain(n)) && !isDocument(n));
  const others = texts.filter((n) => n !== query);
  const knownDocument = list(options.document)[0] ?? named(columnNames.document, others);
  const document = knownDocument ?? others.find((n) => !NEGATIVE.test(plain(n)));
  if (query === undefined || document === undefined)
    throw refuse(
      `${where} has the columns ${names.join(', ') || '(none)'}`,
      'a query and a document, e.g. query and positive, or anchor, positive and negative',
      'name the columns so, e.g. with a first line query,positive in CSV, or say which is which: data.columns: { query: NAME, document: NAME }',
    );

  // Without a known name the order decides, as in sentence-transformers: columns after the positive are negatives.
  const left = others.filter((n) => n !== document && n !== query);
  const namedNegatives = left.filter((n) => NEGATIVE.test(plain(n)));
  const inOrder = knownDocument ? [] : left.filter((n) => !NEGATIVE.test(plain(n)));
  const negatives = options.negatives !== undefined ? list(options.negatives) : [...namedNegatives, ...inOrder];
  // One number of a row with negatives is the margin to them, as sentence-transformers calls it.
  const margin = negatives.length && !asScores.length && kinds.get(asLabel as string) === 'number';
  const [label, scores] = margin ? [undefined, [asLabel as string]] : [asLabel, asScores];

  const used = new Set([query, document, label, ...negatives, ...scores]);
  const unused = free.filter((n) => !used.has(n) && kinds.get(n) !== 'empty');
  const doubtful = unused.find(
    (n) => ['number', 'numbers'].includes(kinds.get(n) as string) && !NUMBERING.test(plain(n)) && n !== prompt,
  );
  if (doubtful !== undefined && !label && !scores.length && !negatives.length)
    throw refuse(
      `${where}: the column '${doubtful}' holds numbers, and its name does not tell what they mean`,
      `a name such as ${columnNames.label.slice(0, 4).join(', ')} for grades, or score for a teacher's scores`,
      `rename it, or set data.columns: { label: ${doubtful} }, { scores: ${doubtful} } or { ignore: ${doubtful} }`,
    );
  const judging = unused.find((n) => n !== prompt && JUDGING.test(plain(n)) && !NUMBERING.test(plain(n)));
  if (judging !== undefined)
    throw refuse(
      label === undefined
        ? `${where}: the column '${judging}' (${shown(JSON.stringify(rows[0].values[judging]) ?? '').slice(0, 40)}) is called like a judgement and holds no numbers`
        : `${where}: the columns '${label}' and '${judging}' are both called like judgements`,
      'one column of numbers that judges: above 0 relevant',
      `turn it into numbers, or set data.columns: { label: NAME, ignore: ${judging} }`,
    );
  const aside = [
    ...(prompt !== undefined
      ? [`'${prompt}' (${JSON.stringify(rows[0].values[prompt])}) is not read: student.prompts holds instructions`]
      : []),
    ...(unused.some((n) => n !== prompt) ? [`not read: ${unused.filter((n) => n !== prompt).join(', ')}`] : []),
    ...(note ? [note] : []),
    ...(knownQuery === undefined || knownDocument === undefined ? ['columns by their order'] : []),
  ];
  const said = [
    `query = ${query}`,
    `${label || (scores.length && !negatives.length) ? 'document' : 'positive'} = ${document}`,
    ...(negatives.length ? [`negatives = ${negatives.join(', ')}`] : []),
    ...(label ? [`label = ${label}`] : []),
    ...(scores.length ? [`score = ${scores.join(', ')}`] : []),
  ].join(', ');
  return { query, document, onlyPositives: POSITIVE.test(plain(document)), negatives, label, scores, said, aside };
}

/** What is called like a text or texts and holds neither must not be passed over: another column would stand in for it. */
function refuseUnread(
  names: readonly string[],
  rows: readonly Row[],
  kinds: ReadonlyMap<string, Kind>,
  where: string,
): void {
  const texts = [...columnNames.query, ...columnNames.document, ...columnNames.negatives] as string[];
  const unread = names.find(
    (n) =>
      kinds.get(n) === 'other' &&
      (texts.includes(plain(n)) || NEGATIVE.test(plain(n))) &&
      !rows.every((r) => r.values[n] === null || r.values[n] === undefined || isSpans(r.values[n])),
  );
  if (unread === undefined) return;
  const given = rows.map((r) => r.values[unread]).find((v) => v !== null && v !== undefined);
  throw refuse(
    `${where}: the column '${unread}' holds what is not read (${shown(JSON.stringify(given) ?? '').slice(0, 80)})`,
    'texts, lists of texts, or objects with a text under text (and perhaps a title)',
    `write it so, or leave it out with data.columns: { ignore: ${unread} }`,
  );
}

/** What `data.columns` names must be there. */
function checkTold(names: readonly string[], options: ColumnOptions, where: string): void {
  const absent = Object.values(options)
    .flatMap((v) => list(v))
    .find((n) => !names.includes(n));
  if (absent !== undefined)
    throw refuse(
      `${where} has no column '${absent}', which data.columns names`,
      `one of ${names.join(', ')}`,
      'name columns that are there, or give places such as 1 where the file has no header',
    );
}

/** A first line without any known name, whose fields look like texts or numbers, is a row. */
function checkHeader(names: readonly string[], options: ColumnOptions, where: string): void {
  const told = Object.values(options).flatMap((v) => list(v));
  const known = names.some(
    (n) =>
      told.includes(n) ||
      NEGATIVE.test(plain(n)) ||
      Object.values(columnNames).some((k) => (k as readonly string[]).includes(plain(n))),
  );
  const text = names.find((n) => isNumber(n) || /[.,;!?"]|\s\S+\s/.test(n) || n.length > 40 || /\s/.test(n));
  if (known || text === undefined) return;
  throw refuse(
    `${where.replace(/ line \d+$/, '')}: the first line (${names.map((n) => (n.length > 30 ? `${n.slice(0, 30)}...` : n)).join(', ')}) does not look like the names of columns`,
    'a first line such as query,document,label',
    'add it, or give the places of columns: data.columns: { query: 1, document: 2 }',
  );
}
