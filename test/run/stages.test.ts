/** @file The mechanism of stages: load, make or record; the same walk without making; reasons; runs inside a run; types. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { pickOptions, recordedOptions } from '../../config/options.ts';
import { parseConfig } from '../../config/parse.ts';
import { ArtifactStore } from '../../run/stages/artifact-store.ts';
import { keepArrays } from '../../run/stages/keep-arrays.ts';
import { RunLog, type StagePlan } from '../../run/stages/run-log.ts';
import { StageRunner } from '../../run/stages/runner.ts';
import { defineStage, given, type Result } from '../../run/stages/stage.ts';

interface Told {
  steps?: number;
  seed?: number;
  content?: string;
  saveEvery?: number;
}

const made: string[] = [];
/** A vector of the seed, and its product with the steps. */
const vector = defineStage({
  name: 'vector',
  options: ['seed'],
  make({ seed }, { base }: { base: number }): Float32Array {
    made.push('vector');
    return Float32Array.of(seed + base);
  },
  keep: keepArrays<Float32Array>(
    'vector',
    (data) => ({ data }),
    ({ data }) => data as Float32Array,
  ),
});
const product = defineStage({
  name: 'product',
  options: ['train.steps'],
  unrecorded: ['train.saveEvery'],
  make(options, inputs: { vector: Float32Array; factor?: number }): Float32Array {
    made.push('product');
    expect(options).toEqual({ train: { steps: options.train.steps, saveEvery: options.train.saveEvery } });
    return inputs.vector.map((v) => v * (options.train.steps ?? 1) * (inputs.factor ?? 1));
  },
  keep: keepArrays<Float32Array>(
    'product',
    (data) => ({ data }),
    ({ data }) => data as Float32Array,
  ),
});
const doubled = defineStage({
  name: 'doubled',
  options: [],
  make: (_, { product }: { product: Float32Array }) => {
    made.push('doubled');
    return product.map((v) => 2 * v);
  },
});

async function runner(folder: string, { steps = 2, seed = 0, saveEvery = 100 }: Told = {}, dry = false) {
  const config = parseConfig({
    data: { path: 'd' },
    student: { model: 's' },
    losses: [{ kind: 'info-nce' }],
    seed,
    train: { steps, saveEvery },
  });
  const log = new RunLog({});
  const store = await ArtifactStore.open(folder);
  return { run: new StageRunner({ config, folder, store, watch: {}, log, dry, cache: undefined }), log };
}

/** The pipeline of this test: three stages, the last one kept nowhere. */
async function walk(
  folder: string,
  told: Told = {},
  dry = false,
): Promise<{ stages: StagePlan[]; result: Result<Float32Array> }> {
  const { run, log } = await runner(folder, told, dry);
  const base = given(1, { 'the base': told.content ?? 'a' });
  const first = await run.stage(vector, { base });
  const second = await run.stage(product, { vector: first });
  return { stages: log.stages, result: await run.stage(doubled, { product: second }) };
}

const folder = (): string => mkdtempSync(join(tmpdir(), 'stages-'));
const plan = async (at: string, told: Told = {}) =>
  (await walk(at, told, true)).stages.map((s) => [s.stage, s.status, s.why]);
/** Stages that a run makes, and what it ends with. */
async function ran(at: string, told: Told = {}): Promise<[string[], number[]]> {
  made.length = 0;
  const { result } = await walk(at, told);
  const kept = [...made];
  return [kept, Array.from(await result.value())];
}

test('a stage is made once, loaded while nothing it depends on changes, and made again with what depends on it', async () => {
  const at = folder();
  expect(await plan(at)).toEqual([
    ['vector', 'made', 'not made yet'],
    ['product', 'made', 'not made yet'],
  ]);
  expect(readdirSync(at)).toEqual([]);
  expect(await ran(at)).toEqual([['vector', 'product'], [4]]);
  expect(await ran(at)).toEqual([[], [4]]);
  // The plan gives the reasons of the run.
  const told = { steps: 3 };
  expect((await plan(at, told))[1]).toEqual(['product', 'made', 'train.steps changed from 2 to 3']);
  expect(await ran(at, told)).toEqual([['product'], [6]]);
  expect((await walk(at, { ...told, seed: 4 })).stages.map((s) => s.why)).toEqual([
    'seed changed from 0 to 4',
    'seed changed from 0 to 4',
  ]);
  expect((await plan(at, { ...told, seed: 4, content: 'b' })).map((p) => p[2])).toEqual(
    Array(2).fill('the base changed'),
  );
  // What is read and not recorded makes nothing again.
  expect(await ran(at, { ...told, seed: 4, saveEvery: 1 })).toEqual([[], [30]]);
});

