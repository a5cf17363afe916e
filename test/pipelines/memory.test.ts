/** @file A limit of memory: what is chosen shrinks with it and is said; what comes out stays the same. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { memorySize } from '../../common/byte-size.ts';
import type { ConfigInput } from '../../config/config.ts';
import { openDataset } from '../../data/open.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { forwardBytes, tokensWithin } from '../../engine/runtime/forward-memory.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill } from '../../pipelines/distill.ts';
import { search, searchBlock } from '../../retrieval/exact-search.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { batchMemory } from '../../training/memory-budget.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

test('sizes as people write them', () => {
  for (const [text, bytes] of [
    ['4GB', 4e9],
    ['1.5 gb', 1.5e9],
    ['512MiB', 2 ** 29],
    ['300m', 3e8],
    ['1000000', 1e6],
  ] as const)
    expect(memorySize(text)).toBe(bytes);
  for (const text of ['', 'GB', '-1GB', '4XB', '0', '4GB extra'])
    expect(() => memorySize(text)).toThrow(/expected a size such as 4GB/);
});

test('a batch shrinks with the limit, and a limit that leaves nothing is refused with what would do', async () => {
  const load = {
    serving: [world.crossEncoder],
    training: world.student,
    dataset: await openDataset(world.data),
    tables: 1,
  };
  const limits = ['16GB', '4GB', '1GB', '500MB', '350MB'];
  const batches = await Promise.all(limits.map((limit) => batchMemory(limit, load)));
  for (let i = 1; i < batches.length; i++) expect(batches[i]).toBeLessThan(batches[i - 1]);
  await expect(batchMemory('100MB', load)).rejects.toThrow(
    /a memory limit of 100 MB, where .* take about 3\d\d MB; allow at least 3\d\d MB/,
  );

  const graph = await loadGraph(join(world.crossEncoder, 'onnx', 'model.onnx'));
  const tokens = batches.map((b) => tokensWithin(1e9, b, forwardBytes(graph)(64)));
  const blocks = batches.map((b) => searchBlock(2e7, b));
  for (const chosen of [tokens, blocks])
    for (let i = 1; i < chosen.length; i++) expect(chosen[i]).toBeLessThanOrEqual(chosen[i - 1]);
  expect(tokens[4]).toBeLessThan(tokens[0] / 100);
  expect([blocks[0], blocks[4]]).toEqual([49, 1]);
});

/** Largest difference. */
const apart = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), a.length === b.length ? 0 : Number.NaN);

test('scores, embeddings and hits are the same in small batches', async () => {
  const { documents, queries } = await openDataset(world.data);
  const teacher = await crossEncoder(world.crossEncoder);
  const pairs = Array.from({ length: 60 }, (_, i) => ({
    queryId: '',
    documentId: '',
    query: queries.text(i),
    document: documents.text((i * 7) % 120),
  }));
  const memory = 20_000;
  expect(apart(await teacher.score(pairs), await teacher.score(pairs, { memory }))).toBeLessThan(1e-6);
  const encoder = await Encoder.load(world.dualEncoder);
  const [all, few] = [await encoder.encode(documents), await encoder.encode(documents, { memory })];
  expect(apart(all, few)).toBeLessThan(1e-6);
  const random = Random.of(0, 'memory');
  const q = Float32Array.from({ length: 70 * 32 }, () => random.normal());
  const [whole, part] = [await search(q, all, 32, 10), await search(q, all, 32, 10, { memory: 8 * 120 * 3 })];
  expect(apart(whole.scores, part.scores)).toBeLessThan(1e-5);
  expect(part.indices).toEqual(whole.indices);
  await teacher.dispose();
  await encoder.dispose();
});

test('a run says what it chose, and its losses are those of a run without a limit', async () => {
  const options = (name: string, memory?: string): ConfigInput => ({
    output: join(world.folder, 'runs', name),
    cache: join(world.folder, `${name}-cache`),
    memory,
    data: { path: world.data },
    teacher: { kind: 'cross-encoder', model: world.crossEncoder },
    student: { model: world.dualEncoder, documentTokens: 64 },
    candidates: { source: 'bm25', count: 8 },
    train: { provider: 'cpu', steps: 3, batchSize: 64, candidates: 8, warmupSteps: 1, learningRate: 1e-3, threads: 1 },
    evaluate: { bm25: false, before: false, teacher: false },
  });
  const refused = await distill(options('little', '1MB')).catch((e) => e);
  const least = /allow at least (\d+) MB/.exec(refused.message)?.[1];
  expect(refused).toMatchObject({ code: 'memory.too-little', exitCode: 2 });

  const notes: string[] = [];
  const small = await distill(options('small', `${Number(least) + 1}MB`), {
    onProgress: (p) => p.note && notes.push(p.note),
  });
  expect(notes.join('\n')).toMatch(/memory: of \d+ MB one batch may take 1\d MB; 64 queries are searched at a time/);
  const [, texts, chunk] = /memory: the (\d+) texts of a step are encoded (\d+) at a time/.exec(notes.join('\n')) ?? [];
  expect(Number(texts)).toBe(64 * 9);
  expect(Number(chunk)).toBeLessThan(Number(texts));
  const free = await distill(options('free'));
  const log = (report: { report: string }) =>
    JSON.parse(readFileSync(report.report, 'utf8')).log as { loss: number; gradientNorm: number }[];
  expect(
    apart(
      log(small).map((e) => e.loss),
      log(free).map((e) => e.loss),
    ),
  ).toBeLessThan(1e-5);
  // The first step starts from equal weights: there it is rounding alone.
  expect(Math.abs(log(small)[0].loss - log(free)[0].loss)).toBeLessThan(1e-6);
  expect(log(small)[0].gradientNorm / log(free)[0].gradientNorm).toBeCloseTo(1, 5);
  expect(small.systems.at(-1)?.metrics).toEqual(free.systems.at(-1)?.metrics);

  const evaluated = (memory?: string) =>
    evaluate({
      student: free.checkpoint,
      teacher: world.crossEncoder,
      data: world.data,
      cache: join(world.folder, 'e'),
      cost: false,
      samples: 20,
      memory,
    });
  const [a, b] = [await evaluated(), await evaluated('400MB')];
  expect(b.notes[0]).toMatch(/^memory: of 400 MB/);
  expect(b.systems).toEqual(a.systems);
});
