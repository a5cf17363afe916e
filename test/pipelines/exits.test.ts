/** @file A run with exits: a file and a row a depth, opened by its number of layers, exported with the rest. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { layerCount } from '../../engine/passes/segments.ts';
import { freshModel } from '../../models/new-model.ts';
import { distill, type RunReport } from '../../pipelines/distill.ts';
import { openEncoder } from '../../serving/index.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
let report: RunReport;
const texts = ['red lamp from the kitchen', 'piano', ''];

const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  pipeline: 'inherit-documents',
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  embedder: { model: world.dualEncoder },
  student: { model: join(world.folder, 'deep'), queryTokens: 16 },
  losses: [{ kind: 'embedding-matching' }],
  candidates: { source: 'bm25', count: 4 },
  evaluate: { teacher: false, before: false, bm25: false },
  ...more,
  train: {
    steps: 80,
    batchSize: 16,
    candidates: 2,
    learningRate: 5e-3,
    warmupSteps: 2,
    threads: 1,
    provider: 'cpu',
    exits: [1, 2],
    ...more.train,
  },
});

async function queries(options: Parameters<typeof openEncoder>[1], folder = report.checkpoint): Promise<Float32Array> {
  const encoder = await openEncoder(folder, options);
  const vectors = await encoder.embedQueries(texts);
  await encoder.dispose();
  return vectors;
}

beforeAll(async () => {
  world = await makeWorld();
  const own = ['corpus', 'queries'].flatMap((name) =>
    readFileSync(join(world.data, `${name}.jsonl`), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).text),
  );
  const table = { length: own.length, text: (i: number) => own[i] };
  await freshModel(join(world.folder, 'deep'), table, { vocabulary: 300, hidden: 16, layers: 3, heads: 2, seed: 4 });
  report = await distill(options('exits', { export: { dtype: ['fp32', 'int8'], tolerance: 10, safetensors: false } }));
});

test('the report has a row a depth, with quality, size and time', () => {
  const rows = report.systems.filter((s) => !/fp32|int8/.test(s.name));
  expect(rows.map((s) => s.name)).toEqual(['student', 'student, exit 1', 'student, exit 2']);
  for (const { metrics, bytes, queryMilliseconds } of rows) {
    expect(metrics['ndcg@10']).toBeGreaterThan(0);
    expect(bytes).toBeGreaterThan(0);
    expect(queryMilliseconds).toBeGreaterThan(0);
  }
  const [whole, one, two] = rows.map((s) => s.bytes as number);
  expect(one < two && two < whole).toBe(true);
  expect(readFileSync(join(report.checkpoint, 'README.md'), 'utf8')).toContain('| student, exit 1 |');
  const { config } = JSON.parse(readFileSync(join(report.checkpoint, 'distill.json'), 'utf8'));
  expect(config.train.exits).toEqual([1, 2]);
});

test('each file has its layers, and openEncoder takes one by its number of layers', async () => {
  for (const n of [1, 2])
    expect(layerCount(await loadGraph(join(report.checkpoint, `onnx/model_exit${n}.onnx`)))).toBe(n);
  const whole = await queries({});
  // As wide as the documents: the projection is behind every depth.
  expect(whole).toHaveLength(32 * texts.length);
  const [one, two] = [await queries({ exit: 1 }), await queries({ exit: 2 })];
  expect(one).toHaveLength(whole.length);
  expect(Math.hypot(...one.subarray(0, 32))).toBeCloseTo(1, 5);
  const cosine = (a: Float32Array, b: Float32Array): number =>
    a.subarray(0, 32).reduce((sum, v, i) => sum + v * b[i], 0);
  expect(cosine(one, whole)).toBeLessThan(0.99999);
  // Trained on the same targets, depths agree.
  expect(cosine(one, whole)).toBeGreaterThan(0.8);
  expect(cosine(two, whole)).toBeGreaterThan(0.8);
  await expect(queries({ exit: 3 })).rejects.toThrow(
    /has no exit after 3 layers: expected exit1, exit2; choose one of these/,
  );
  await expect(queries({ exit: 1, dtype: 'q4' })).rejects.toThrow(/has no exit after 1 layers of dtype 'q4'/);
  await expect(queries({ exit: 1 }, join(world.folder, 'deep'))).rejects.toThrow(
    /has no exit after 1 layers; train a query tower with 'train.exits'/,
  );
  await expect(queries({ exit: 1 }, join(report.checkpoint, 'onnx/model.onnx'))).rejects.toThrow(
    /is one file, and the exit 1 is given/,
  );
});

test('`distill evaluate` measures every depth', async () => {
  const { systems } = await evaluate({
    student: report.checkpoint,
    data: world.data,
    split: 'test',
    dtype: 'fp32,exit1,exit2',
    cache: join(world.folder, 'cache'),
  });
  const own = (name: string): number | undefined => report.systems.find((s) => s.name === name)?.metrics['ndcg@10'];
  const found = new Map(systems.map((s) => [s.name, s]));
  for (const n of [1, 2]) {
    const row = found.get(`student exit${n}`);
    expect(row?.metrics['ndcg@10']).toBeCloseTo(own(`student, exit ${n}`) as number, 6);
    expect(row?.bytes).toBe(report.systems.find((s) => s.name === `student, exit ${n}`)?.bytes);
  }
});

test('an export has a file a depth and dtype, measured and not refused for what depth costs', async () => {
  const files = report.export?.files ?? [];
  expect(files.map((f) => [f.file, f.exit])).toEqual([
    ['onnx/model.onnx', undefined],
    ['onnx/model_exit1.onnx', 1],
    ['onnx/model_exit2.onnx', 2],
    ['onnx/model_quantized.onnx', undefined],
    ['onnx/model_exit1_quantized.onnx', 1],
    ['onnx/model_exit2_quantized.onnx', 2],
  ]);
  expect(report.export?.rows).toContain('student int8, exit 2');
  const folder = join(world.folder, 'runs', 'exits', 'export');
  const [kept, small] = [await queries({ exit: 1 }, folder), await queries({ exit: 1, dtype: 'int8' }, folder)];
  const own = await queries({ exit: 1 });
  expect(Math.max(...kept.map((v, i) => Math.abs(v - own[i])))).toBeLessThan(1e-5);
  const change = Math.max(...small.map((v, i) => Math.abs(v - own[i])));
  expect(change > 0 && change < 0.1).toBe(true);
  const stated = join(folder, 'distill.json');
  expect(existsSync(stated)).toBe(true);
  writeFileSync(stated, JSON.stringify({ config: { train: { exits: 'all' } } }));
  const { exportCheckpoint } = await import('../../checkpoints/export-checkpoint.ts');
  await expect(
    exportCheckpoint({ checkpoint: folder, output: join(world.folder, 'again'), dtype: ['fp32'] }),
  ).rejects.toThrow(/'config.train.exits' of distill.json: expected numbers of layers/);
});

describe('exits are refused', () => {
  test('where both towers are trained, or the student is a table', () => {
    const config = (more: object): object => ({ output: 'o', data: { path: 'd' }, train: { exits: [1] }, ...more });
    expect(() =>
      parseConfig(config({ student: { model: 's' }, teacher: { kind: 'cross-encoder', model: 't' } })),
    ).toThrow(
      "'train.exits' needs frozen documents, which all depths of the query tower search, and both towers are trained; use 'pipeline: inherit-documents', or remove it",
    );
    expect(() =>
      parseConfig(config({ pipeline: 'static-queries', student: { static: {} }, embedder: { model: 'e' } })),
    ).toThrow("'train.exits' names layers and 'student.static' is a table without layers; remove it");
  });

  test('where there are no such layers, before the embedder is asked', async () => {
    const wrong = options('wrong', { embedder: { model: world.dualEncoder }, train: { exits: [3] } });
    await expect(distill(wrong)).rejects.toThrow('exits after the layers [3]: expected numbers from 1 to 2, ascending');
    expect(existsSync(join(world.folder, 'runs', 'wrong', 'checkpoint'))).toBe(false);
  });
});
