/** @file Further data sets of a run (`evaluate.also`): figures next to its own, fingerprints, and what is refused. */
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { renderSystems } from '../../cli/terminal/report.ts';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { openAlso } from '../../run/also.ts';
import { openSplit } from '../../run/open-data.ts';
import { makeWorld, type World } from './world.ts';

// Rates of a machine that is always as fast: an estimate is counts times rates, and only the counts are tested here.
vi.mock('../../run/estimate/rates.ts', async (original) => ({
  ...(await original<typeof import('../../run/estimate/rates.ts')>()),
  studentRates: async () => ({ query: { seconds: 1 }, document: { seconds: 1 } }),
}));

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

test('a chain encodes each further set once by the same weights, has all of the family on it, and a mean of several', async () => {
  // As many documents as no other set has, so that progress tells them from others.
  const small = join(world.folder, 'small');
  mkdirSync(join(small, 'qrels'), { recursive: true });
  const first = (file: string, n: number) =>
    writeFileSync(join(small, file), readFileSync(join(world.data, file), 'utf8').split('\n').slice(0, n).join('\n'));
  first('corpus.jsonl', 37);
  // Texts of its own: those of the run's data are kept already.
  const corpus = join(small, 'corpus.jsonl');
  writeFileSync(corpus, readFileSync(corpus, 'utf8').replaceAll(/"text": ?"/g, '$&other '));
  first('queries.jsonl', 37);
  writeFileSync(join(small, 'qrels', 'test.tsv'), 'query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\nq9\td9\t1\n');
  const train = { steps: 3, evaluateEvery: 3, batchSize: 4 };
  const config = (name: string, seed: number, chain: ConfigInput['chain'] = {}): ConfigInput => ({
    pipeline: 'chain',
    output: join(world.folder, 'runs', name),
    cache: join(world.folder, 'cache of chains'),
    seed,
    data: { path: world.data },
    teacher: { kind: 'cross-encoder', model: world.crossEncoder },
    student: { model: world.dualEncoder },
    candidates: { count: 4 },
    evaluate: { metrics: ['ndcg@10'], also: [small, world.data] },
    chain: {
      assistant: { train },
      query: { student: { layers: [0] }, generate: { count: 50 }, train: { ...train, spans: 8 } },
      static: { generate: { count: 50 }, train: { ...train, spans: 8 } },
      ...chain,
    },
  });
  const documents = readFileSync(join(world.data, 'corpus.jsonl'), 'utf8').trim().split('\n').length;
  /** Runs that encoded documents of the small set, and of the run's data, one entry a time. */
  const encodings = async (...of: Parameters<typeof config>) => {
    const runs: string[] = [];
    const own: string[] = [];
    const report = await distill(config(...of), {
      onProgress: (p) => {
        if (p.done !== p.total || !p.stage.endsWith('documents')) return;
        if (p.total === 37) runs.push(p.run ?? '');
        if (p.total === documents) own.push(p.run ?? '');
      },
    });
    return { report, runs, own };
  };
  const { report, runs, own } = await encodings('chain 1', 0);
  // The encoder as it was, and the assistant, whose vectors the towers search.
  expect(new Set(runs)).toEqual(new Set(['assistant']));
  expect(new Set(own)).toEqual(new Set(['assistant']));
  const again = await encodings('chain 2', 1, { query: false, static: false });
  expect(again.runs.length).toBeLessThan(runs.length);
  expect(again.runs.length).toBeGreaterThan(0);
  const mean = 'ndcg@10, mean of 2 other sets';
  for (const name of ['BM25', 'student before training', 'assistant', 'query tower', 'static tower']) {
    const { metrics } = report.systems.find((s) => s.name === name) as (typeof report.systems)[number];
    expect(metrics[mean], name).toBeCloseTo((metrics['ndcg@10 on small'] + metrics['ndcg@10 on data']) / 2, 9);
    expect(
      report.also?.map((set) => set.systems[name].value),
      name,
    ).toEqual([metrics['ndcg@10 on small'], metrics['ndcg@10 on data']]);
  }
  expect(readFileSync(join(world.folder, 'runs', 'chain 1', 'assistant', 'report.html'), 'utf8')).toMatch(
    /In other domains \(mean ndcg@10 over 2 other sets\) the student has 0\.\d{4}, 0\.\d{4} (less|more) than/,
  );
});

test('an estimate counts further sets', async () => {
  const of = async (also: string[]) =>
    (await planRun(options('estimated', also), {}, { estimate: true })).find((s) => s.stage === 'evaluation')?.estimate;
  const [alone, both] = [await of([]), await of([world.data, other])];
  expect(alone?.how).not.toContain('further');
  expect(both?.how).toContain('with 2 further sets, none of them encoded before');
  // Three sets of one size in place of one, at the same rates.
  expect((both?.seconds as number) / (alone?.seconds as number)).toBeGreaterThan(1.5);
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

test('rows are read as their own set or the run reads them, and what is guessed or generated is said', async () => {
  const [rows, texts] = [join(world.folder, 'rows.jsonl'), join(world.folder, 'texts.jsonl')];
  const lines = (make: (i: number) => object) =>
    Array.from({ length: 60 }, (_, i) => JSON.stringify(make(i))).join('\n');
  writeFileSync(
    rows,
    lines((i) => ({ frage: `question number ${i}`, antwort: `answer ${i} of the house` })),
  );
  writeFileSync(
    texts,
    lines((i) => ({ text: `Thing ${i} stands in the house number ${i} near the river since last year.` })),
  );
  const data = { path: rows, columns: { query: 'frage', document: 'antwort' }, holdOut: 0.2, splitSeed: 7 };
  const open = async (own: object) => {
    const notes: string[] = [];
    const config = parseConfig({ ...options('rows', [rows, texts]), data: own } as ConfigInput);
    const opened = await openAlso(config, (note) => notes.push(note));
    return { sets: await opened.value(), notes: notes.join('\n'), config };
  };
  const asked = ({ dataset, split }: { dataset: Dataset; split: string }) =>
    judgedQueries(dataset, split).map((q) => dataset.queries.text(q));
  const own = await open(data);
  const run = await openSplit(own.config, 'test');
  expect(asked(own.sets[0])).toEqual(asked({ dataset: run, split: 'test' }));
  expect(own.sets[0].dataset.queries.length).toBe(60);
  expect(own.notes).toMatch(/evaluate\.also: warning: .*texts\.jsonl: .*generated/);
  const other = await open({ path: world.data });
  expect(asked(other.sets[0])).not.toEqual(asked(own.sets[0]));
  expect(other.notes).toMatch(/evaluate\.also: rows\.jsonl.*frage/);
});
