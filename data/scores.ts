/** @file Lists of candidates with scores: `query-id corpus-id score` lines, in file order. */
import { InputError } from '../common/errors.ts';
import type { TextTable } from './dataset.ts';
import { findFile, readLines } from './files/lines.ts';
import { type CandidateLists, candidateLists } from './lists.ts';

/**
 * Lines of queries that the data does not have are left out, and said: a file often scores more queries than one run learns from.
 * @param onNote told how many queries were left out
 * @throws InputError that names file and line for unknown documents, for scores that are not finite numbers, and where no query is known
 */
export async function readScores(
  path: string,
  queries: TextTable,
  documents: TextTable,
  onNote?: (text: string) => void,
): Promise<CandidateLists> {
  const file = findFile(path);
  if (!file)
    throw new InputError({
      code: 'data.missing-file',
      subject: `there is no file of scores ${path}`,
      remedy: 'give a file of lines query-id, corpus-id, score',
    });
  const lists = new Map<number, { documents: number[]; scores: number[] }>();
  const unknown = new Set<string>();
  const refuse = (subject: string): InputError =>
    new InputError({ code: 'data.unknown-id', subject, remedy: 'use the scores of this data set' });
  let first = 0;
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
    if (q === undefined) {
      first ||= number;
      unknown.add(query);
      continue;
    }
    const d = documents.indexOf(document);
    if (d === undefined)
      throw refuse(`${file} line ${number} names the document '${document}', which is not in the data`);
    let list = lists.get(q);
    if (!list) {
      list = { documents: [], scores: [] };
      lists.set(q, list);
    }
    list.documents.push(d);
    list.scores.push(value);
  }
  const [example] = unknown;
  if (unknown.size && !lists.size)
    throw refuse(`none of the ${unknown.size} queries of ${file} is in the data, e.g. '${example}' (line ${first})`);
  if (unknown.size)
    onNote?.(
      `${file}: ${unknown.size} of ${unknown.size + lists.size} queries are not in the data and are left out, e.g. '${example}' (line ${first})`,
    );
  return candidateLists([...lists].map(([query, list]) => ({ query, ...list })));
}
