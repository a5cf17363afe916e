/** @file docs/methods.md names every member of the registries, and its config examples are read as configs. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../config/config.ts';
import { losses } from '../../losses/index.ts';
import { candidateSelections, querySelections } from '../../selection/index.ts';
import { weightings } from '../../weighting/index.ts';

const rows = readFileSync('docs/methods.md', 'utf8')
  .split('\n')
  .filter((l) => l.startsWith('| '));
const examples = rows.flatMap((row) =>
  [
    ...row.matchAll(
      /`((?:candidates|evaluate|losses|matryoshka|selection|querySelection|student|train|weighting): .+?)`/g,
    ),
  ].map(([, yaml]) => yaml),
);

test('every loss, selection and weighting has a row with a config of its kind', () => {
  const kinds = (key: string): Set<string> =>
    new Set(
      examples
        .filter((e) => e.startsWith(`${key}:`))
        .flatMap((e) => [parse(e)[key]].flat().map((v: { kind: string }) => v.kind)),
    );
  expect([...kinds('losses')].sort()).toEqual(Object.keys(losses).sort());
  expect([...kinds('selection')].sort()).toEqual(Object.keys(candidateSelections).sort());
  expect([...kinds('querySelection')].sort()).toEqual(Object.keys(querySelections).sort());
  expect([...kinds('weighting')].sort()).toEqual(Object.keys(weightings).sort());
});

test.each(examples)('%s', (yaml) => {
  const result = configSchema.safeParse({ data: { path: 'data' }, student: { model: 'model' }, ...parse(yaml) });
  expect(result.error?.issues ?? []).toEqual([]);
});
