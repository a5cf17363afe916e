/** @file `distill init`: what is in a folder decides what is written, and what is written runs. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readConfig } from '../../config/read-yaml.ts';
import { distill, jsonl, makeWorld, write } from './world.ts';

let world: string;
beforeAll(async () => {
  world = await makeWorld();
  rmSync(join(world, 'distill.yaml'));
});

/** A folder with some of the world's parts. */
function folderOf(...parts: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'init-'));
  for (const part of parts) cpSync(join(world, part), join(folder, part), { recursive: true });
  return folder;
}

const written = (folder: string) => parse(readFileSync(join(folder, 'distill.yaml'), 'utf8'));

test.each([
  [
    ['data', 'cross', 'dual'],
    {
      teacher: { kind: 'cross-encoder', model: 'cross' },
      student: { model: 'dual' },
      candidates: { source: 'bm25', count: 16 },
    },
  ],
  [
    ['data', 'cross', 'dual', 'teacher-scores-train.tsv'],
    { teacher: { kind: 'scores', files: { train: 'teacher-scores-train.tsv' } }, candidates: { source: 'given' } },
  ],
  [
    ['data', 'dual'],
    { pipeline: 'dual-to-dual', teacher: { kind: 'dual-encoder', model: 'dual' }, student: { model: 'dual' } },
  ],
  [['data', 'cross'], { teacher: { kind: 'cross-encoder' }, student: { fresh: { hidden: 128 } } }],
])('%j', async (parts, choice) => {
  const folder = folderOf(...parts);
  const { code, out } = await distill('init', folder);
  expect(code).toBe(0);
  expect(out).toContain(`wrote ${join(folder, 'distill.yaml')}`);
  expect(written(folder)).toMatchObject({
    ...choice,
    data: { path: 'data', splits: { train: 'train', dev: 'dev', test: 'test' } },
  });
  const config = readConfig(join(folder, 'distill.yaml'));
  expect(config.data.path).toBe(join(folder, 'data'));
});

test('a dual-encoder by that name beside another one is the embedder', async () => {
  const folder = folderOf('data', 'cross', 'dual');
  cpSync(join(world, 'dual'), join(folder, 'small'), { recursive: true });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({ embedder: { model: 'dual' }, student: { model: 'small' } });
});

test('rows with scores teach by themselves', async () => {
  const folder = folderOf();
  const rows = Array.from({ length: 30 }, (_, i) => ({ query: `q ${i % 10}`, document: `d ${i}`, score: i + 0.5 }));
  write(folder, { 'train.jsonl': jsonl(rows) });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({
    data: { path: '.' },
    teacher: { kind: 'scores' },
    candidates: { source: 'given' },
  });
});

test('rows that list negatives are the candidates, and what was read is said', async () => {
  const folder = folderOf();
  const rows = Array.from({ length: 8 }, (_, i) => ({ query: `q ${i}`, positive: `d ${i}`, negatives: [`n ${i}`] }));
  write(folder, { 'train.jsonl': jsonl(rows) });
  const { out } = await distill('init', folder);
  expect(out).toContain(
    'train.jsonl (train): query = query, positive = positive, negatives = negatives; 8 rows; the split has 8 queries, 8 positives',
  );
  expect(written(folder)).toMatchObject({ candidates: { source: 'given' } });
  expect(written(folder).teacher).toBeUndefined();
});

test("FlagEmbedding's scores teach", async () => {
  const folder = folderOf();
  const row = { query: 'q', pos: ['a'], neg: ['b', 'c'], pos_scores: [5.1], neg_scores: [-3, -4.5], prompt: 'Find: ' };
  write(folder, { 'train.jsonl': jsonl([row]) });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({ teacher: { kind: 'scores' }, candidates: { source: 'given' } });
});

test('a split that is not there is not written; data without judgements is refused', async () => {
  const folder = folderOf('data');
  for (const split of ['train', 'dev']) rmSync(join(folder, 'data', 'qrels', `${split}.tsv`));
  await distill('init', folder);
  expect(written(folder).data.splits).toEqual({ train: 'test', dev: null, test: 'test' });
  rmSync(join(folder, 'distill.yaml'));
  rmSync(join(folder, 'data', 'qrels', 'test.tsv'));
  expect(await distill('init', folder)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/holds no judgements: expected qrels\/train\.tsv with lines query-id, corpus-id, score/),
  });
  expect(existsSync(join(folder, 'distill.yaml'))).toBe(false);
});

test('what it writes runs as it is', async () => {
  const folder = folderOf('data', 'cross', 'dual');
  await distill('init', folder);
  const { code, err, out } = await distill(
    'run',
    join(folder, 'distill.yaml'),
    '--output',
    join(folder, 'out'),
    '--set',
    `cache=${join(folder, 'cache')}`,
  );
  expect(err).not.toMatch(/error/);
  expect(code).toBe(0);
  expect(out).toContain('checkpoint');
});

test('a config that is there stays; a folder without data is refused', async () => {
  const folder = folderOf('data');
  write(folder, { 'distill.yaml': 'mine' });
  const { code, err } = await distill('init', folder);
  expect(code).toBe(2);
  expect(err).toBe(
    `\nerror: ${join(folder, 'distill.yaml')} is there already; remove it, or give another name with --file\n`,
  );
  expect(readFileSync(join(folder, 'distill.yaml'), 'utf8')).toBe('mine');
  const bare = folderOf('dual');
  expect(await distill('init', bare)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/holds no data: expected corpus/),
  });
  expect(existsSync(join(bare, 'distill.yaml'))).toBe(false);
});
