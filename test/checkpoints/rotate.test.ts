import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rotate } from '../../checkpoints/rotate.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
let rotated: string;

beforeAll(async () => {
  world = await makeWorld();
  rotated = join(world.folder, 'rotated');
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

const options = (output: string) => ({
  model: world.dualEncoder,
  data: world.data,
  output,
  dimensions: [16, 8],
  steps: 60,
  cache: join(world.folder, 'cache'),
  provider: 'cpu' as const,
});
const embed = async (folder: string): Promise<Float32Array> => {
  const encoder = await Encoder.load(folder);
  try {
    return await encoder.encode(['red lamp from the attic', 'a piano', 'blue'], {});
  } finally {
    await encoder.dispose();
  }
};
const dots = (v: Float32Array): number[] =>
  [0, 1, 2].flatMap((a) =>
    [0, 1, 2].map((b) => v.slice(a * 32, a * 32 + 32).reduce((s, x, k) => s + x * v[b * 32 + k], 0)),
  );

test('a rotated model has its dot products, other vectors, and figures of its prefixes', async () => {
  const report = await rotate(options(rotated));
  expect(report.dimensions).toBe(32);
  expect(report.prefixes?.map((p) => p.dimensions)).toEqual([32, 16, 8]);
  expect(report.prefixes?.[0].after).toBeCloseTo(report.prefixes?.[0].before as number, 6);
  const [before, after] = [await embed(world.dualEncoder), await embed(rotated)];
  for (const [i, d] of dots(after).entries()) expect(d).toBeCloseTo(dots(before)[i], 4);
  expect(Math.max(...after.map((x, i) => Math.abs(x - before[i])))).toBeGreaterThan(0.05);
});

test('the rotation is a module next to safetensors where the family is known, else in the graph; the card says how to load each', async () => {
  const card = (folder: string) => readFileSync(join(folder, 'README.md'), 'utf8');
  expect(existsSync(join(rotated, 'model.safetensors'))).toBe(true);
  expect(card(rotated)).toContain("SentenceTransformer('FOLDER')");
  expect(card(rotated)).toMatch(/The rotation is the module `\d_Rotation`/);
  const other = join(world.folder, 'other-family');
  cpSync(world.dualEncoder, other, { recursive: true });
  const config = JSON.parse(readFileSync(join(other, 'config.json'), 'utf8'));
  writeFileSync(join(other, 'config.json'), JSON.stringify({ ...config, model_type: 'other' }));
  const inGraph = join(world.folder, 'rotated-graph');
  await rotate({ ...options(inGraph), model: other });
  expect(existsSync(join(inGraph, 'model.safetensors'))).toBe(false);
  expect(card(inGraph)).toContain("SentenceTransformer('FOLDER', backend='onnx')");
  for (const [i, d] of dots(await embed(inGraph)).entries()) expect(d).toBeCloseTo(dots(await embed(other))[i], 4);
  const source = join(world.folder, 'layer-norm');
  cpSync(world.dualEncoder, source, { recursive: true });
  // Max pooling is not linear: the rotation stands behind it.
  const types = ['Transformer', 'Pooling', 'Normalize'].map((t, i) => ({
    idx: i,
    name: String(i),
    path: i ? `${i}_${t}` : '',
    type: `sentence_transformers.models.${t}`,
  }));
  writeFileSync(join(source, 'modules.json'), JSON.stringify(types));
  mkdirSync(join(source, '1_Pooling'), { recursive: true });
  writeFileSync(
    join(source, '1_Pooling/config.json'),
    JSON.stringify({ word_embedding_dimension: 32, pooling_mode_max_tokens: true, pooling_mode_mean_tokens: false }),
  );
  const out = join(world.folder, 'rotated-module');
  await rotate({ ...options(out), model: source });
  expect(card(out)).toContain("SentenceTransformer('FOLDER')");
  const { tensors } = readSafetensors(join(out, 'model.safetensors'));
  const table = (await loadGraph(join(source, 'onnx/model.onnx'))).constants.find((v) =>
    v.name.endsWith('word_embeddings.weight'),
  )?.constant;
  expect(tensors.get('embeddings.word_embeddings.weight')).toEqual(table?.dims);
  const [before, after] = [await embed(source), await embed(out)];
  for (const [i, d] of dots(after).entries()) expect(d).toBeCloseTo(dots(before)[i], 4);
});

/** Shapes of a safetensors file by name. */
function readSafetensors(file: string): { tensors: Map<string, number[]> } {
  const bytes = readFileSync(file);
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
  const entries = Object.entries(header as Record<string, { shape: number[] }>).filter(([n]) => n !== '__metadata__');
  return { tensors: new Map(entries.map(([name, { shape }]) => [name, shape])) };
}

test('a rotation is taken over from a model that has one, and only from such', async () => {
  const again = join(world.folder, 'again');
  await rotate({ ...options(again), like: rotated });
  expect([...(await embed(again))]).toEqual([...(await embed(rotated))]);
  const refused = rotate({ ...options(join(world.folder, 'none')), like: world.dualEncoder });
  await expect(refused).rejects.toMatchObject({ code: 'rotate.no-rotation' });
});

test('a student begins in the rotated space, and its vectors are compared there', async () => {
  const report = await distill({
    pipeline: 'inherit-documents',
    output: join(world.folder, 'run'),
    data: { path: world.data },
    // Cut where rotate cut them.
    embedder: { model: rotated, queryTokens: 64, documentTokens: 64 },
    student: { model: rotated },
    losses: [{ kind: 'embedding-matching', of: 'queries' }],
    train: { steps: 1, batchSize: 8, candidates: 2, learningRate: 1e-9, provider: 'cpu' },
    matryoshka: { dimensions: [32, 8] },
    evaluate: { bm25: false },
    cache: join(world.folder, 'cache'),
  });
  // What rotate knew of the rotated vectors is not computed again.
  expect(report.stages.embeddings).toBe('reused');
  const value = (name: string) => report.systems.find((s) => s.name === name)?.metrics['ndcg@10'] as number;
  expect(value('student')).toBeCloseTo(value('embedder'), 6);
  expect(report.matryoshka?.map((m) => m.dimensions)).toEqual([32, 8]);
});

test('vectors that are not of unit length are refused', async () => {
  const folder = join(world.folder, 'long');
  cpSync(world.dualEncoder, folder, { recursive: true });
  const types = ['Transformer', 'Pooling'].map((t) => ({ type: `sentence_transformers.models.${t}` }));
  writeFileSync(join(folder, 'modules.json'), JSON.stringify(types));
  writeFileSync(join(folder, 'config_sentence_transformers.json'), JSON.stringify({ similarity_fn_name: 'dot' }));
  await expect(rotate({ ...options(join(world.folder, 'out')), model: folder })).rejects.toMatchObject({
    code: 'rotate.model',
  });
});

test.each(['projection', 'sequential-attention'] as const)('%s: a model of fewer dimensions', async (select) => {
  const output = join(world.folder, select);
  const { dimensions: _, ...rest } = options(output);
  const report = await rotate({ ...rest, select, keep: 8 });
  expect(report.dimensions).toBe(8);
  expect(report.prefixes?.map((p) => p.dimensions)).toEqual([32, 8]);
  const [whole, short] = [await embed(world.dualEncoder), await embed(output)];
  expect(short.length).toBe(3 * 8);
  expect(Math.hypot(...short.subarray(0, 8))).toBeCloseTo(1, 5);
  if (select === 'sequential-attention') {
    // Dimensions as they are, scaled to unit length: the quotients of two of them are those of the whole vector.
    const quotients = [1, 2, 3, 4, 5, 6, 7].map((k) => short[k] / short[0]);
    const among = [...whole.subarray(0, 32)].flatMap((a) => [...whole.subarray(0, 32)].map((b) => a / b));
    for (const q of quotients) expect(among.some((a) => Math.abs(a - q) < 1e-3 * Math.abs(q))).toBe(true);
  }
  expect(readFileSync(join(output, 'README.md'), 'utf8')).toContain('in 8 dimensions');
});

test('options of a rotation and of a selection are not mixed', async () => {
  const output = join(world.folder, 'mixed');
  await expect(rotate({ ...options(output), select: 'projection' })).rejects.toThrow(
    '--select projection without --keep',
  );
  await expect(rotate({ ...options(output), keep: 8 })).rejects.toThrow('--keep with a rotation');
  await expect(rotate({ ...options(output), select: 'projection', keep: 8 })).rejects.toThrow(
    'with --dimensions or --like',
  );
  await expect(rotate({ ...options(output), select: 'other' as never })).rejects.toThrow('--select other');
});
