/** @file A run of a sparse student from end to end: trained, saved, measured, resumed; and what it refuses. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { writeImpacts } from '../../checkpoints/write-impacts.ts';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { openDataset } from '../../data/open.ts';
import { readSafetensors } from '../../engine/io/safetensors.ts';
import { Encoder } from '../../models/encoder.ts';
import { openSparseFolder } from '../../models/sparse/sparse-folder.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

const options = (output: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, output),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { sparse: { columns: 128 }, model: world.dualEncoder, queryTokens: 12, documentTokens: 40 },
  candidates: { source: 'bm25', count: 4 },
  train: {
    steps: 4,
    batchSize: 8,
    candidates: 2,
    learningRate: 1e-3,
    warmupSteps: 1,
    evaluateEvery: 2,
    threads: 1,
    provider: 'cpu',
  },
  evaluate: { teacher: true },
  ...more,
});

/** A token of a folder's vocabulary by its id. */
const tokenIn = (folder: string, id: number): string => {
  const { model } = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
  return Object.keys(model.vocab).find((token) => model.vocab[token] === id) as string;
};

describe('a run of a sparse student', () => {
  test('it trains and is measured from its folder, a second run uses it, and the same seed gives the same bytes', async () => {
    const [report, again] = [await distill(options('run')), await distill(options('again'))];
    expect(report.training).toMatchObject({ steps: 4, skipped: 0 });
    expect(report.systems.map((s) => s.name)).toEqual(['BM25', 'student', 'teacher']);
    const bytes = (folder: string) => readFileSync(join(folder, 'onnx/model.onnx'));
    expect(bytes(again.checkpoint).equals(bytes(report.checkpoint))).toBe(true);
    const written = JSON.parse(readFileSync(report.report, 'utf8'));
    expect(written.sparse.postingsADocument).toBeGreaterThan(1);
    const best = written.evaluations.find((e: { step: number }) => e.step === report.training.bestStep);
    expect(report.before.values.student).toBeCloseTo(best.score, 6);
    expect(parseConfig(options('run')).losses.map((l) => l.kind)).toEqual(['info-nce', 'kl', 'flops']);
    expect((await planRun(options('run'))).filter((s) => s.status !== 'reused')).toEqual([]);
    const { stages } = await distill(options('run'));
    expect(Object.values(stages).filter((s) => s !== 'reused')).toEqual([]);
  });

  test('learned query weights start at the inverse document frequencies, move, and are saved', async () => {
    const sparse = { query: 'learned' as const, columns: 128 };
    const own = { sparse, model: world.dualEncoder, queryTokens: 12, documentTokens: 40 };
    const learned = await distill(
      options('learned', { student: own, train: { ...options('').train, evaluateEvery: null } }),
    );
    const weightOf = async (folder: string) =>
      (await readSafetensors(join(folder, 'query_0_SparseStaticEmbedding/model.safetensors'))).get('weight')
        ?.data as Float32Array;
    const [fixed, moved] = [await weightOf(join(world.folder, 'run/checkpoint')), await weightOf(learned.checkpoint)];
    const differing = Array.from(moved.keys()).filter((t) => moved[t] !== fixed[t]);
    expect(differing.length).toBeGreaterThan(5);
    for (const t of differing) expect(Math.abs(moved[t] - fixed[t])).toBeLessThan(0.1);
  });

  test('it is evaluated from its folder, alone, with impacts of one byte, and together with a dense student', async () => {
    const { checkpoint, systems } = await distill(options('run'));
    const json = join(world.folder, 'figures.json');
    const report = await evaluate({
      student: checkpoint,
      data: world.data,
      with: world.dualEncoder,
      json,
      samples: 50,
    });
    expect(report.systems.map((s) => s.name)).toEqual([
      'student',
      'student, impacts of one byte',
      'BM25',
      'dense student',
      'both',
    ]);
    const metric = (name: string) => report.systems.find((s) => s.name === name)?.metrics['ndcg@10'] as number;
    expect(metric('student')).toBeCloseTo(systems.find((s) => s.name === 'student')?.metrics['ndcg@10'] as number, 6);
    expect(Math.abs(metric('student, impacts of one byte') - metric('student'))).toBeLessThan(0.05);
    expect(report.notes.join(' ')).toContain('postings a document');
    expect(report.notes.join(' ')).toContain('the weight chosen on 10 dev queries');
    expect(JSON.parse(readFileSync(json, 'utf8')).sparse.postingsADocument).toBeGreaterThan(1);
    const int8 = await evaluate({ student: checkpoint, data: world.data, dtype: 'int8', samples: 50 });
    expect(Math.abs(int8.systems[0].metrics['ndcg@10'] - metric('student'))).toBeLessThan(0.05);
    await expect(evaluate({ student: checkpoint, data: world.data, dtype: 'q4' })).rejects.toThrow(
      `--dtype of the sparse student ${checkpoint}: expected fp32 or int8, received q4`,
    );
    await expect(evaluate({ student: world.dualEncoder, data: world.data, with: checkpoint })).rejects.toThrow(
      '--with adds a dense student to a sparse one',
    );
  });

  test('its impact files hold the weights as whole numbers', async () => {
    const { checkpoint } = await distill(options('run'));
    const output = join(world.folder, 'impacts');
    const report = await writeImpacts({ student: checkpoint, data: world.data, output });
    expect(report).toMatchObject({ documents: 120, queries: 20 });
    const lines = readFileSync(join(output, 'documents.jsonl'), 'utf8').trimEnd().split('\n');
    const all = lines.map((line) => JSON.parse(line) as { id: string; vector: Record<string, number> });
    expect(all.map((d) => d.id).slice(0, 2)).toEqual(['d0', 'd1']);
    expect(all.reduce((n, d) => n + Object.keys(d.vector).length, 0)).toBe(report.postings);
    const { encoder, documentTokens, queryTokens } = await openSparseFolder(checkpoint);
    const data = await openDataset(world.data, {});
    const { offsets, ids, weights } = await encoder.documents(data.documents, { maxLength: documentTokens });
    for (const d of [0, 57, 119]) {
      const own = Array.from({ length: offsets[d + 1] - offsets[d] }, (_, i) => offsets[d] + i);
      const whole = own.map((i) => Math.round(weights[i] * 100)).filter((n) => n > 0);
      expect(Object.values(all[d].vector)).toEqual(whole);
      for (const i of own.filter((at) => Math.round(weights[at] * 100) > 0).slice(0, 3))
        expect(all[d].vector).toHaveProperty([tokenIn(checkpoint, ids[i])]);
    }
    const [id, topic] = readFileSync(join(output, 'queries.tsv'), 'utf8').split('\n')[0].split('\t');
    const asked = encoder.query(data.queries.text(data.queries.indexOf(id) as number), queryTokens);
    expect(topic.split(' ').length).toBe(asked.weights.reduce((n, w) => n + Math.round(w * 10), 0));
    const idf = JSON.parse(readFileSync(join(output, 'idf.json'), 'utf8'));
    expect(idf[tokenIn(checkpoint, asked.ids[0])]).toBeCloseTo(asked.weights[0], 5);
    await encoder.dispose();
    await expect(writeImpacts({ student: checkpoint, data: world.data, output, factor: 0 })).rejects.toThrow(
      'the factor of impacts: expected a number above 0, received 0',
    );
  });

  test('what reads dense students refuses the folder', async () => {
    const { checkpoint } = await distill(options('run'));
    await expect(Encoder.load(checkpoint)).rejects.toThrow(/Router/);
  });

  test('a folder without its query weights, and one that is no sparse student, are refused', async () => {
    const { checkpoint } = await distill(options('again'));
    const file = join(checkpoint, 'query_0_SparseStaticEmbedding/model.safetensors');
    expect(existsSync(file)).toBe(true);
    rmSync(file);
    await expect(openSparseFolder(checkpoint)).rejects.toThrow(
      'has no query_0_SparseStaticEmbedding/model.safetensors',
    );
    await expect(openSparseFolder(world.dualEncoder)).rejects.toThrow(
      'has no sparse.json: expected a sparse student as distill run saves it; train one with student: { sparse: {} }',
    );
  });

  test.each([
    [{ matryoshka: { dimensions: [8, 16] } }, "'matryoshka' is not available for a sparse student"],
    [
      { losses: [{ kind: 'similarity-preserving' }] },
      "'losses: similarity-preserving' is not available for a sparse student",
    ],
    [{ candidates: { source: 'student' } }, "'candidates' is not available for a sparse student"],
    [{ train: { dropout: 0.1 } }, "'train.dropout' is not available for a sparse student"],
    [{ hybrid: {} }, "'hybrid' is not available for a sparse student"],
    [
      { student: { model: 'm' }, losses: [{ kind: 'flops' }] },
      "the loss 'flops' makes vectors sparse and the student's vectors are dense",
    ],
    [{ student: { sparse: {} } }, "'student.model' is missing"],
  ])('%o is refused', (more, message) => {
    expect(() => parseConfig(options('refused', more as Partial<ConfigInput>))).toThrow(message);
  });

  test('the kind alone names it too', () => {
    const student = { kind: 'sparse', model: 'm' } as ConfigInput['student'];
    expect(parseConfig(options('kind', { student })).student).toMatchObject({
      kind: 'sparse',
      sparse: { query: 'idf' },
    });
  });
});
