/**
 * @file What a change makes necessary: for each kind of change, the stages that a dry run says are made again, and those that a
 * run then makes again, are exactly those that depend on it.
 */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { renderPlan } from '../../cli/terminal/report.ts';
import { hashParts } from '../../common/files.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { freshModel } from '../../models/new-model.ts';
import { distill, planRun, type StagePlan } from '../../pipelines/distill.ts';

import { distill as command, makeWorld, snapshot } from '../cli/world.ts';

/** Every stage there is, weights that are made once and embeddings among them. */
const sets = [
  'embedder={model: frozen, queryTokens: 16, documentTokens: 32}',
  'losses=[{kind: info-nce}, {kind: kl}, {kind: embedding-matching}]',
  'weighting={kind: calibrated-posterior}',
  'querySelection={kind: random, budget: 14}',
  'train={provider: cpu, steps: 3, batchSize: 4, candidates: 4, warmupSteps: 1, threads: 1, evaluateEvery: 2, saveEvery: 1}',
];

const withoutBudget = sets.filter((s) => !s.startsWith('querySelection='));

let base: string;
beforeAll(async () => {
  base = await makeWorld();
  cpSync(join(base, 'dual'), join(base, 'frozen'), { recursive: true });
  await distill(configOf(base));
});

function configOf(world: string, more: readonly string[] = [], all = sets) {
  return readConfig(join(world, 'distill.yaml'), [`output=${world}/out`, ...all, ...more]);
}

/** A world in which one run has been done, for one change to be made to it. */
function done(): string {
  const world = mkdtempSync(join(tmpdir(), 'plan-'));
  cpSync(base, world, { recursive: true });
  return world;
}

/** Hashes of all files. lock.mdb holds who reads the store, and checked which state of it was readable: no result. */
const written = (world: string): Record<string, string> =>
  Object.fromEntries(
    Object.entries(snapshot(world))
      .filter(([name]) => name !== 'cache/lock.mdb' && name !== 'cache/checked')
      .map(([name, content]) => [name, hashParts(content)]),
  );

const made = (plan: readonly StagePlan[]): string[] => plan.filter((p) => p.status === 'made').map((p) => p.stage);
const whyOf = (plan: readonly StagePlan[], stage: string): string | undefined =>
  plan.find((p) => p.stage === stage)?.why;

const edit = (file: string, change: (text: string) => string) => (world: string) => {
  const path = join(world, file);
  const [before, after] = [readFileSync(path, 'utf8'), change(readFileSync(path, 'utf8'))];
  if (before === after) throw new Error(`${file} is as before`);
  writeFileSync(path, after);
};
/** Changes a weight in the middle of the file. */
const otherWeights = (file: string) => async (world: string) => {
  const path = join(world, file);
  const bytes = readFileSync(path);
  // The lowest bits of some numbers: the file stays a model.
  const graph = await loadGraph(path);
  const table = graph.constants.find((v) => (v.constant?.data.length ?? 0) > 256)?.constant;
  const data = Buffer.from(new Float32Array(table?.data as Float32Array).buffer).subarray(0, 64);
  const at = bytes.indexOf(data);
  if (at < 0) throw new Error('the weights are not where they were thought to be');
  bytes[at] ^= 0x3f;
  writeFileSync(path, bytes);
};
const removed = (path: string) => (world: string) => rmSync(join(world, path), { recursive: true });

const trained = ['training', 'checkpoint', 'evaluation'];
const taught = ['teacher scores', 'teacher on dev', 'weights', ...trained];

interface Change {
  set?: string;
  change?(world: string): void | Promise<void>;
  made: string[];
  /** The reason given for the first stage that is made again. */
  why?: RegExp;
}

