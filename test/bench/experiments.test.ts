/** @file Every experiment of bench/experiments is a config that can be read. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { readConfig } from '../../config/yaml/read-yaml.ts';

interface Group {
  config: string;
  always?: string[];
  variants: Record<string, string[]>;
}
const { always, groups } = parse(readFileSync('bench/experiments/experiments.yaml', 'utf8')) as {
  always: string[];
  groups: Record<string, Group>;
};

test.each(Object.entries(groups))('%s', (_, { config, always: own = [], variants }) => {
  for (const [variant, sets] of Object.entries(variants))
    expect(
      () => readConfig(`bench/configs/${config}.yaml`, [...always, ...own, ...sets, 'seed=1']),
      variant,
    ).not.toThrow();
});
