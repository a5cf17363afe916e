/** @file Lists of candidates with scores: `query-id corpus-id score` lines, in file order. */
import { InputError } from '../common/errors.ts';
import type { TextTable } from './dataset.ts';
import { findFile, readLines } from './lines.ts';

/** Candidates of some queries: those of query `queries[i]` are documents[offsets[i] .. offsets[i + 1]]. */
export interface CandidateLists {
  /** Positions in the query table. */
  readonly queries: Int32Array;
  readonly offsets: Int32Array;
  /** Positions in the document table. */
  readonly documents: Int32Array;
  /** The teacher's raw scores; NaN where not scored. */
  readonly scores: Float32Array;
}

/** @throws InputError that names file and line for unknown ids and scores that are no numbers */
export async function readScores(path: string, queries: TextTable, documents: TextTable): Promise<CandidateLists> {
  const file = findFile(path);
  if (!file)
    throw new InputError({
      code: 'data.missing-file',
      subject: `there is no file of scores ${path}`,
      remedy: 'give a file of lines query-id, corpus-id, score',
    });
  const lists = new Map<number, { documents: number[]; scores: number[] }>();
  for await (const { text, number } of readLines(file)) {
    if (!text.trim() || (number === 1 && /^query-?_?id\t/i.test(text))) continue;
    const [query, document, score] = text.split('\t');
    const value = Number(score);
    if (score === undefined || score.trim() === '' || !Number.isFinite(value))
      throw new InputError({
        code: 'data.malformed-line',
        subject: `${file} line ${number}`,
        expected: 'query-id, corpus-id and a number, separated by tabs',
        received: JSON.stringify(text.slice(0, 80)),
        remedy: 'mend or remove the line',
      });
    const q = queries.indexOf(query);
    const d = documents.indexOf(document);
    if (q === undefined || d === undefined)
      throw new InputError({
        code: 'data.unknown-id',
        subject: `${file} line ${number} names the ${q === undefined ? `query '${query}'` : `document '${document}'`}, which is not in the data`,
        remedy: 'use the scores of this data set or remove the line',
      });
    let list = lists.get(q);
    if (!list) {
      list = { documents: [], scores: [] };
      lists.set(q, list);
    }
    list.documents.push(d);
    list.scores.push(value);
  }
  return candidateLists([...lists].map(([query, list]) => ({ query, ...list })));
}

export function candidateLists(
  lists: readonly { query: number; documents: readonly number[]; scores?: readonly number[] }[],
): CandidateLists {
  const offsets = new Int32Array(lists.length + 1);
  for (const [i, l] of lists.entries()) offsets[i + 1] = offsets[i] + l.documents.length;
  const documents = new Int32Array(offsets[lists.length]);
  const scores = new Float32Array(offsets[lists.length]).fill(Number.NaN);
  for (const [i, l] of lists.entries()) {
    documents.set(l.documents, offsets[i]);
    if (l.scores) scores.set(l.scores, offsets[i]);
  }
  return { queries: Int32Array.from(lists, (l) => l.query), offsets, documents, scores };
}
