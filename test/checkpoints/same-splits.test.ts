/** @file Jobs over a finished student read the splits that its run made: queries held out of rows, generated ones. */
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { exportCheckpoint } from '../../checkpoints/export-checkpoint.ts';
import { narrow } from '../../checkpoints/narrow.ts';
import { rotate } from '../../checkpoints/rotate.ts';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { distill, type RunReport } from '../../pipelines/distill.ts';
import { openData } from '../../run/open-data.ts';
import { cascade, dataHashes } from '../../search/fit-cascade.ts';
import { indexDocuments } from '../../search/index-documents.ts';
import { semanticCache } from '../../search/semantic-cache.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
let cache: string;
beforeAll(async () => {
  world = await makeWorld();
  cache = join(world.folder, 'cache');
  const [alone, rows, texts] = ['test-alone', 'rows', 'texts'].map((name) => join(world.folder, name));
  cpSync(world.data, alone, { recursive: true });
  for (const split of ['train', 'dev']) rmSync(join(alone, 'qrels', `${split}.tsv`));
  const corpus = readFileSync(join(world.data, 'corpus.jsonl'), 'utf8').trim().split('\n');
  const documents = corpus.map((l) => JSON.parse(l) as { title: string; text: string });
  mkdirSync(rows);
  const line = ({ title, text }: (typeof documents)[number]) => `${JSON.stringify({ query: title, positive: text })}\n`;
  writeFileSync(join(rows, 'train.jsonl'), documents.map(line).join(''));
  mkdirSync(texts);
  writeFileSync(join(texts, 'all.jsonl'), documents.map(({ text }) => `${JSON.stringify({ text })}\n`).join(''));
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache,
  data: { path: join(world.folder, name), splitSeed: 3, holdOut: 0.2, unlabelled: false },
  student: { model: world.student },
  candidates: { source: 'bm25', count: 6 },
  losses: [{ kind: 'info-nce' }],
  evaluate: { bm25: false, teacher: false, before: false },
  ...more,
  train: { steps: 2, batchSize: 8, candidates: 4, threads: 1 },
});
const idsOf = (dataset: Dataset, split: string): string[] =>
  judgedQueries(dataset, split)
    .map((q) => dataset.queries.ids[q])
    .sort();

describe.each(['test-alone', 'rows', 'texts'])('%s', (name) => {
  let run: RunReport;
  let own: Dataset;
  let data: string;
  beforeAll(async () => {
    run = await distill(options(name));
    own = await openData(parseConfig(options(name)));
    data = join(world.folder, name);
    // With other options other queries are chosen: what agrees below does so by what the run recorded.
    const other = await openDataset(data, { makes: ['train'] });
    const texts = (set: Dataset) => judgedQueries(set, 'dev').map((q) => set.queries.text(q));
    expect(texts(other).sort()).not.toEqual(texts(own).sort());
  });

  test('export measures on the dev split of the run', async () => {
    const asked = { checkpoint: run.checkpoint, data, dtype: 'int8', strict: true, tolerance: 1 } as const;
    const report = await exportCheckpoint({ ...asked, output: join(world.folder, `${name}-a`) });
    const inRun = await exportCheckpoint({ ...asked, output: join(world.folder, `${name}-b`) }, {}, own);
    expect(report.unmeasured).toBeUndefined();
    expect(report.source.figures).toEqual(inRun.source.figures);
  });

  test.each(['dev', 'test'])('evaluate takes the same queries of %s', async (split) => {
    const file = join(world.folder, `${name}-${split}.run`);
    await evaluate({ student: run.checkpoint, data, split, run: file, cost: false, cache });
    const lines = readFileSync(file, 'utf8').trim().split('\n');
    const ids = [...new Set(lines.map((l) => l.split(/\s/)[0]))].sort();
    expect(ids).toEqual(idsOf(own, split));
  });

  // Of one kind of data: what the jobs read is the same function's for each.
  test.runIf(name === 'test-alone')('certificates are of the dev split of the run', async () => {
    const { dualEncoder: _, crossEncoder: teacher } = world;
    const hashes = dataHashes(own, 'dev', judgedQueries(own, 'dev'));
    const output = join(world.folder, `${name}-cascade.json`);
    await cascade({ student: run.checkpoint, teacher, data, output, candidates: 10, cache });
    expect(JSON.parse(readFileSync(output, 'utf8')).data).toMatchObject({ queries: hashes.queries });
    const index = join(world.folder, `${name}-index`);
    await indexDocuments({ checkpoint: run.checkpoint, data, output: index });
    const answers = join(world.folder, `${name}-answers.json`);
    await semanticCache({ index, data, output: answers });
    expect(JSON.parse(readFileSync(answers, 'utf8')).data).toMatchObject({ queries: hashes.queries });
  });

  test.runIf(name === 'rows')('a rotated or narrowed student keeps how its data are read', async () => {
    const rotated = join(world.folder, `${name}-rotated`);
    const { prefixes } = await rotate({
      model: run.checkpoint,
      data,
      output: rotated,
      steps: 2,
      cache,
      provider: 'cpu',
    });
    const narrowed = join(world.folder, `${name}-narrow`);
    await narrow({ model: run.checkpoint, data, output: narrowed, units: 8, rounds: 1, batchSize: 4 });
    const whole = await evaluate({ student: run.checkpoint, data, split: 'dev', cost: false, cache });
    expect(prefixes?.[0].before).toBeCloseTo(whole.systems[0].metrics['ndcg@10'], 5);
    for (const folder of [rotated, narrowed]) {
      const { config } = JSON.parse(readFileSync(join(folder, 'distill.json'), 'utf8'));
      expect(config.data).toMatchObject({ splitSeed: 3, holdOut: 0.2, unlabelled: false });
    }
  });
});

