/** @file The examples of the losses' docstrings are run: each `value; // number` must hold. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import * as exported from '../../losses/index.ts';

interface Example {
  file: string;
  code: string;
}

function examples(): Example[] {
  return readdirSync('losses').flatMap((file) => {
    const source = readFileSync(`losses/${file}`, 'utf8');
    return [...source.matchAll(/^ \* @example\n((?: \*.*\n)*?)(?= \* @| \*\/)/gm)].map(([, block]) => ({
      file,
      code: block.replace(/^ \* ?/gm, ''),
    }));
  });
}

const run = (code: string): Promise<unknown[]> => {
  const body = code
    .replace(/import (\{[^}]*\}) from 'onnx-distill\/losses';/g, 'const $1 = exported;')
    .replace(/^(.+); \/\/ (-?[\d.]+)$/gm, 'found.push([$1, $2]);');
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor as new (
    ...parts: string[]
  ) => (e: typeof exported) => Promise<unknown[]>;
  return new AsyncFunction('exported', `const found = [];\n${body}\nreturn found;`)(exported);
};

const all = examples().filter(({ code }) => !code.includes('export '));

/** Files of the folder that hold no loss. */
const helpers = [
  'check-arrays.ts',
  'evaluate.ts',
  'index.ts',
  'inputs.ts',
  'loss.ts',
  'members.ts',
  'options.ts',
  'user-loss.ts',
];

test('every loss has an example', () => {
  const members = readdirSync('losses').filter((f) => !helpers.includes(f));
  expect(all.map((e) => e.file)).toEqual(members);
});

test.each(all)('the example in $file holds', async ({ code }) => {
  const found = (await run(code)) as [number, number][];
  expect(found.length).toBeGreaterThan(0);
  for (const [value, expected] of found) expect(value).toBeCloseTo(expected, 5);
});
