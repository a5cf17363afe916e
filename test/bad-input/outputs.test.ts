/** @file Outputs that cannot be written are refused before work begins; links and devices stay what they are. */
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeWhole } from '../../common/files.ts';
import { checkOutputs, makeFolder } from '../../common/outputs.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { openEncoder, openIndex } from '../../serving/index.ts';
import { distill, makeWorld } from '../cli/world.ts';

let world: string;
const at = (name: string): string => join(world, name);
beforeAll(async () => {
  world = await makeWorld();
  writeFileSync(at('file'), 'kept');
  expect((await distill('index', at('dual'), '--data', at('data'), '--output', at('index'))).code).toBe(0);
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

test.each<[string, (output: string) => string[]]>([
  ['index', (o) => ['index', at('dual'), '--data', at('data'), '--output', o]],
  [
    'cascade',
    (o) => ['cascade', '--student', at('dual'), '--teacher', at('cross'), '--data', at('data'), '--output', o],
  ],
  ['semantic-cache', (o) => ['semantic-cache', at('index'), '--data', at('data'), '--output', o]],
  ['evaluate --html', (o) => ['evaluate', '--student', at('dual'), '--data', at('data'), '--html', o]],
  ['evaluate --json', (o) => ['evaluate', '--student', at('dual'), '--data', at('data'), '--json', o]],
  ['evaluate --run', (o) => ['evaluate', '--student', at('dual'), '--data', at('data'), '--run', o]],
  ['score', (o) => ['score', at('distill.yaml'), '--scores', o]],
  ['exits', (o) => ['exits', at('cross'), '--data', at('data'), '--layers', '1', '--output', o]],
  ['split', (o) => ['split', at('cross'), '--data', at('data'), '--below', '1', '--output', o]],
  ['rotate', (o) => ['rotate', at('dual'), '--data', at('data'), '--output', o]],
  ['export', (o) => ['export', at('dual'), '--output', o]],
  ['run', (o) => ['run', at('distill.yaml'), '--set', `output=${o}`]],
  ['init', (o) => ['init', at('data'), '--file', o]],
  ['compare', (o) => ['compare', at('a'), at('b'), '--html', o]],
])('%s below a file: one sentence, and nothing was computed', async (_, verb) => {
  const { code, out, err } = await distill(...verb(join(at('file'), 'out')));
  expect([code, out]).toEqual([3, '']);
  expect(err).toMatch(/error: cannot [^\n]*file\/out[^\n]*: a part of the path is not a folder \(ENOTDIR\); [^\n]+\n$/);
  expect(err).not.toMatch(/embed|search {2}|score {2}/);
  expect(readFileSync(at('file'), 'utf8')).toBe('kept');
});

test('a link stays a link and its file is written; a device is written, not replaced', async () => {
  mkdirSync(at('there'));
  writeFileSync(at('there/real.json'), 'before');
  symlinkSync(at('there/real.json'), at('link.json'));
  await writeWhole(at('link.json'), 'after');
  expect(lstatSync(at('link.json')).isSymbolicLink()).toBe(true);
  expect(readFileSync(at('there/real.json'), 'utf8')).toBe('after');
  await writeWhole('/dev/null', 'away');
  expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  if (spawnSync('mkfifo', [at('pipe')]).status !== 0) return;
  const reader = new Promise<string>((resolve) =>
    import('node:fs/promises').then(({ readFile }) => readFile(at('pipe'), 'utf8')).then(resolve),
  );
  await writeWhole(at('pipe'), 'through');
  expect([await reader, lstatSync(at('pipe')).isFIFO()]).toEqual(['through', true]);
});

test('folders that are made, and looked at', async () => {
  await makeFolder(at('a/b/c'));
  await makeFolder(at('a/b/c'));
  await checkOutputs(undefined, at('new/deep/out.json'), '/dev/null', at('link.json'));
  expect(existsSync(at('new/deep'))).toBe(true);
  await expect(makeFolder(at('file'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  await expect(makeFolder(at('file/a/b'))).rejects.toMatchObject({ code: 'ENOTDIR' });
});

test('a device without an end is not read as a config', () => {
  expect(() => readConfig('/dev/zero')).toThrow('/dev/zero has more than 262144 bytes, which no options have');
});

test.each([
  ['{"config":7}', "'config' is not what a run writes"],
  ['{"config":{"student":{"queryTokens":"many"}}}', "'config.student.queryTokens' is not what a run writes"],
  ['{"config":{"student":{"documentTokens":-3}}}', "'config.student.documentTokens' is not what a run writes"],
  ['{"config":{"embedder":{"model":5}}}', "'config.embedder.model' is not what a run writes"],
  ['{"config":{"embedder":{"model":"m","dtype":"bf16"}}}', "'config.embedder.dtype' is not what a run writes"],
])('the record of a checkpoint: %s', async (record, why) => {
  writeFileSync(at('dual/distill.json'), record);
  try {
    await expect(openEncoder(at('dual'))).rejects.toThrow(why);
    await expect(openIndex(at('index'))).rejects.toThrow(why);
  } finally {
    rmSync(at('dual/distill.json'));
  }
});

test('a query tower whose record names no encoder of documents embeds none', async () => {
  for (const embedder of [undefined, { model: at('nowhere') }, { model: '../../elsewhere' }]) {
    writeFileSync(at('dual/distill.json'), JSON.stringify({ config: { student: { towers: 'query' }, embedder } }));
    const encoder = await openEncoder(at('dual'));
    await expect(encoder.embedDocuments(['a'])).rejects.toThrow(
      embedder
        ? `there is no model folder ${embedder.model}`
        : 'this is a query tower, and the documents that it searches',
    );
    await encoder.dispose();
  }
  rmSync(at('dual/distill.json'));
});

test('a port that is none', async () => {
  for (const port of ['99999', '-1', 'http']) {
    const said = await distill('serve', at('index'), '--port', port);
    expect([said.code, said.err]).toEqual([2, expect.stringContaining('expected a whole number from 0 to 65,535')]);
  }
});
