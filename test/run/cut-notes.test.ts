/** @file Where a run cuts texts elsewhere than the model's folder, it says so with how many texts that concerns. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDataset } from '../../data/open.ts';
import { type Cut, cutNotes } from '../../evaluation/diagnostics/cut-notes.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true }));

const notes = async (limits: { queryTokens: number; documentTokens: number }, embedder = false): Promise<string[]> => {
  const whole = { queryTokens: 64, documentTokens: 64 };
  const cuts: Cut[] = [{ option: 'student', model: world.student, ...(embedder ? whole : limits) }];
  if (embedder) cuts.push({ option: 'embedder', model: world.dualEncoder, ...limits });
  return cutNotes(cuts, await openDataset(world.data, {}));
};

test('texts that are cut below what the model reads', async () => {
  expect(await notes({ queryTokens: 64, documentTokens: 64 })).toEqual([]);
  // Documents here have more than 10 tokens, queries fewer.
  expect(await notes({ queryTokens: 40, documentTokens: 10 })).toEqual([
    "the student: 120 of 120 documents that were looked at have more than 10 tokens and are cut there; the model reads 64 ('student.documentTokens: 64')",
  ]);
  expect(await notes({ queryTokens: 3, documentTokens: 64 }, true)).toEqual([
    "the embedder: 120 of 120 queries that were looked at have more than 3 tokens and are cut there; the model reads 64 ('embedder.queryTokens: 64')",
  ]);
});

test('texts that are read beyond where the folder cuts them', async () => {
  const file = join(world.student, 'sentence_bert_config.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), max_seq_length: 12 }));
  expect(await notes({ queryTokens: 64, documentTokens: 192 })).toEqual([
    "the student: 120 of 120 documents that were looked at have more than 12 tokens, where its folder cuts them, and are read up to 192 ('student.documentTokens: 12' cuts as the folder does)",
  ]);
});
