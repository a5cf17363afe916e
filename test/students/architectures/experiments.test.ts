/** @file The experiments on architectures are configs that can be read, with the options of a long run too. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { readConfig } from '../../../config/yaml/read-yaml.ts';
import { architectures } from '../../../students/architectures/index.ts';

const { always, groups } = parse(readFileSync('bench/experiments/experiments.yaml', 'utf8'));
const { config, always: own = [], variants } = groups.architectures;
const long = ['train.provider=cuda', 'train.steps=1194', 'train.spans=256', 'generate={kind: spans, count: 100000}'];

test.each(Object.entries(variants) as [string, string[]][])('%s', (_, sets) => {
  for (const more of [[], long]) {
    const { student, train } = readConfig(`bench/configs/${config}.yaml`, [...always, ...own, ...sets, ...more]);
    expect(train.steps).toBe(more.length ? 1194 : 100);
    expect('architecture' in student && student.architecture !== undefined).toBe(sets.length > 0);
  }
});

test('every architecture is among them', () => {
  for (const kind of Object.keys(architectures)) expect(JSON.stringify(variants)).toContain(`kind: ${kind}`);
});
