/** @file DAFT and FRR in runs: what is learned in turn, what is saved, plans that agree, and what is refused. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { parseSafetensors } from '../../engine/io/safetensors.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { scoreFeatures } from '../../teachers/score-features.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

const options = (name: string, train: ConfigInput['train'] = {}, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { model: world.dualEncoder },
  candidates: { source: 'bm25', count: 6 },
  evaluate: { metrics: ['ndcg@10'], bm25: false, before: false, teacher: false },
  train: { steps: 6, batchSize: 8, candidates: 4, threads: 1, provider: 'cpu', ...train },
  ...more,
});
const file = (name: string, path: string) => readFileSync(join(world.folder, 'runs', name, path));
const statuses = async (config: ConfigInput) =>
  Object.fromEntries((await planRun(config)).map((s) => [s.stage, s.status]));

test('the last layer of a cross-encoder and what it reads give its scores', async () => {
  const reader = await scoreFeatures(world.crossEncoder, { session: { threads: 1 } });
  const teacher = await crossEncoder(world.crossEncoder, { session: { threads: 1 } });
  const pairs = ['red lamp', 'a kettle from the attic', ''].map((query, i) => ({
    queryId: '',
    documentId: '',
    query,
    document: `This lamp ${i} is red.`,
  }));
  const [features, scores] = [await reader.read(pairs), await teacher.score(pairs)];
  const { weight, bias } = reader.head;
  for (const [i, score] of scores.entries()) {
    const row = features.subarray(i * reader.dimensions, (i + 1) * reader.dimensions);
    expect(row.reduce((s, x, k) => s + x * weight[k], bias)).toBeCloseTo(score, 5);
  }
  await Promise.all([reader.dispose(), teacher.dispose()]);
  await expect(scoreFeatures(world.dualEncoder)).rejects.toThrow(/does not end with a linear layer of one logit/);
});

test('DAFT with epsilon 0 is plain distillation; with another it is not, and its scores are kept', async () => {
  await distill(options('plain'));
  await distill(options('zero', { daft: { epsilon: 0 } }));
  await distill(options('moved', { daft: { epsilon: 2, steps: 5 } }));
  const last = (name: string): { loss: number } =>
    JSON.parse(file(name, 'training/trained.json').toString()).log.at(-1);
  expect(last('zero').loss).toBeCloseTo(last('plain').loss, 4);
  expect(Math.abs(last('moved').loss - last('plain').loss)).toBeGreaterThan(1e-3);
  const kept = parseSafetensors(file('moved', 'stages/adversarial-scores.safetensors'), '');
  const [clean, adversarial] = ['clean', 'adversarial'].map((n) => kept.get(n)?.data as Float32Array);
  const away = Array.from(clean, (z, i) => Math.abs(adversarial[i] - z));
  for (const d of away) expect(d).toBeCloseTo(away[0], 3);
  expect(away[0]).toBeGreaterThan(0.01);

  const same = await statuses(options('moved', { daft: { epsilon: 2, steps: 5 } }));
  expect([same['adversarial scores'], same.training]).toEqual(['reused', 'reused']);
  const other = await statuses(options('moved', { daft: { epsilon: 3, steps: 5 } }));
  expect([other['adversarial scores'], other.training]).toEqual(['made', 'made']);
});

test('FRR trains a layer, then the encoder under it; the checkpoint holds both', async () => {
  const frr = { steps: 40, weight: 0.1, learningRate: 1e-2, anchors: 50 };
  await distill(options('frr', { frr, evaluateEvery: 3 }));
  const head = parseSafetensors(file('frr', 'stages/linear-layer.safetensors'), '').get('head')?.data as Float32Array;
  expect(head.length).toBe(32 * 32);
  const trained = parseSafetensors(file('frr', 'training/trained.safetensors'), '');
  expect(trained.get('after:projection')?.data).toEqual(head);

  // Without a step of the encoder, what is saved is the encoder behind the layer.
  await distill(options('layer alone', { frr, steps: 1, learningRate: 1e-12, warmupSteps: 0 }));
  const vectorsOf = async (folder: string) => {
    const encoder = await Encoder.load(folder, { session: { threads: 1 } });
    const data = await encoder.encode(['red lamp', 'a kettle'], { maxLength: 64, role: 'query' });
    await encoder.dispose();
    return data;
  };
  const [was, is] = [
    await vectorsOf(world.dualEncoder),
    await vectorsOf(join(world.folder, 'runs/layer alone/checkpoint')),
  ];
  const own = parseSafetensors(file('layer alone', 'stages/linear-layer.safetensors'), '').get('head')
    ?.data as Float32Array;
  for (let i = 0; i < 2; i++) {
    const moved = Array.from({ length: 32 }, (_, j) =>
      was.subarray(i * 32, (i + 1) * 32).reduce((s, x, k) => s + x * own[k * 32 + j], 0),
    );
    const length = Math.sqrt(moved.reduce((s, x) => s + x * x, 0));
    for (const [j, x] of moved.entries()) expect(is[i * 32 + j]).toBeCloseTo(x / length, 4);
  }
  const same = await statuses(options('frr', { frr, evaluateEvery: 3 }));
  expect([same['linear layer'], same.training]).toEqual(['reused', 'reused']);
});

test('what neither can serve is refused in one sentence', () => {
  const parse =
    (train: ConfigInput['train'], more: Partial<ConfigInput> = {}) =>
    () =>
      parseConfig({ ...options('none', train), ...more });
  expect(parse({ daft: {} }, { teacher: { kind: 'scores' } })).toThrow(
    "'train.daft' moves features of a cross-encoder and 'teacher' is not one; name one under 'train.daft.model', or remove it",
  );
  expect(parse({ daft: {} }, { losses: [{ kind: 'info-nce' }] })).toThrow(
    "no loss follows the scores that 'train.daft' makes",
  );
  expect(parse({ daft: {} }, { candidates: { refresh: { every: 5 } } })).toThrow("'train.daft' makes its scores once");
  expect(parse({ frr: {} }, { student: { model: 'm', layers: [0] } })).toThrow(
    "'train.frr' reads features of the whole encoder",
  );
  expect(parse({ frr: {} }, { embedder: { model: 'm' }, losses: [{ kind: 'embedding-matching' }] })).toThrow(
    "'train.frr' trains its layer by losses of scores",
  );
  expect(
    parse({ frr: {} }, { pipeline: 'inherit-documents', embedder: { model: 'm' }, losses: [{ kind: 'info-nce' }] }),
  ).toThrow("'train.frr' puts a layer behind a trained encoder of both towers");
});
