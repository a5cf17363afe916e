/** @file No array of data is spread as arguments: a call takes some 100,000 of them, and then fails. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hashAll, hashParts } from '../../common/files.ts';
import { topicBatches } from '../../selection/topics.ts';

/** Calls whose arguments are counted: what spreads into them is spread on the stack. */
const SPREADS =
  /\b(push|unshift|splice|concat|Math\.max|Math\.min|hashParts|fromCharCode|fromCodePoint|apply)\((?:[^(){}[\]]|\([^()]*\))*\.\.\./;

/** What is spread there is of a model's graph, of options, of files that were named or of one query's candidates. */
const SHORT = [
  'config/init/compose.ts',
  'engine/',
  'losses/',
  'students/architectures/attention.ts',
  'students/export/',
  'training/step/',
  'data/beir.ts',
  'data/row-dataset.ts',
  'data/tokens/',
  'evaluation/diagnostics/cut-notes.ts',
  'models/encoder-description.ts',
  'models/model-folder.ts',
  'models/modules/transformer-config.ts',
  'checkpoints/evaluation-report.ts',
  'checkpoints/narrow.ts',
  'pipelines/fit/parts/refresh-negatives.ts',
  'pipelines/fit/train-student.ts',
  'pipelines/fit/training-artifacts.ts',
  'config/init/init.ts',
  'training/memory-budget.ts',
  'selection/refresh.ts',
  'selection/topics.ts',
  'teachers/dual-encoder.ts',
  'teachers/exits.ts',
  'teachers/reading/',
  'teachers/score-file.ts',
  'teachers/vectors/',
  'serving/encoder/sparse-encoder.ts',
  'training/optimizers/muon.ts',
  'training/select-units.ts',
  'training/trainer.ts',
];

const folders = readdirSync('.', { withFileTypes: true })
  .filter((e) => e.isDirectory() && !/^(node_modules|dist|test|bench|\.)/.test(e.name))
  .map((e) => e.name);

test('calls that spread are those known to be short', () => {
  const found: string[] = [];
  for (const folder of folders)
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts')) continue;
      const file = join(folder, name).split('\\').join('/');
      if (SHORT.some((short) => file.startsWith(short))) continue;
      for (const [i, line] of readFileSync(file, 'utf8').split('\n').entries())
        if (SPREADS.test(line)) found.push(`${file}:${i + 1}: ${line.trim()}`);
    }
  expect(found, 'loop over data, or add the file here where what is spread is short by its nature').toEqual([]);
});

test('300,000 parts are hashed and 300,000 queries ordered by topic', () => {
  const n = 300_000;
  const parts = Array.from({ length: n }, (_, i) => String(i));
  expect(hashAll(parts.slice(0, 3))).toBe(hashParts('0', '1', '2'));
  expect(hashAll(parts)).toMatch(/^[0-9a-f]{64}$/);
  const topics = Int32Array.from({ length: n }, (_, i) => i % 7);
  const batches = topicBatches(topics, { batch: 32, topicsPerBatch: 1 });
  expect(batches.indices.length).toBe(n);
});
