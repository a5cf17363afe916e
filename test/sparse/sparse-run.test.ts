/** @file A run of a sparse student from end to end: trained, saved, measured, resumed; and what it refuses. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { readSafetensors } from '../../engine/io/safetensors.ts';
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
