/** @file docs/data.md lists what the code reads: endings, names of columns, what is refused. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { columnNames } from '../../data/files/columns.ts';
import { rowEndings, unreadEndings } from '../../data/files/rows.ts';
import { lineEndings, qrelsNames } from '../../data/qrels.ts';

const page = readFileSync('docs/data.md', 'utf8');
const rowsOf = (role: string): string[][] =>
  page
    .split('\n')
    .filter((line) => line.split('|')[1]?.trim() === role)
    .map((line) => Array.from((line.split('|')[2] ?? '').matchAll(/`([^`]+)`/g), ([, name]) => name));

test.each(Object.entries(columnNames))('names of %s', (role, names) => {
  expect(rowsOf(role)).toContainEqual([...names]);
});

test.each(Object.entries(qrelsNames))('names in judgements: %s', (role, names) => {
  expect(rowsOf(role)).toContainEqual(names);
});

test('endings that are read and refused', () => {
  for (const ending of [...rowEndings, ...lineEndings]) expect(page).toContain(`\`.${ending}\``);
  const refused = /refused by name: (.*)\./.exec(page)?.[1];
  expect(refused).toBe(
    Object.keys(unreadEndings)
      .map((e) => `\`.${e}\``)
      .join(', '),
  );
});
