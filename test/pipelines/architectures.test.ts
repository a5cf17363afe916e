/** @file Students with other layers: trained in a run, saved, measured, exported and trained again. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exportCheckpoint } from '../../checkpoints/export-checkpoint.ts';
import type { ConfigInput } from '../../config/config.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

const options = (output: string, architecture: object, losses: object[] = []): ConfigInput =>
  ({
    pipeline: 'inherit-documents',
    output: join(world.folder, output),
    cache: join(world.folder, 'cache'),
    data: { path: world.data },
    embedder: { model: world.dualEncoder },
    student: { model: world.dualEncoder, architecture, queryTokens: 12, documentTokens: 40 },
    losses: [{ kind: 'embedding-matching' }, ...losses],
    train: { steps: 3, batchSize: 8, learningRate: 1e-2, warmupSteps: 1, spans: null, threads: 1, provider: 'cpu' },
    evaluate: { teacher: false, bm25: false, before: false },
  }) as ConfigInput;
const texts = ['red lamp from the attic', 'a piano', 'blue'];

test('experts with a loss of balance: a run, its folder, int8, and a student made of it', async () => {
  const balance = { kind: 'load-balance', weight: 0.01 };
  const report = await distill(options('experts', { kind: 'experts', experts: 4 }, [balance]));
  const folder = report.checkpoint;
  expect(existsSync(join(folder, 'model.safetensors'))).toBe(false);
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  expect(config.onnx_distill_architecture).toMatchObject([{ kind: 'experts', experts: 4, chosen: 2 }]);
  const encoder = await Encoder.load(folder, { comparable: true });
  const whole = await encoder.encode(texts, { role: 'query' });
  const D = encoder.dimensions;
  await encoder.dispose();
  // An expert without a token quantises an empty tensor.
  const output = join(world.folder, 'int8');
  await exportCheckpoint({ checkpoint: folder, output, dtype: 'int8', data: world.data, seal: false } as never);
  const small = await Encoder.load(output, { comparable: true });
  const quantised = await small.encode(texts, { role: 'query' });
  await small.dispose();
  for (let i = 0; i < texts.length; i++) {
    const cosine = whole.subarray(i * D, (i + 1) * D).reduce((sum, v, k) => sum + v * quantised[i * D + k], 0);
    expect(cosine).toBeGreaterThan(0.95);
  }
  const again = { ...options('again', {}), student: { model: folder, queryTokens: 12 } } as ConfigInput;
  const second = await distill(again);
  expect(second.training.loss).toBeGreaterThan(0);
  const kept = JSON.parse(readFileSync(join(second.checkpoint, 'config.json'), 'utf8'));
  expect(kept.onnx_distill_architecture).toEqual(config.onnx_distill_architecture);
  expect(existsSync(join(second.checkpoint, 'model.safetensors'))).toBe(false);
  const twice = { ...again, student: { model: folder, architecture: { kind: 'experts' } } } as ConfigInput;
  await expect(distill({ ...twice, output: join(world.folder, 'twice') })).rejects.toThrow(
    'layer 0 has no feed-forward network of a known form',
  );
});

test('FAVOR++ and top-k together, of a new encoder; what losses read is refused where it is absent', async () => {
  const both = [
    { kind: 'favor', features: 8 },
    { kind: 'top-k', keep: 6, layers: [1] },
  ];
  const own = options('both', both, [{ kind: 'activation-l1', weight: 0.1 }]);
  const fresh = { fresh: { hidden: 16, heads: 2 }, architecture: both, queryTokens: 12, documentTokens: 40 };
  const report = await distill({ ...own, student: fresh } as ConfigInput);
  expect(report.training.loss).toBeGreaterThan(0);
  const encoder = await Encoder.load(report.checkpoint, { comparable: true });
  const [together, alone] = [
    await encoder.encode(texts, { role: 'query' }),
    await encoder.encode(texts.slice(1, 2), { role: 'query' }),
  ];
  const D = encoder.dimensions;
  await encoder.dispose();
  for (let k = 0; k < D; k++) expect(alone[k]).toBeCloseTo(together[D + k], 5);
  await expect(distill(options('refused', [{ kind: 'tree', depth: 1 }], [{ kind: 'load-balance' }]))).rejects.toThrow(
    "a loss reads 'gates', which the layers of the student do not give",
  );
});
