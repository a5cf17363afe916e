/** @file What a run keeps of its student's folder: modules, prompts, similarity and limits, read again and in Python. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors, readSafetensors } from '../../engine/io/safetensors.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld, type World } from '../pipelines/world.ts';
import { pythonWith, runPython } from '../python.ts';

const texts = ['open files', 'a', 'install the kernel module now'];
let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

const random = Random.of(5, 'saved');
const numbers = (...dims: number[]): Tensor => ({
  dtype: 'float32',
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random.normal() / 3),
});

const type = (name: string): string => `sentence_transformers.models.${name}`;

/** The world's student with a joined pooling, a Dense, prompts and a default prompt; `cosine` without Normalize. */
function studentFolder(name: string): string {
  const path = join(world.folder, name);
  cpSync(world.student, path, { recursive: true });
  const width = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')).hidden_size as number;
  const files: Record<string, unknown> = {
    'modules.json': ['', '1_Pooling', '2_Dense'].map((at, idx) => ({
      idx,
      name: String(idx),
      path: at,
      type: type(['Transformer', 'Pooling', 'Dense'][idx]),
    })),
    '1_Pooling/config.json': { pooling_mode_cls_token: true, pooling_mode_mean_tokens: true },
    '2_Dense/config.json': { in_features: 2 * width, out_features: 12, bias: true },
    'config_sentence_transformers.json': {
      prompts: { query: 'files : ', document: 'kernel : ', other: 'now ' },
      default_prompt_name: 'other',
      similarity_fn_name: 'cosine',
    },
    'sentence_bert_config.json': { max_seq_length: 20, do_lower_case: true },
  };
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(path, file, '..'), { recursive: true });
    writeFileSync(join(path, file), JSON.stringify(content));
  }
  const weights = new Map([
    ['linear.weight', numbers(12, 2 * width)],
    ['linear.bias', numbers(12)],
  ]);
  writeFileSync(join(path, '2_Dense/model.safetensors'), encodeSafetensors(weights));
  return path;
}

const run = (name: string, student: ConfigInput['student'], more: Partial<ConfigInput> = {}) =>
  distill({
    output: join(world.folder, name),
    cache: join(world.folder, 'cache'),
    data: { path: world.data },
    teacher: { kind: 'cross-encoder', model: world.crossEncoder },
    student,
    candidates: { count: 4 },
    train: { steps: 2, batchSize: 8, candidates: 4, learningRate: 1e-2, warmupSteps: 1, threads: 1, provider: 'cpu' },
    evaluate: { teacher: false, before: false, bm25: false },
    ...more,
  } as ConfigInput);

const encode = async (folder: string): Promise<number[][]> => {
  const encoder = await Encoder.load(folder);
  const found: number[][] = [];
  for (const role of ['text', 'query', 'document'] as const) found.push([...(await encoder.encode(texts, { role }))]);
  await encoder.dispose();
  return found;
};
const largest = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), a.length === b.length ? 0 : Number.POSITIVE_INFINITY);

const python = pythonWith('sentence_transformers');

test('a Dense behind a joined pooling is trained and saved, with prompts, similarity, limits and case', {
  timeout: 300_000,
}, async () => {
  const from = studentFolder('dense');
  const { checkpoint } = await run('dense-run', { model: from, queryTokens: 16, documentTokens: 18 });
  const json = (file: string) => JSON.parse(readFileSync(join(checkpoint, file), 'utf8'));
  expect(json('config_sentence_transformers.json')).toEqual({
    prompts: { query: 'files : ', document: 'kernel : ', other: 'now ' },
    default_prompt_name: 'other',
    similarity_fn_name: 'cosine',
  });
  expect(json('sentence_bert_config.json')).toEqual({ max_seq_length: 18, do_lower_case: true });
  expect(json('modules.json').map((m: { type: string }) => m.type)).toEqual(
    ['Transformer', 'Pooling', 'Dense'].map(type),
  );
  const [before, after] = await Promise.all(
    [from, checkpoint].map(
      async (f) => (await readSafetensors(join(f, '2_Dense/model.safetensors'))).get('linear.weight') as Tensor,
    ),
  );
  const moved = largest([...(before.data as Float32Array)], [...(after.data as Float32Array)]);
  expect(moved).toBeGreaterThan(1e-4);
  expect(moved).toBeLessThan(0.1);
  const card = readFileSync(join(checkpoint, 'README.md'), 'utf8');
  expect(card).toContain('Queries are encoded after "files : ", documents after "kernel : ".');
  expect(card).toContain("SentenceTransformer('FOLDER')");
  expect(existsSync(join(checkpoint, 'model.safetensors'))).toBe(true);
  if (!python) return;
  writeFileSync(join(world.folder, 'texts.json'), JSON.stringify(texts));
  const theirs = runPython(
    python,
    checkpoint,
    join(world.folder, 'texts.json'),
    `from sentence_transformers import SentenceTransformer
m = SentenceTransformer(folder, device='cpu')
print(json.dumps([v.flatten().tolist() for v in (m.encode(texts), m.encode_query(texts), m.encode_document(texts))]))`,
  ) as number[][];
  for (const [i, ours] of (await encode(checkpoint)).entries()) expect(largest(ours, theirs[i])).toBeLessThan(1e-5);
});

test('prompts of the config are saved in place of the folder’s, and change what is trained', {
  timeout: 300_000,
}, async () => {
  const student = { model: world.student, queryTokens: 16, documentTokens: 18 };
  const prompts = { query: 'install : {text}', document: '' };
  const [told, plain] = [await run('told', { ...student, prompts }), await run('plain', student)];
  const said = JSON.parse(readFileSync(join(told.checkpoint, 'config_sentence_transformers.json'), 'utf8'));
  expect(said.prompts).toEqual({ query: 'install : ', document: '' });
  const [a, b] = [await encode(told.checkpoint), await encode(plain.checkpoint)];
  expect(largest(a[0], b[0])).toBeGreaterThan(1e-4);
  expect(largest(a[0], a[2])).toBe(0);
  expect(largest(a[0], a[1])).toBeGreaterThan(1e-2);
});

test('an embedder of another width: the map into its space is a module where the head is not linear', {
  timeout: 300_000,
}, async () => {
  const { checkpoint } = await run(
    'into',
    { model: studentFolder('dense-into'), queryTokens: 16, documentTokens: 18 },
    { pipeline: 'inherit-documents', embedder: { model: world.dualEncoder } },
  );
  const modules = JSON.parse(readFileSync(join(checkpoint, 'modules.json'), 'utf8')) as { type: string }[];
  expect(modules.map((m) => m.type.split('.').at(-1))).toEqual(['Transformer', 'Pooling', 'Dense', 'Dense']);
  const encoder = await Encoder.load(checkpoint);
  const documents = await Encoder.load(world.dualEncoder);
  expect(encoder.dimensions).toBe(documents.dimensions);
  await encoder.dispose();
  await documents.dispose();
});
