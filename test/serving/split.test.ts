/** @file A split cross-encoder: the verb, the folder that it writes, what it refuses, and the re-ranker. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { freshModel } from '../../models/new-model.ts';
import { splitVerdict } from '../../search/split/measure.ts';
import { makeSplit, type SplitReport } from '../../search/split/split.ts';
import { openReranker, openSplitReranker } from '../../serving/index.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { splitCrossEncoder } from '../../teachers/split/split-cross-encoder.ts';
import { distill, documents, makeWorld } from '../cli/world.ts';

let world: string;
let report: SplitReport;
const at = (name: string): string => join(world, name);
const common = () => ({ teacher: at('two'), data: at('data'), cache: at('cache'), below: 1, candidates: 6 });
const trained = { steps: 20, learningRate: 2e-3 };
const texts = documents.slice(0, 15).map((d) => d.text);

beforeAll(async () => {
  world = await makeWorld();
  vi.stubEnv('XDG_CACHE_HOME', join(world, 'cache-home'));
  const table = { length: 40, text: (i: number) => documents[i].text };
  const tiny = { hidden: 16, layers: 2, heads: 2, maxLength: 64, vocabulary: 200 };
  await freshModel(at('two'), table, { ...tiny, kind: 'cross-encoder', seed: 3 });
  report = await makeSplit({ ...common(), ...trained, output: at('split') });
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(world, { recursive: true, force: true });
});

describe('distill split', () => {
  test('training brings the logits nearer to the whole model, and its state is gone', async () => {
    const { measured } = report;
    expect(report).toMatchObject({ below: 1, layers: 2, pairs: 16 * 6, steps: 20 });
    expect(measured).toMatchObject({ queries: 4, pairs: 24 });
    expect(existsSync(at('split.training'))).toBe(false);
    const whole = await openReranker(at('two'));
    const before = await splitCrossEncoder(at('two'), 1);
    const after = await openSplitReranker(at('split'));
    const target = await whole.score('open file', texts);
    const distance = async (model: typeof after | typeof before): Promise<number> => {
      const found = await model.score('open file', await model.documents(texts));
      return found.reduce((sum, v, i) => sum + (v - target[i]) ** 2, 0);
    };
    expect(await distance(after)).toBeLessThan(0.7 * (await distance(before)));
    expect(after.key).not.toBe(before.key);
    for (const one of [whole, before, after]) await one.dispose();
  });

  test('prints the whole, the untrained and the trained model', async () => {
    const said = await distill(
      ...['split', at('two'), '--data', at('data'), '--below', '1', '--candidates', '6', '--steps', '1'],
      ...['--provider', 'cpu', '--output', at('printed')],
    );
    expect(said.err).not.toContain('error');
    expect(said.code).toBe(0);
    for (const part of ['tau to the whole', 'untrained', 'after layer 1 of 2', '1 steps on 96 pairs'])
      expect(said.out).toContain(part);
    expect(JSON.parse(readFileSync(at('printed/split.json'), 'utf8'))).toMatchObject({
      format: 'onnx-distill-split-1',
      below: 1,
      layers: 2,
      documentStart: 16,
      maxLength: 64,
    });
  });

  test('a training that was stopped goes on, and ends with the same bytes', async () => {
    const stop = new AbortController();
    const options = { ...common(), ...trained, evaluate: 'none', output: at('stopped') };
    const watch = {
      signal: stop.signal,
      onProgress: (p: { stage: string; done: number }) => p.stage === 'train split' && p.done === 9 && stop.abort(),
    };
    await expect(makeSplit(options, watch)).rejects.toThrow();
    cpSync(at('stopped.training'), at('other-lists.training'), { recursive: true });
    const notes: string[] = [];
    await makeSplit(options, { onProgress: (p) => p.note && notes.push(p.note) });
    expect(notes).toContain('resuming from step 9');
    for (const name of ['onnx/below.onnx', 'onnx/above.onnx'])
      expect(readFileSync(at(`stopped/${name}`)).equals(readFileSync(at(`split/${name}`))), name).toBe(true);
  });

  test('a training that was stopped is not gone on with for other lists', async () => {
    // The state is that of the test before: 16 queries.
    const notes: string[] = [];
    const stop = new AbortController();
    const options = { ...common(), ...trained, queries: 15, evaluate: 'none', output: at('other-lists') };
    const onProgress = (p: { stage: string; done: number; note?: string }): void => {
      if (p.note) notes.push(p.note);
      if (p.stage === 'train split' && p.done === 1) stop.abort();
    };
    await expect(makeSplit(options, { signal: stop.signal, onProgress })).rejects.toThrow();
    expect(notes.join()).toContain('belongs to another training (targets changed)');
  });

  test('layers, models and options that do not fit are refused', async () => {
    const run = (options: object) => makeSplit({ ...common(), output: at('none'), ...options });
    await expect(run({ below: 2 })).rejects.toThrow('a cut after layer 2 of 2: expected a whole number from 1 to 1');
    await expect(run({ seed: Number.NaN })).rejects.toThrow('--seed NaN: expected a whole number');
    await expect(run({ below: 0 })).rejects.toThrow('--below 0: expected a whole number above 0');
    await expect(run({ batchCandidates: 1 })).rejects.toThrow('--batch-candidates 1: expected at least 2');
    await expect(run({ learningRate: 2 })).rejects.toThrow('--learning-rate 2');
    await expect(run({ evaluate: 'train' })).rejects.toThrow('--evaluate train: expected another split');
    await expect(run({ documentStart: 63 })).rejects.toThrow('documents begin at position 63');
    await expect(run({ teacher: at('dual') })).rejects.toThrow('logits');
    await expect(run({ teacher: at('split') })).rejects.toThrow('holds a split cross-encoder');
    expect(existsSync(at('none'))).toBe(false);
  });
});

test('a training that made the model worse is said, one that did not is not', () => {
  const of = (ndcg: number, tau?: number) => ({ ndcg, milliseconds: 1, ...(tau !== undefined && { tau }) });
  expect(splitVerdict({ untrained: of(0.9, 0.8), trained: of(0.95, 0.7) })).toMatch(
    /^The training made the split model worse: nDCG@10 0\.9500, tau to the whole 0\.700; cut and not trained: .*0\.800/,
  );
  expect(splitVerdict({ untrained: of(0.9, 0.8), trained: of(0.8, 0.8) })).toBeUndefined();
  expect(splitVerdict({ untrained: of(0.9), trained: of(0.8) })).toContain('worse: nDCG@10 0.8000; cut');
});

test('a training that made the model worse is not what is written', async () => {
  // At such a rate nothing is left of the model.
  const ruined = await makeSplit({ ...common(), steps: 20, learningRate: 0.9, output: at('ruined') });
  expect(ruined.verdict).toContain('which is what was written');
  const models = [await splitCrossEncoder(at('two'), 1), await openSplitReranker(at('ruined'))];
  const [cut, made] = await Promise.all(
    models.map(async (m) => m.score('open file', await m.documents(texts.slice(0, 3)))),
  );
  for (const [i, logit] of cut.entries()) expect(made[i]).toBeCloseTo(logit, 4);
  for (const one of models) await one.dispose();
});

describe('a split cross-encoder in use', () => {
  test('stored states give the logits of fresh ones; other states are refused', async () => {
    const reranker = await openSplitReranker(at('split'));
    const states = await reranker.documents(texts);
    // As a program stores them.
    const kept = states.map(({ count, data }) => ({
      count,
      data: new Float32Array(Buffer.from(data.buffer.slice(0)).buffer),
    }));
    const [a, b] = [await reranker.score('open file', states), await reranker.score('open file', kept.slice(3, 5))];
    expect(a).toHaveLength(15);
    for (const i of [0, 1]) expect(b[i]).toBeCloseTo(a[3 + i], 4);
    await expect(reranker.score('open file', [{ count: 3, data: new Float32Array(16) }])).rejects.toThrow(
      'expected 16 numbers a token',
    );
    for (const wrong of [{ count: 1.5, data: new Float32Array(24) }, undefined, {}])
      await expect(reranker.score('open file', [states[0], wrong as never])).rejects.toMatchObject({
        code: 'split.states',
        message: expect.stringContaining('at place 1'),
      });
    await reranker.dispose();
  });

  test('no reader takes it for a whole cross-encoder', async () => {
    await expect(crossEncoder(at('split'))).rejects.toThrow('holds a split cross-encoder');
    await expect(openReranker(at('split'))).rejects.toThrow('open it with openSplitReranker');
    await expect(splitCrossEncoder(at('split'), 1)).rejects.toThrow('split cross-encoder');
    await expect(openSplitReranker(at('two'))).rejects.toThrow('split.json');
  });

  test('split.json of another form, and graphs that are missing or others, are refused', async () => {
    const text = readFileSync(at('split/split.json'), 'utf8');
    const copy = mkdtempSync(join(tmpdir(), 'split-'));
    cpSync(at('split'), copy, { recursive: true });
    const wrong: [string, string, string][] = [
      ['split-1"', 'split-9"', 'format'],
      ['"below": 1', '"below": 2', 'below: not less than layers'],
      ['"below": 1', '"below": 1, "more": 1', 'more'],
      ['"maxLength": 64', '"maxLength": 99', 'its graph reads 64'],
      ['{', '', 'not JSON'],
    ];
    for (const [from, to, why] of wrong) {
      expect(text).toContain(from);
      writeFileSync(join(copy, 'split.json'), text.replace(from, to));
      await expect(openSplitReranker(copy)).rejects.toThrow(why);
    }
    writeFileSync(join(copy, 'split.json'), text);
    writeFileSync(join(copy, 'onnx/above.onnx'), readFileSync(at('two/onnx/model.onnx')));
    await expect(openSplitReranker(copy)).rejects.toThrow('expected the input previous and the output logits');
    rmSync(join(copy, 'onnx/above.onnx'));
    await expect(openSplitReranker(copy)).rejects.toThrow('there is no file');
    rmSync(copy, { recursive: true });
  });
});