test('evaluate measures on the test split that the run had, whatever its name', async () => {
  const data = join(world.folder, 'named');
  cpSync(world.data, data, { recursive: true });
  renameSync(join(data, 'qrels/test.tsv'), join(data, 'qrels/final.tsv'));
  const given = options('named');
  const { checkpoint } = await distill({ ...given, data: { path: data, splits: { test: 'final' } } });
  const notes: string[] = [];
  const run = join(world.folder, 'named.run');
  await evaluate(
    { student: checkpoint, data, run, cost: false, cache },
    { onProgress: (p) => p.note && notes.push(p.note) },
  );
  const ids = new Set(
    readFileSync(run, 'utf8')
      .trim()
      .split('\n')
      .map((l) => l.split(/\s/)[0]),
  );
  expect([...ids].sort()).toEqual(idsOf(await openDataset(data), 'final'));
  expect(notes).toContain("the split 'final' is read: the model was made with it as test");
});

describe('--continue', () => {
  const going = (from: string, data: string) => ({ continue: { from, data } });
  test('the old data have the splits that the run made, and generated ids of old and new data are not confused', async () => {
    const { checkpoint } = await distill(options('test-alone'));
    const more = (name: string) =>
      parseConfig(options('test-alone', { ...going(checkpoint, join(world.folder, name)), output: 'x' }));
    const own = await openData(parseConfig(options('test-alone')));
    const both = await openData(more('texts'));
    expect(idsOf(both, 'old dev')).toEqual(idsOf(own, 'dev'));
    expect(idsOf(both, 'old test')).toEqual(idsOf(own, 'test'));
    expect(idsOf(both, 'new dev').every((id) => id.startsWith('new-made-'))).toBe(true);
    // Of judged data without a split to learn from nothing is made: nothing in them is new.
    await expect(openData(more('test-alone'))).rejects.toThrow('there is nothing new to learn');
  });

  test('other held-out queries than those of the checkpoint are refused', async () => {
    const { checkpoint } = await distill(options('rows'));
    const other = options('rows', going(checkpoint, join(world.folder, 'rows')));
    const data = { ...other.data, splitSeed: 4 };
    await expect(distill({ ...other, data, output: join(world.folder, 'runs', 'other') })).rejects.toThrow(
      /was trained with data\.splitSeed 3 and the config has 4/,
    );
  });
});
