import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isRunning, removeLeftovers, writeWhole } from '../../common/files.ts';
import { finishReplacing, replaceFolder } from '../../common/replace.ts';

const place = (): string => mkdtempSync(join(tmpdir(), 'replace-'));
const put = (folder: string, content: string): void => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'file'), content);
};

/** What is there when a process is killed after each step of a swap, and what has to be there in the end. */
const killed: [string, Record<string, string>, string | undefined][] = [
  ['while the first one is written', { '.part': 'half' }, undefined],
  ['while another is written', { '': 'before', '.part': 'half' }, 'before'],
  ['when the first one is whole', { '.new': 'after' }, 'after'],
  ['when another is whole', { '': 'before', '.new': 'after' }, 'after'],
  ['when the old one is aside', { '.old': 'before', '.new': 'after' }, 'after'],
  ['when the new one is in place', { '': 'after', '.old': 'before' }, 'after'],
  ['while the old one is removed and another was made', { '': 'before', '.old': 'earlier', '.new': 'after' }, 'after'],
  ['and someone has removed the new one', { '.old': 'before' }, 'before'],
];

test.each(killed)('killed %s', async (_, there, expected) => {
  const root = place();
  const folder = join(root, 'a');
  for (const [end, content] of Object.entries(there)) put(folder + end, content);
  await finishReplacing(folder);
  expect(readdirSync(root)).toEqual(expected === undefined ? [] : ['a']);
  if (expected !== undefined) expect(readFileSync(join(folder, 'file'), 'utf8')).toBe(expected);
});

test('a folder is replaced as a whole, or not at all where writing fails', async () => {
  const root = place();
  const folder = join(root, 'a');
  put(folder, 'before');
  writeFileSync(join(folder, 'only before'), '');
  await expect(
    replaceFolder(folder, async (into) => {
      await writeFile(join(into, 'file'), 'half');
      throw new Error('no space');
    }),
  ).rejects.toThrow('no space');
  expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('before');
  await replaceFolder(folder, (into) => writeFile(join(into, 'file'), 'after'));
  expect(readdirSync(root)).toEqual(['a']);
  expect(readdirSync(folder)).toEqual(['file']);
  expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('after');
});

test('half-written files of dead processes are removed, those of living ones stay', async () => {
  const root = place();
  // Beyond the largest process number there is.
  const dead = 2 ** 22 + 1;
  expect(isRunning(dead)).toBe(false);
  await writeWhole(join(root, 'below', 'a'), 'a');
  for (const name of [`a.${dead}.part`, `a.${process.pid}.part`, 'a.part'])
    writeFileSync(join(root, 'below', name), '');
  await removeLeftovers(root);
  expect(readdirSync(join(root, 'below')).sort()).toEqual(['a', `a.${process.pid}.part`, 'a.part']);
  await removeLeftovers(join(root, 'nowhere'));
  expect(existsSync(join(root, 'nowhere'))).toBe(false);
});
