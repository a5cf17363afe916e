/** @file Lists of candidates with scores: `query-id corpus-id score` lines, in file order. */
import { InputError } from '../common/errors.ts';
import type { TextTable } from './dataset.ts';
import { findFile, readLines } from './files/lines.ts';
import { type CandidateLists, candidateLists } from './lists.ts';

/** @throws InputError that names file and line for unknown ids and scores that are not finite numbers */
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
    const finite = score !== undefined && score.trim() !== '' && Number.isFinite(value);
    if (!finite || !Number.isFinite(Math.fround(value)))
      throw new InputError({
        code: 'data.malformed-line',
        subject: `${file} line ${number}`,
        expected: `query-id, corpus-id and a number${finite ? ' that fits into 32 bits' : ''}, separated by tabs`,
        received: JSON.stringify(text.slice(0, 80)),
        remedy: 'fix or remove the line',
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
