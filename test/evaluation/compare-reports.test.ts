/** @file Reports that `distill compare` is given: other types than a report's are refused with their place. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { compareRuns } from '../../evaluation/systems/compare-runs.ts';

const dir = mkdtempSync(join(tmpdir(), 'reports-'));
afterAll(() => rmSync(dir, { recursive: true }));

const student = { name: 'student', metrics: { map: 0.5 } };
const perQuery = { queryIds: ['a', 'b'], systems: { student: { map: [0, 1] } } };
const file = (name: string, value: unknown): string => {
  const path = join(dir, name);
  writeFileSync(path, JSON.stringify(value));
  return path;
};
const good = file('good.json', { systems: [student], perQuery });

test('a report that holds little is read; a value that was no number stays out of tests', async () => {
  const small = file('small.json', { systems: [{ name: 'student', metrics: { map: null } }] });
  const found = await compareRuns({ runs: [good, small] });
  expect(found.systems.map((s) => s.name)).toEqual(['good.json: student', 'small.json: student']);
  expect(found.notes[0]).toContain('no test of their difference');
});

test('reports that hold a sample of the queries are compared on it, and that is said', async () => {
  const sample = { systems: [student], perQuery: { ...perQuery, of: 70_000 } };
  const [a, b] = [file('a.json', sample), file('b.json', sample)];
  const found = await compareRuns({ runs: [a, b], samples: 20 });
  expect(found.notes).toEqual([
    'b.json and a.json are compared on 2 of 70000 queries, those whose values the reports hold',
  ]);
  expect([found.perQuery?.of, found.comparisons?.length]).toEqual([70_000, 1]);
});

test.each<[string, unknown, RegExp]>([
  ['a list', [1], /holds no systems: expected a run's report.json/],
  ['a text', 'systems', /holds no systems/],
  ['null', null, /holds no systems/],
  [
    'systems that are texts',
    { systems: ['student'] },
    /is not a report: 'systems\.0' expected object, received string; run the command/,
  ],
  ['null as a system', { systems: [null] }, /'systems\.0' expected object, received null/],
  [
    'a name that is a number',
    { systems: [{ ...student, name: 3 }] },
    /'systems\.0\.name' expected string, received number/,
  ],
  ['no metrics', { systems: [{ name: 'student' }] }, /'systems\.0\.metrics' expected record, received undefined/],
  [
    'a metric that is a text',
    { systems: [{ name: 'student', metrics: { map: '1' } }] },
    /'systems\.0\.metrics\.map' expected number, received string/,
  ],
  ['facts of another shape', { systems: [student], facts: 7 }, /'facts' expected array, received number/],
  [
    'values a query of another type',
    { systems: [student], perQuery: { ...perQuery, systems: { student: { map: 'x' } } } },
    /'perQuery\.systems\.student\.map' expected array, received string/,
  ],
  [
    'fewer values than queries',
    { systems: [student], perQuery: { ...perQuery, queryIds: ['a'] } },
    /'perQuery' has other than one value a query/,
  ],
])('%s', async (name, value, message) => {
  const bad = file(`${name}.json`, value);
  for (const runs of [
    [good, bad],
    [bad, good],
  ])
    await expect(compareRuns({ runs })).rejects.toMatchObject({ message: expect.stringMatching(message), exitCode: 2 });
});