test('files that are missing or changed are made again, and what follows from them is as it was', async () => {
  const at = folder();
  await ran(at);
  const file = join(at, 'stages', 'vector.safetensors');
  writeFileSync(file, 'torn');
  expect((await plan(at)).map((p) => p[2])).toEqual([
    'the bytes of stages/vector.safetensors changed',
    'nothing it depends on has changed',
  ]);
  expect(await ran(at)).toEqual([['vector'], [4]]);
  rmSync(file);
  expect((await plan(at))[0][2]).toBe('stages/vector.safetensors is missing');
  writeFileSync(join(at, 'stages.json'), '{ torn');
  expect(await ran(at)).toEqual([['vector', 'product'], [4]]);
});

test('a dry run knows what was made before and refuses to give what would be made', async () => {
  const at = folder();
  const { run } = await runner(at, {}, true);
  const first = await run.stage(vector, { base: given(1) });
  expect(first.known).toBe(false);
  await expect((async () => first.value())()).rejects.toThrow('a dry run does not make this');
  await ran(at);
  const { run: after } = await runner(at, {}, true);
  const again = await after.stage(vector, { base: given(1, { 'the base': 'a' }) });
  expect(Array.from(await again.value())).toEqual([1]);
});

test('content counts in a run and is not compared where a dry run cannot know it', async () => {
  const at = folder();
  const counted = defineStage({
    name: 'counted',
    options: [],
    content: { parts: ['the values'], of: ({ values }: { values: Float32Array }) => ({ 'the values': values.join() }) },
    make: (_, { values }: { values: Float32Array }) => values.length,
    keep: { alone: true, save: async () => [], load: async () => 0 },
  });
  const why = async (dry: boolean, values: Result<Float32Array>) => {
    const { run, log } = await runner(at, {}, dry);
    await run.stage(counted, { values });
    return log.stages[0];
  };
  expect(await why(false, given(Float32Array.of(1)))).toMatchObject({ status: 'made', why: 'not made yet' });
  expect(await why(false, given(Float32Array.of(1)))).toMatchObject({ status: 'reused' });
  const unknown: Result<Float32Array> = { fingerprint: {}, known: false, value: () => Promise.reject(new Error()) };
  expect(await why(true, unknown)).toMatchObject({ status: 'reused' });
  expect(await why(true, given(Float32Array.of(2)))).toMatchObject({ status: 'made', why: 'the values changed' });
});

test('a nested run keeps its artefacts and reports its stages under its name', async () => {
  const at = folder();
  const both = async () => {
    const { run, log } = await runner(at);
    await run.stage(vector, { base: given(1) });
    const own = new RunLog({});
    const inner = run.inside('inner', await ArtifactStore.open(join(at, 'inner')), own, {});
    const result = await inner.stage(vector, { base: given(5, { 'the base': 'inner' }) });
    own.warn('code', 'text');
    log.include('inner', own);
    return { log, result: Array.from(await result.value()) };
  };
  const { log, result } = await both();
  expect(result).toEqual([5]);
  expect(log.stages.map((s) => s.stage)).toEqual(['vector', 'inner/vector']);
  expect([...log.warnings]).toEqual([['code', 'text']]);
  expect(readdirSync(join(at, 'inner')).sort()).toEqual(['stages', 'stages.json']);
  made.length = 0;
  await both();
  expect(made).toEqual([]);
});

test('a stage gets the options it declares and no others', () => {
  const config = parseConfig({ data: { path: 'd' }, student: { model: 's' }, losses: [{ kind: 'info-nce' }] });
  const picked = pickOptions(config, ['train.steps', 'seed', 'student.towers', 'generate.kind']);
  expect(picked).toEqual({ train: {}, seed: 0, student: { towers: 'both' }, generate: undefined });
  expect(recordedOptions(config, ['weighting', 'seed'], ['weighting.renew'])).toEqual({
    'weighting.kind': '"uniform"',
    'weighting.second': '"bm25"',
    seed: '0',
  });
  defineStage({
    name: 'typed',
    options: ['train.steps', 'weighting'],
    unrecorded: ['data.path'],
    make(options, { n }: { n: number }) {
      // Each of these must not compile: the option is not declared.
      // @ts-expect-error
      void options.train.epochs;
      // @ts-expect-error
      void options.data.maxQueries;
      // @ts-expect-error
      void options.seed;
      const kind: string = options.weighting.kind;
      return `${kind} ${options.train.steps} ${options.data.path} ${n}`;
    },
  });
  // @ts-expect-error an option that there is not
  defineStage({ name: 'unknown', options: ['train.stepz'], make: () => 0 });
});

test('an input of another type, or none, does not compile', async () => {
  const { run } = await runner(folder(), {}, true);
  // @ts-expect-error
  const wrong = () => run.stage(product, { vector: given('text') });
  // @ts-expect-error
  const missing = () => run.stage(product, {});
  const optional = await run.stage(product, { vector: given(Float32Array.of(1)), factor: undefined });
  expect([typeof wrong, typeof missing, optional.known]).toEqual(['function', 'function', false]);
});