/** By what is changed. */
const changes: Record<string, Change> = {
  nothing: { made: [] },
  'the learning rate': {
    set: 'train.learningRate=0.0001',
    made: trained,
    why: /^train\.learningRate changed from \S+ to 0\.0001$/,
  },
  'a loss': { set: 'losses.0.temperature=0.1', made: trained, why: /^losses changed$/ },
  'the weighting': { set: 'weighting.kind=confidence', made: ['weights', ...trained], why: /weighting\.kind changed/ },
  'the metrics': {
    set: 'evaluate.metrics=[ndcg@5]',
    made: ['evaluation'],
    why: /^evaluate\.metrics changed from \["ndcg@10",\S* to \["ndcg@5"\]$/,
  },
  'how often state is saved': { set: 'train.saveEvery=2', made: [] },
  'how the teacher cuts texts': { set: 'teacher.documentTokens=5', made: taught, why: /^56 of 56 pairs missing$/ },
  "the teacher's model": {
    change: otherWeights('cross/onnx/model.onnx'),
    made: taught,
    why: /^56 of 56 pairs missing$/,
  },
  "the teacher's tokenizer": {
    change: edit('cross/tokenizer.json', (t) =>
      t.replace('"lowercase":true', '"lowercase":false').replace('"lowercase": true', '"lowercase": false'),
    ),
    made: taught,
  },
  "the student's model": {
    change: otherWeights('dual/onnx/model.onnx'),
    made: ['teacher on dev', ...trained],
    why: /^the student's model changed$/,
  },
  'how the embedder cuts documents': {
    set: 'embedder.documentTokens=8',
    made: ['embeddings', ...trained],
    why: /texts missing$/,
  },
  'a document': {
    change: edit('data/corpus.jsonl', (t) => t.replace('t7"', 'print t7"')),
    made: ['data', 'candidates', 'queries', 'teacher on dev', 'embeddings', 'weights', ...trained],
    why: /^the documents changed$/,
  },
  'a training query': {
    change: edit('data/queries.jsonl', (t) => t.replace(/("q3","text":")/, '$1scan ')),
    made: ['data', 'candidates', 'queries', 'embeddings', 'weights', ...trained],
  },
  'a test query': {
    change: edit('data/queries.jsonl', (t) => t.replace(/("q21","text":")/, '$1scan ')),
    made: ['data', 'evaluation'],
    why: /^the queries changed$/,
  },
  'a dev judgement': {
    change: edit('data/qrels/dev.tsv', (t) => t.replace('q16\td16', 'q16\td17')),
    made: ['data', 'teacher on dev', ...trained],
    why: /^the dev judgements changed$/,
  },
  'a test judgement': {
    change: edit('data/qrels/test.tsv', (t) => t.replace('q20\td20', 'q20\td21')),
    made: ['data', 'evaluation'],
    why: /^the test judgements changed$/,
  },
  'the cache is gone': {
    change: removed('cache'),
    made: ['teacher scores', 'embeddings'],
    why: /^56 of 56 pairs missing$/,
  },
  'a byte of the checkpoint': {
    change: (world) => {
      const path = join(world, 'out/checkpoint/onnx/model.onnx');
      const bytes = readFileSync(path);
      bytes[bytes.length >> 1] ^= 1;
      writeFileSync(path, bytes);
    },
    made: ['checkpoint'],
    why: /^the bytes of checkpoint\/onnx\/model\.onnx changed$/,
  },
  'the candidates are torn': {
    change: (world) => writeFileSync(join(world, 'out/stages/candidates.safetensors'), 'torn'),
    made: ['candidates'],
    why: /^the bytes of stages\/candidates\.safetensors changed$/,
  },
  'the trained weights are gone': {
    change: removed('out/training/trained.safetensors'),
    made: ['training'],
    why: /^training\/trained\.safetensors is missing$/,
  },
  'the report is gone': { change: removed('out/report.html'), made: ['evaluation'], why: /^report\.html is missing$/ },
};

describe('a change of', () => {
  test.each(Object.entries(changes))('%s', async (_, { set, change, made: expected, why }) => {
    const world = done();
    await change?.(world);
    const config = configOf(world, set ? [set] : []);
    const before = written(world);
    const plan = await planRun(config);
    // What depends on what is found can go either way.
    const certain = plan.filter((p) => p.status !== 'depends').map((p) => p.stage);
    expect(made(plan)).toEqual(expected.filter((s) => (certain as string[]).includes(s)));
    if (why) expect(whyOf(plan, expected[0])).toMatch(why);
    expect(written(world)).toEqual(before);

    const { stages } = await distill(config);
    const did = Object.entries(stages).filter(([s, how]) => how === 'made' && (certain as string[]).includes(s));
    expect(did.map(([s]) => s)).toEqual(made(plan));
    // Afterwards there is nothing to do.
    expect(made(await planRun(config))).toEqual([]);
  });
});

test('a training that was stopped is said to go on, and the missing pairs are counted', async () => {
  const world = done();
  const config = configOf(world, ['train.learningRate=0.0003', 'candidates.count=7'], withoutBudget);
  const first = await planRun(config);
  expect(whyOf(first, 'candidates')).toBe('candidates.count changed from 4 to 7');
  expect(first.find((p) => p.stage === 'teacher scores')).toMatchObject({
    status: 'made',
    why: expect.stringMatching(/^\d+ of 112 pairs missing$/),
    missing: { of: 112, unit: 'pairs' },
  });
  const stop = new AbortController();
  const run = distill(config, {
    signal: stop.signal,
    onProgress: (p) => p.unit === 'steps' && p.done === 2 && stop.abort(new Error('stopped')),
  });
  await expect(run).rejects.toThrow('stopped');
  const second = await planRun(config);
  expect(made(second)).toEqual(trained);
  expect(whyOf(second, 'training')).toBe('it goes on from step 2');
  expect(whyOf(second, 'teacher scores')).toBe('all 112 pairs are in the cache');
});

test('the command says it in lines or as data, and writes nothing', async () => {
  const world = await makeWorld();
  const before = snapshot(world);
  const argv = ['run', join(world, 'distill.yaml'), '--output', join(world, 'out'), '--dry-run'];
  const plain = await distillCommand([...argv, '--no-estimate']);
  expect(plain.split('\n').map((l) => l.split(/ {2,}/).slice(0, 2).join(': '))).toEqual([
    'data: to do',
    'candidates: to do',
    'teacher scores: to do',
    'training: to do',
    'checkpoint: to do',
    'evaluation: to do',
    '',
  ]);
  expect(plain).toMatch(/teacher scores +to do +64 of 64 pairs missing/);
  const data: StagePlan[] = JSON.parse(await distillCommand([...argv, '--json']));
  expect(data[0]).toEqual({ stage: 'data', status: 'made', why: 'not made yet' });
  expect(data.find((s) => s.stage === 'training')?.estimate?.seconds).toBeGreaterThan(0);
  expect(snapshot(world)).toEqual(before);
  expect(existsSync(join(world, 'cache'))).toBe(false);
});

async function distillCommand(argv: readonly string[]): Promise<string> {
  const { code, out, err } = await command(...argv);
  expect(code, err).toBe(0);
  return out;
}

test('what was never made is to do, not made again', () => {
  const rows: StagePlan[] = [
    { stage: 'data', status: 'made', why: 'not made yet' },
    { stage: 'embeddings', status: 'made', why: '9 of 9 texts missing', missing: { count: 9, of: 9, unit: 'texts' } },
    { stage: 'training', status: 'made', why: 'train.learningRate changed from 1 to 2' },
  ];
  expect(renderPlan(rows)).toBe(
    'data            to do       not made yet\nembeddings      to do       9 of 9 texts missing\ntraining        made again  train.learningRate changed from 1 to 2\n',
  );
});

test('a dry run refuses layers that do not exist, and a model without a tokenizer', async () => {
  const world = done();
  const config = configOf(world);
  const student = config.student as { model: string };
  await expect(
    planRun({ ...config, output: join(world, 'other'), student: { ...student, layers: [0, 7] } }),
  ).rejects.toThrow(/layer/);
  const bare = join(world, 'bare');
  cpSync(student.model, bare, { recursive: true });
  for (const name of ['tokenizer.json', 'vocab.txt']) rmSync(join(bare, name), { force: true });
  await expect(planRun({ ...config, output: join(world, 'other'), student: { model: bare } })).rejects.toThrow(
    /tokenizer/,
  );
});

test('layers counted from the last and the same ones counted from the first are one option', async () => {
  const world = done();
  const texts = ['open a file', 'scan a page'];
  const start = join(world, 'deep');
  const shape = { vocabulary: 100, hidden: 16, layers: 4, heads: 2, maxLength: 32 };
  await freshModel(start, { length: 2, text: (i) => texts[i] }, shape);
  const config = (last: readonly number[]) => ({
    ...configOf(world),
    output: join(world, 'cut'),
    student: {
      model: start,
      layers: [0, 2, last[0]],
      architecture: [{ kind: 'relu' as const, layers: [last[1]] }],
    },
    train: { ...configOf(world).train, freeze: ['embeddings' as const, last[2]] },
  });
  const [numbers, ends] = [
    [3, 2, 1],
    [-1, -1, -2],
  ];
  await distill(config(ends));
  const plan = await planRun(config(numbers));
  expect(made(plan)).toEqual([]);
  expect(whyOf(await planRun(config([3, 1, 1])), 'training')).toMatch(/student.architecture changed/);
  await expect(planRun(config([3, -4, 1]))).rejects.toThrow(
    /no layer -4: expected layers from 0 to 2, or from -3 .*student\.architecture/,
  );
  await expect(planRun(config([3, 2, -4]))).rejects.toThrow(/no layer -4: .*train\.freeze/);
});
