/** @file The examples of docs/serving.md run on a small world and print what they say; its verbs and options exist. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { program } from '../../cli/program.ts';
import { freshModel } from '../../models/new-model.ts';
import { distill, documents, makeWorld } from '../cli/world.ts';

const root = join(import.meta.dirname, '../..');
const page = readFileSync(join(root, 'docs/serving.md'), 'utf8');
const programs = [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map((m) => m[1]);
const folder = mkdtempSync(join(import.meta.dirname, 'serving-'));
let world: string;

beforeAll(async () => {
  world = await makeWorld();
  vi.stubEnv('XDG_CACHE_HOME', join(world, 'cache-home'));
  const at = (name: string): string => join(world, name);
  expect((await distill('index', at('dual'), '--data', at('data'), '--output', at('index'))).code).toBe(0);
  const said = await distill(
    ...['cascade', '--student', at('dual'), '--teacher', at('cross'), '--data', at('data'), '--calibrate', 'train'],
    ...['--index', at('index'), '--risk', '0.3', '--output', at('cascade.json')],
  );
  expect(said.err).not.toContain('error');
  const late = {
    pipeline: 'late-interaction',
    data: { path: at('data') },
    embedder: { model: at('dual') },
    student: { multiVector: { dimensions: 8 } },
    train: { steps: 2, batchSize: 4, evaluateEvery: null },
    evaluate: { bm25: false },
  };
  const sparse = {
    data: { path: at('data') },
    teacher: { kind: 'cross-encoder', model: at('cross') },
    student: { sparse: { columns: 64 }, model: at('dual') },
    candidates: { count: 4 },
    train: { steps: 1, batchSize: 4, candidates: 2, evaluateEvery: null, threads: 1, provider: 'cpu' },
    evaluate: { teacher: false, bm25: false },
  };
  writeFileSync(at('sparse.json'), JSON.stringify(sparse));
  expect((await distill('run', at('sparse.json'), '--output', at('sparse'))).code).toBe(0);
  const texts = { length: 40, text: (i: number) => documents[i].text };
  const tiny = { hidden: 16, layers: 2, heads: 2, maxLength: 64, vocabulary: 200 };
  await freshModel(at('two'), texts, { ...tiny, kind: 'cross-encoder' });
  const split = ['split', at('two'), '--data', at('data'), '--below', '1', '--steps', '1', '--evaluate', 'none'];
  expect((await distill(...split, '--provider', 'cpu', '--output', at('split'))).code).toBe(0);
  writeFileSync(at('rerank.json'), JSON.stringify(late));
  expect((await distill('run', at('rerank.json'), '--output', at('rerank'))).code).toBe(0);
});
afterAll(() => {
  vi.unstubAllEnvs();
  for (const dir of [folder, world]) rmSync(dir, { recursive: true, force: true });
});

test('its programs print what their comments say', async () => {
  const places: Record<string, string> = {
    'onnx-distill/retrieval': join(root, 'serving/index.ts'),
    'runs/student/checkpoint': join(world, 'dual'),
    'models/cross-encoder-split': join(world, 'split'),
    'models/cross-encoder': join(world, 'cross'),
    'indexes/manual': join(world, 'manual'),
    'indexes/debian': join(world, 'index'),
    'cascade.json': join(world, 'cascade.json'),
    'runs/rerank/checkpoint': join(world, 'rerank', 'checkpoint'),
    'indexes/late': join(world, 'late'),
    'runs/sparse/checkpoint': join(world, 'sparse', 'checkpoint'),
    'indexes/sparse': join(world, 'sparse-index'),
  };
  const said: unknown[][] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((...values) => void said.push(values));
  try {
    for (const [i, code] of programs.entries()) {
      const file = join(folder, `example${i}.ts`);
      writeFileSync(
        file,
        code.replace(/'([\w./-]+)'/g, (whole, name) =>
          Object.hasOwn(places, name) ? JSON.stringify(places[name]) : whole,
        ),
      );
      await import(file);
    }
  } finally {
    log.mockRestore();
  }
  expect(said).toEqual([
    [true],
    [2],
    ['apt', 'apt installs, updates and removes packages'],
    ['gimp', 'int4'],
    [2, 'gimp', undefined],
    [true, true],
    [10, true],
    [undefined],
    [2, true],
  ]);
});

test('its verbs and options exist', () => {
  const silent = { out: { write: () => {} }, err: { write: () => {} } };
  const { commands } = program(silent.out && silent, new AbortController().signal);
  const calls = [...page.replaceAll('\\\n', ' ').matchAll(/^ {4}distill ([a-z-]+)(.*)$/gm)];
  expect(calls.length).toBeGreaterThan(4);
  for (const [, verb, rest] of calls) {
    const options = commands.find((c) => c.name() === verb)?.options.map((o) => o.long);
    for (const [option] of rest.matchAll(/--[a-z-]+/g)) expect(options, `distill ${verb}`).toContain(option);
  }
});
