/** @file The config of docs/chain.md is read, and its table lists the runs of a chain. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { chainParts } from '../../config/chain.ts';
import { parseConfig } from '../../config/parse.ts';

const page = readFileSync('docs/chain.md', 'utf8');

test('its config is read', () => {
  const [, yaml] = /```yaml\n([\s\S]*?)```/.exec(page) as RegExpExecArray;
  const { pipeline, chain } = parseConfig(parse(yaml));
  expect(pipeline).toBe('chain');
  expect(chain).toEqual({ assistant: { train: { steps: 1200 } }, static: false });
});

test('its table lists the runs', () => {
  const runs = [...page.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name);
  expect(runs).toEqual(chainParts);
});
