/** @file What strangers write cannot steer a terminal, stop a pipe or hold the command up. */
import { EventEmitter } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { endQuietly } from '../../cli/terminal/pipes.ts';
import { CLEAR_LINE, harmless } from '../../cli/terminal/screened.ts';
import { shown } from '../../common/errors.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { distill } from '../cli/world.ts';

test('control characters are shown by their codes', () => {
  expect(shown('a\u001b[2J\nb\r\tc\u0007\u009b31m\u202ed')).toBe('a\\u001b[2J\\nb\\r\\tc\\u0007\\u009b31m\\u202ed');
  expect(shown('ünïcode 日本 🙂')).toBe('ünïcode 日本 🙂');
  expect(harmless(`${CLEAR_LINE}a\tb\n\u001b]0;title\u0007`)).toBe(`${CLEAR_LINE}a\tb\n\\u001b]0;title\\u0007`);
});

test('a name with escapes is shown in the message about it', async () => {
  const { code, err } = await distill('check', '/nowhere/\u001b[31mred\nerror: forged');
  expect(code).toBe(2);
  expect(err).toContain('/nowhere/\\u001b[31mred\\nerror: forged');
  expect(err).not.toContain('\u001b');
});

const folder = mkdtempSync(join(tmpdir(), 'yaml-'));
const n = 30_000;
test.each<[string, string, RegExp]>([
  ['keys', Array.from({ length: n / 3 }, (_, i) => `k${i}: 1`).join('\n'), /more than 2000 keys/],
  ['brackets', `a: ${'['.repeat(n)}`, /nested deeper than 32/],
  ['braces', '{a: '.repeat(n / 4), /nested deeper than 32/],
  ['lists in a line', '- '.repeat(n), /nested deeper than 32/],
  ['explicit keys', '? '.repeat(n), /nested deeper than 32/],
  ['aliases', `a: &a [1]\nb: [${'*a,'.repeat(n)}]`, /more than 20000 parts/],
  ['quotation marks', '"'.repeat(2 * n), /more than 20000 parts|is not valid YAML/],
  ['anchors', '&a '.repeat(n), /more than 20000 parts|is not valid YAML/],
  ['levels by indentation', Array.from({ length: 340 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'), /nested deeper/],
  ['bytes', `a: ${'x'.repeat(300_000)}`, /more than 262144 bytes/],
])('YAML of many %s is refused within a second', (name, text, message) => {
  const file = join(folder, `${name}.yaml`);
  writeFileSync(file, text);
  const started = performance.now();
  expect(() => readConfig(file)).toThrow(message);
  expect(performance.now() - started).toBeLessThan(1500);
});

test('a config that is a folder is one sentence', () => {
  expect(() => readConfig(folder)).toThrow(/cannot read the config.*it is a folder \(EISDIR\)/);
});

test('a closed output ends the command quietly, closed messages do not end it', () => {
  const [out, err] = [new EventEmitter(), new EventEmitter()];
  const codes: number[] = [];
  endQuietly(out, err, (code) => codes.push(code));
  err.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  expect(codes).toEqual([]);
  out.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  expect(codes).toEqual([141]);
  const said: string[] = [];
  Object.assign(err, { write: (text: string) => said.push(text) });
  out.emit('error', Object.assign(new Error('write ENOSPC'), { code: 'ENOSPC' }));
  expect(codes).toEqual([141, 3]);
  expect(said.join('')).toBe(
    '\nerror: cannot write the output: no space left on the disk (ENOSPC); choose another place for it and run the same command again\n',
  );
});
