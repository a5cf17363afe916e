/** @file The command from end to end, small: over a BEIR folder with a model, over files of rows with their scores. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { distill, documents, jsonl, makeWorld, queries, write } from './world.ts';

let world: string;
beforeAll(async () => {
  world = await makeWorld();
});

const config = (): string => join(world, 'distill.yaml');
const here = (): string[] => ['--set', `output=${join(world, 'out')}`];

test('run: trains, saves, evaluates the saved folder and says where everything is; again from its output too', async () => {
  const first = await distill('run', config(), ...here());
  expect(first.err).not.toMatch(/error/);
  expect(first.code).toBe(0);
  for (const system of ['student before training', 'student', 'BM25', 'teacher']) expect(first.out).toContain(system);
  expect(first.out).toMatch(/checkpoint\s+\S+checkpoint\nreport\s+\S+report\.json\n/);
  expect(existsSync(join(world, 'out', 'checkpoint', 'onnx', 'model.onnx'))).toBe(true);
  const again = await distill('run', config(), ...here(), '--json');
  expect(again.code).toBe(0);
  const report = JSON.parse(again.out);
  expect(report.systems.map((s: { name: string }) => s.name)).toContain('BM25');
});

test('run over rows of query, document and score: the scores teach, without any model of a teacher', async () => {
  const rows = queries.flatMap((q, i) =>
    [0, 3, 7].map((k) => ({ query: q.text, document: documents[i + k].text, score: 3.5 - k })),
  );
  write(world, { 'rows/pairs.jsonl': jsonl(rows) });
  const { code, out, err } = await distill(
    'run',
    config(),
    '--set',
    `output=${join(world, 'out-rows')}`,
    '--set',
    `data={path: ${join(world, 'rows')}, holdOut: 0.2}`,
    '--set',
    'teacher={kind: scores}',
    '--set',
    'candidates={source: given, count: 3}',
    '--set',
    'losses=[{kind: kl}]',
  );
  expect(err).toContain('pairs.jsonl (train): query = query, document = document, score = score');
  expect(err).not.toMatch(/error/);
  expect(code).toBe(0);
  expect(out).toContain('student');
});

test('run --continue: from the checkpoint with new data, figures of old and new; both options or neither', async () => {
  const out = ['--output', join(world, 'more')];
  const from = join(world, 'out', 'checkpoint');
  const fresh = { _id: 'n0', text: documents[21].text.split(' ').slice(2, 5).join(' ') };
  const judged = 'query-id\tcorpus-id\tscore\nn0\td21\t1\n';
  write(world, { 'new/queries.jsonl': jsonl([fresh]), 'new/qrels/train.tsv': judged, 'new/qrels/test.tsv': judged });
  const {
    code,
    out: said,
    err,
  } = await distill(
    ...['run', config(), '--continue', from, '--data', join(world, 'new'), ...out],
    ...['--set', 'evaluate.teacher=false'],
  );
  expect(err).toContain('1 new training queries, 1 of 16 old ones replayed; 40 documents');
  expect(code).toBe(0);
  expect(said).toMatch(/^old test {4}nDCG@10 \d\.\d{4} before, \d\.\d{4} after \(4 queries\)$/m);
  expect(said).toMatch(/^new test {4}nDCG@10 \d\.\d{4} before, \d\.\d{4} after \(1 queries\)$/m);
  const alone = await distill('run', config(), '--continue', from, ...out);
  expect([alone.code, alone.err]).toEqual([2, expect.stringContaining('--continue needs --data')]);
  const other = await distill('run', config(), '--data', join(world, 'new'), ...out);
  expect(other.err).toContain('--data names new data for --continue, which is missing');
});
