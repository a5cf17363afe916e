/** @file The chain on a tiny world: a family of students, resumed and planned; a hybrid for each; what is worse is said first. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { chainOptions } from '../../config/recipes/chain-recipes.ts';
import { effortOf } from '../../config/recipes/effort.ts';
import { openDataset } from '../../data/open.ts';
import { familyReport } from '../../evaluation/runs/family-report.ts';
import { verdict } from '../../evaluation/runs/verdict.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { hybridSearch } from '../../retrieval/hybrid.ts';
import { readLexicalChannel } from '../../retrieval/lexical-channel.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

const small = { train: { steps: 6, evaluateEvery: 3, batchSize: 4 } };
const options = (output: string): ConfigInput => ({
  pipeline: 'chain',
  output: join(world.folder, output),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { model: world.dualEncoder },
  candidates: { count: 4 },
  evaluate: { also: [world.data] },
  chain: {
    assistant: small,
    query: {
      ...small,
      student: { layers: [0], model: join(world.folder, output, 'assistant/checkpoint') },
      generate: { count: 50 },
      train: { ...small.train, spans: 8 },
    },
    static: { ...small, generate: { count: 50 }, train: { ...small.train, spans: 8 } },
  },
});

test('one command makes a family, each measured with and without BM25, in one table', async () => {
  const config = options('family');
  const before = await planRun(config);
  expect(before.some((s) => s.stage.startsWith('assistant') && s.status === 'made')).toBe(true);
  expect(existsSync(config.output as string)).toBe(false);

  const progress: string[] = [];
  const report = await distill(config, { onProgress: (p) => p.note && progress.push(p.note) });
  expect(Object.keys(report.members ?? {})).toEqual(['assistant', 'query', 'static']);
  const names = report.systems.map((s) => s.name);
  for (const name of ['student before training', 'BM25', 'assistant', 'teacher', 'query tower', 'static tower'])
    expect(names).toContain(name);
  expect(new Set(names).size).toBe(names.length);
  for (const folder of Object.values(report.members ?? {})) {
    expect(existsSync(join(folder, 'onnx/model.onnx'))).toBe(true);
    expect(existsSync(join(folder, 'lexical.json'))).toBe(true);
  }
  const written = JSON.parse(readFileSync(join(config.output as string, 'report.json'), 'utf8'));
  expect(written.systems).toEqual(report.systems);
  // The further set is the run's own: each member has the same figure in both columns, under its name in the family.
  for (const name of ['assistant', 'query tower', 'static tower', 'BM25'])
    expect(report.also?.[0].systems[name].value, name).toBeCloseTo(
      report.systems.find((s) => s.name === name)?.metrics['ndcg@10'] as number,
      5,
    );

  // The teacher, whose weights are random, was measured before the training.
  const told = JSON.parse(readFileSync(join(config.output as string, 'assistant/report.json'), 'utf8'));
  expect(told.stages['teacher on dev']).toBe('made');
  const said = [...told.warnings, ...progress].filter((t: string) => /the teacher ranks/i.test(t));
  expect(said[0]).toMatch(
    /nDCG@10 0\.\d{4} compared with 0\.\d{4} over the same candidates of 10 (queries of dev|dev queries)/,
  );
  expect(report.warnings.some((w) => w.includes('The teacher ranks no better than the encoder as it was'))).toBe(
    said[0].startsWith('The teacher ranks no better'),
  );

  // A second call makes nothing again, and the plan says so.
  const again = await distill(config);
  expect(Object.values(again.stages)).not.toContain('made');
  expect((await planRun(config)).filter((s) => s.status === 'made')).toEqual([]);
}, 300_000);

test('the saved channel gives the figure that was measured', async () => {
  const folder = join(world.folder, 'family/assistant/checkpoint');
  const channel = await readLexicalChannel(folder);
  const report = JSON.parse(readFileSync(join(world.folder, 'family/assistant/report.json'), 'utf8'));
  expect(channel).toMatchObject({ lambda: report.hybrid.lambda, scale: report.hybrid.scale, documents: 120 });
  const data = await openDataset(world.data);
  const index = await bm25(data.documents, { k1: channel!.k1, b: channel!.b, analyzer: channel!.analyzer });
  const encoder = await Encoder.load(folder);
  const queries = [...data.qrels('dev').keys()].map((q) => data.queries.text(data.queries.indexOf(q) as number));
  const hits = await hybridSearch(
    { vectors: await encoder.encode(queries, { maxLength: 64 }), text: (i) => queries[i] },
    await encoder.encode(data.documents, { maxLength: 192 }),
    encoder.dimensions,
    index,
    channel!,
    { k: 10 },
  );
  await encoder.dispose();
  const relevant = [...data.qrels('dev').values()].map((g) => data.documents.indexOf([...g.keys()][0]) as number);
  let ndcg = 0;
  for (const [i, d] of relevant.entries()) {
    const rank = hits.indices.subarray(i * 10, i * 10 + 10).indexOf(d);
    if (rank >= 0) ndcg += 1 / Math.log2(rank + 2) / relevant.length;
  }
  expect(ndcg).toBeCloseTo(report.hybrid.fused, 2);
});

test('parts are left out, a dual-encoder takes the place of the assistant, and nothing at all is refused', async () => {
  const config = options('own');
  const report = await distill({
    ...config,
    embedder: { model: world.dualEncoder },
    chain: { query: false, static: { ...small, generate: { count: 50 }, train: { ...small.train, spans: 8 } } },
  });
  expect(Object.keys(report.members ?? {})).toEqual(['static']);
  expect(report.systems.map((s) => s.name)).toContain('embedder');
  await expect(
    distill({
      ...config,
      output: join(world.folder, 'none'),
      chain: { assistant: false, query: false, static: false },
    }),
  ).rejects.toThrow('every run of the chain is left out');
}, 300_000);

test('a mistake in a part is refused by its place', async () => {
  await expect(distill({ ...options('wrong'), chain: { assistant: { train: { stepz: 3 } } } })).rejects.toThrow(
    "'train.stepz'",
  );
});

test('what is better than the student is said, with figures and what to try', () => {
  const figures = { split: 'dev', queries: 90 };
  expect(
    verdict({ ...figures, values: { student: 0.8, BM25: 0.7, 'student before training': 0.75 } }, { compact: false }),
  ).toBeUndefined();
  expect(
    verdict({ ...figures, values: { student: 0.641, BM25: 0.7, 'encoder as it was': 0.7233 } }, { compact: false }),
  ).toMatch(
    /^The encoder as it was, whole, ranks better than the student: nDCG@10 0\.7233 compared with 0\.6410 on the 90 queries of dev; use the encoder as it was; or try/,
  );
  expect(verdict({ ...figures, values: { student: 0.8, embedder: 0.84 } }, { compact: true })).toContain(
    'the student is the cheaper one',
  );
  // Where both together were measured, the advice is what was measured.
  const bm25 = (hybrid?: { lambda: number; fused: number }): string | undefined =>
    verdict({ ...figures, values: { student: 0.6, BM25: 0.7 } }, { compact: false, hybrid });
  expect(bm25()).toContain('use BM25, or both together (hybrid: {}, fitted on dev)');
  expect(bm25({ lambda: 1, fused: 0.75 })).toMatch(
    /; use BM25 and the student together: both together have 0\.7500 there$/,
  );
  expect(bm25({ lambda: 1, fused: 0.65 })).toMatch(/; use BM25: both together have 0\.6500 there$/);
});

test('a tower is compared with what its user had, and with the assistant only where that alone is better', () => {
  const own = (values: Record<string, number>, warnings: string[] = []) =>
    ({
      systems: [],
      warnings,
      seconds: { train: 3 },
      stages: {},
      before: { split: 'dev', queries: 9, values },
    }) as never;
  const family = (tower: Record<string, number>) =>
    familyReport(
      {
        assistant: own({ student: 0.8, 'student before training': 0.7 }, ['of all', 'of one']),
        query: own(tower, ['of all']),
      },
      { config: { pipeline: 'chain' } as never, report: 'report.json' },
    );
  const said = family({ student: 0.65, embedder: 0.8, 'student before training': 0.9 });
  expect(said.verdict).toMatch(/^query tower: The encoder as it was ranks better than the student: nDCG@10 0\.7000 /);
  expect(said.warnings).toEqual(['of all', 'assistant: of one']);
  expect(family({ student: 0.75, embedder: 0.8 }).verdict).toMatch(/^query tower: The assistant ranks better/);
  expect(family({ student: 0.85, embedder: 0.8 }).verdict).toBeUndefined();
});

test('without a dev split a chain has no share of BM25 to fit; a share that is given stays', () => {
  const data = {
    queries: 9,
    labelled: true,
    generatedTrain: false,
    generatedDev: false,
    listed: false,
    effort: effortOf('small', 40),
  };
  const hybrid = (more: object) =>
    chainOptions(
      parseConfig({ pipeline: 'chain', data: { path: 'd', splits: { dev: null } }, student: { model: 'm' }, ...more }),
      'assistant',
      data,
    )?.hybrid;
  expect(hybrid({})).toBeUndefined();
  expect(hybrid({ hybrid: { weight: 0.2 } })).toMatchObject({ weight: 0.2 });
});

test('where queries were generated the assistant is half of the encoder as it was, whatever the generated dev split says', () => {
  const data = { queries: 9, labelled: true, generatedDev: true, listed: false, effort: effortOf('small', 40) };
  const average = (generatedTrain: boolean) =>
    parseConfig(
      chainOptions(parseConfig({ pipeline: 'chain', data: { path: 'd' }, student: { model: 'm' } }), 'assistant', {
        ...data,
        generatedTrain,
      }) as ConfigInput,
    ).train.average;
  expect(average(true)).toBe(0.5);
  expect(average(false)).toEqual([0.85, 0.7, 0.5]);
});
