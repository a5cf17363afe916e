/** @file Further data sets of a run (`evaluate.also`): figures next to its own, fingerprints, and what is refused. */
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { renderSystems } from '../../cli/terminal/report.ts';
import type { ConfigInput } from '../../config/config.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
let other: string;
beforeAll(async () => {
  world = await makeWorld();
  other = join(world.folder, 'other');
  cpSync(world.data, other, { recursive: true });
  // The other set has judgements for dev alone.
  renameSync(join(other, 'qrels', 'test.tsv'), join(world.folder, 'kept.tsv'));
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

const options = (name: string, also: string[], more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  embedder: { model: world.dualEncoder },
  student: { model: world.student },
  candidates: { source: 'bm25', count: 6 },
  hybrid: { weight: 0.5 },
  evaluate: { metrics: ['ndcg@10'], also },
  train: { steps: 2, batchSize: 8, candidates: 4, threads: 1 },
  ...more,
});

test('the same set has the same figures in both columns; a set without test is measured on dev', async () => {
  const report = await distill(options('run', [world.data, other]));
  expect(report.also?.map((a) => [a.name, a.split, a.queries])).toEqual([
    ['data', 'test', 20],
    ['other', 'dev', 10],
  ]);
  for (const name of ['student before training', 'BM25', 'student', 'student + BM25']) {
    const row = report.systems.find((s) => s.name === name);
    expect(row?.metrics['ndcg@10 on data'], name).toBeCloseTo(row?.metrics['ndcg@10'] as number, 6);
    const own = report.also?.[1].systems[name];
    expect(row?.metrics['ndcg@10 on other'], name).toBe(own?.value);
    expect((own?.low as number) <= (own?.value as number) && (own?.value as number) <= (own?.high as number)).toBe(
      true,
    );
  }
  // Dev's figure is the one that the run's own choice was made by.
  expect(report.also?.[1].systems.BM25.value).toBeCloseTo(report.before.values.BM25, 6);
  expect(renderSystems(report.systems)[0]).toContain('ndcg@10 on other');
  const written = readFileSync(join(world.folder, 'runs', 'run', 'report.html'), 'utf8');
  expect(written).toContain('ndcg@10 on other (split dev, 10 queries; 95 % intervals)');

  // Judgements of the further set count: the evaluation is made again, the training is not.
  const status = async () =>
    Object.fromEntries((await planRun(options('run', [world.data, other]))).map((s) => [s.stage, s.status]));
  const before = await status();
  writeFileSync(join(other, 'qrels', 'dev.tsv'), 'query-id\tcorpus-id\tscore\nq80\td80\t1\n');
  const after = await status();
  expect([before.evaluation === after.evaluation, before.training === after.training]).toEqual([false, true]);
});

test('a query tower is measured over documents of its embedder', async () => {
  const report = await distill(
    options('tower', [world.data], {
      pipeline: 'inherit-documents',
      student: { model: world.student, towers: 'query' },
    }),
  );
  const [{ systems }] = report.also as NonNullable<typeof report.also>;
  for (const name of ['embedder', 'student', 'BM25'])
    expect(systems[name].value, name).toBeCloseTo(
      report.systems.find((s) => s.name === name)?.metrics['ndcg@10'] as number,
      6,
    );
});

test('a set that is not there or judges nothing is refused before anything is made', async () => {
  await expect(planRun(options('none', [join(world.folder, 'absent')]))).rejects.toThrow(/absent/);
  const bare = join(world.folder, 'bare');
  mkdirSync(join(bare, 'qrels'), { recursive: true });
  for (const file of ['corpus.jsonl', 'queries.jsonl', 'qrels/train.tsv'])
    cpSync(join(world.data, file), join(bare, file));
  await expect(planRun(options('bare', [bare]))).rejects.toThrow(
    /evaluate\.also\.0: .*bare judges no query in the split 'test' or 'dev'/,
  );
});
