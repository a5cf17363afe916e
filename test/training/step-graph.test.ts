import { describe, expect, test } from 'vitest';
import { Random } from '../../common/random.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { bertGraph } from '../../students/bert.ts';
import { AdamW } from '../../training/adamw.ts';
import type { TokenBatch } from '../../training/pack.ts';
import { type StepBatch, StepGraph, type StepGraphOptions } from '../../training/step-graph.ts';

const tiny = { vocabularySize: 300, hidden: 16, layers: 2, heads: 2, intermediate: 32, maxLength: 24 };

const make = (options: Partial<StepGraphOptions> = {}): Promise<StepGraph> =>
  StepGraph.create({
    encoder: bertGraph(tiny, Random.of(3, 'weights')),
    pooling: 'mean',
    normalize: true,
    losses: [{ loss: infoNCE(), weight: 1 }],
    session: { threads: 1 },
    ...options,
  });

/** Texts of uneven length; the last document is the first again. */
function batchOf(n: number, seed = 0): StepBatch {
  const random = Random.of(seed, 'batch');
  const half = (longest: number): TokenBatch => {
    const b = { rows: n, length: longest, ids: new BigInt64Array(n * longest), mask: new BigInt64Array(n * longest) };
    for (let r = 0; r < n; r++)
      for (let i = 0; i < 2 + random.integer(longest - 1); i++) {
        b.ids[r * longest + i] = BigInt(5 + random.integer(290));
        b.mask[r * longest + i] = 1n;
      }
    return { ...b, typeIds: new BigInt64Array(n * longest) };
  };
  const [queries, documents] = [half(6), half(17)];
  for (const a of [documents.ids, documents.mask]) a.copyWithin((n - 1) * 17, 0, 17);
  const square = (at: (i: number) => number) =>
    ({ dtype: 'float32', dims: [n, n], data: Float32Array.from({ length: n * n }, (_, i) => at(i)) }) as const;
  return {
    queries,
    documents: [documents],
    candidates: { dtype: 'int64', dims: [n, 1], data: BigInt64Array.from({ length: n }, (_, i) => BigInt(i)) },
    arrays: { positives: square((i) => Number(Math.floor(i / n) === i % n)), inBatch: square(() => 1) },
    weights: { dtype: 'float32', dims: [n], data: Float32Array.from({ length: n }, (_, i) => 1 + i / n) },
  };
}

/** Gradients with rows added into their tables, by name. */
function gradientsOf(graph: StepGraph): Map<string, Float32Array> {
  return new Map(
    graph.parameters.map((p) => {
      const whole = p.gradient?.slice() ?? new Float32Array(p.data.length);
      const width = p.dims[1];
      for (const { indices, rows } of p.rows ?? [])
        for (const [i, index] of indices.entries())
          for (let k = 0; k < width; k++) whole[Number(index) * width + k] += rows[i * width + k];
      return [p.name, whole];
    }),
  );
}

function expectEqual(a: ReadonlyMap<string, Float32Array>, b: ReadonlyMap<string, Float32Array>, tolerance: number) {
  const norm = (values: Iterable<number>): number => Math.sqrt([...values].reduce((n, v) => n + v * v, 0));
  const whole = norm([...b.values()].flatMap((v) => [...v]));
  expect([...a.keys()]).toEqual([...b.keys()]);
  for (const [name, own] of a) {
    const other = b.get(name) as Float32Array;
    expect(norm(own.map((v, i) => v - other[i])) / whole, name).toBeLessThan(tolerance);
  }
}

describe('a step gives the same loss and gradients', () => {
  const ways: Record<string, Partial<StepGraphOptions>> = {
    'in three groups': { groups: 3 },
    'in more groups than texts': { groups: 9 },
    'by GradCache, a text at a time': { gradCacheChunk: 1 },
    'by GradCache, five texts at a time': { gradCacheChunk: 5 },
    'by GradCache, all at once': { gradCacheChunk: 64 },
  };
  test.each(Object.entries(ways))('%s', async (_, options) => {
    const batch = batchOf(6);
    const [plain, other] = [await make({ groups: 1 }), await make(options)];
    const expected = await plain.run(batch);
    const result = await other.run(batch);
    expect(result.loss).toBeCloseTo(expected.loss, 5);
    expectEqual(gradientsOf(other), gradientsOf(plain), 1e-6);
    await Promise.all([plain.release(), other.release()]);
  });

  test('with dropout, whether whole or by GradCache, and again from the same seed and step', async () => {
    const batch = batchOf(6);
    // One group is one chunk, so that the masks meet the same texts.
    const [whole, cached] = [await make({ dropout: 0.3, groups: 1 }), await make({ dropout: 0.3, gradCacheChunk: 64 })];
    const first = await whole.run(batch, 4);
    const gradients = gradientsOf(whole);
    expect((await whole.run(batch, 5)).loss).not.toBe(first.loss);
    expect((await whole.run(batch, 4)).loss).toBe(first.loss);
    expectEqual(gradientsOf(whole), gradients, 1e-12);
    expect((await cached.run(batch, 4)).loss).toBeCloseTo(first.loss, 5);
    expectEqual(gradientsOf(cached), gradients, 1e-6);
    await Promise.all([whole.release(), cached.release()]);
  });
});

test('training twice gives the same weights to the bit', async () => {
  const run = async (): Promise<Float32Array[]> => {
    const graph = await make({ dropout: 0.1 });
    const optimizer = new AdamW(graph.parameters, { clipNorm: 1 });
    for (let step = 0; step < 4; step++) {
      await graph.run(batchOf(5, step), step);
      optimizer.step(1e-2);
    }
    await graph.release();
    return graph.parameters.map((p) => p.data);
  };
  expect(await run()).toEqual(await run());
});
