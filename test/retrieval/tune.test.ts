/** @file Settings found by a measured search: they meet what is asked for on queries that were not used, by recalls that are true. */
import { describe, expect, test } from 'vitest';
import { InputError } from '../../common/errors.ts';
import { Random } from '../../math/random.ts';
import { search } from '../../retrieval/exact-search.ts';
import { armsFor } from '../../retrieval/tuning/arms.ts';
import { exactOf, TuningBench } from '../../retrieval/tuning/bench.ts';
import { tuneIndex } from '../../retrieval/tuning/tune.ts';
import type { IndexSettings } from '../../retrieval/vector-index.ts';

const random = Random.of(7, 'tune');
const dimensions = 64;
/** Unit vectors about 60 centres: near ones and far ones, as embeddings have. */
const centres = Array.from({ length: 60 }, () => Array.from({ length: dimensions }, () => random.normal()));
const unit = (n: number): Float32Array => {
  const out = new Float32Array(n * dimensions);
  for (let i = 0; i < n; i++) {
    const centre = centres[random.integer(centres.length)];
    const row = centre.map((c) => c + 0.8 * random.normal());
    const norm = Math.hypot(...row);
    for (let k = 0; k < dimensions; k++) out[i * dimensions + k] = row[k] / norm;
  }
  return out;
};
const documents = { data: unit(3000), dimensions };
const queries = unit(200);
const binary = (count: number): IndexSettings => ({ codec: 'binary', rescore: { codec: 'int8', count } });

describe('measured', () => {
  test('the recall is what a plain count of the exact nearest gives', async () => {
    const truth = await exactOf(queries, documents, 10);
    const bench = new TuningBench(documents, 0);
    const rows = [3, 50, 120, 199];
    const exact = await search(queries, documents.data, dimensions, 10);
    expect((await bench.measure({ codec: 'float32' }, queries, truth, rows)).recall).toBe(1);
    const signs = await bench.measure({ codec: 'binary' }, queries, truth, rows);
    const { part } = await bench.prepare({ codec: 'binary' });
    let found = 0;
    for (const r of rows) {
      const score = (i: number): number => {
        let s = 0;
        for (let k = 0; k < dimensions; k++)
          s += queries[r * dimensions + k] * ((part.codes[i * 8 + (k >> 3)] >> (k & 7)) & 1 ? 1 : -1);
        return s;
      };
      const own = Array.from({ length: 3000 }, (_, i) => i)
        .sort((a, b) => score(b) - score(a))
        .slice(0, 10);
      const near = exact.indices.subarray(r * 10, r * 10 + 10);
      found += own.filter((i) => near.includes(i)).length;
    }
    expect(signs.recall).toBeCloseTo(found / 40, 5);
    expect(signs.recall).toBeLessThan(0.9);
  });
  test('documents that are the same count as each other', async () => {
    const twice = {
      dimensions,
      data: Float32Array.from({ length: 40 * dimensions }, (_, i) => documents.data[i % (20 * dimensions)]),
    };
    const truth = await exactOf(queries, twice, 1);
    const point = await new TuningBench(twice, 0).measure({ codec: 'float16' }, queries, truth, [0, 1, 2, 3, 4, 5]);
    expect(point.recall).toBe(1);
  });
});

describe('tuned', () => {
  const arms: { name: string; ladder: IndexSettings[] }[] = [
    { name: 'binary', ladder: [10, 20, 40, 80, 160, 320, 640].map(binary) },
    {
      name: 'cells',
      ladder: [1, 2, 4, 8, 16].map((probes) => ({ codec: 'int8', cells: { count: 16, probes } })),
    },
    { name: 'float32', ladder: [{ codec: 'float32' }] },
  ];
  test('for a recall: the first of a ladder that meets it, on the queries held out too', async () => {
    const found = await tuneIndex(documents, queries, { recall: 0.9 }, { arms: arms.slice(0, 1) });
    expect(found).toMatchObject({ k: 10, documents: 3000, tuning: { queries: 100 }, heldOut: { queries: 100 } });
    expect(found.tuning.recall - found.tuning.error).toBeGreaterThanOrEqual(0.9);
    expect(found.heldOut.recall).toBeGreaterThan(0.88);
    const counts = arms[0].ladder.map((s) => s.rescore?.count);
    const at = counts.indexOf(found.settings.rescore?.count);
    expect(at).toBeGreaterThan(0);
    // One step less does not meet it: recall rises along the curve.
    const recalls = found.curve.map((p) => p.recall);
    expect(recalls).toEqual([...recalls].sort((a, b) => a - b));
    expect(found.curve[at - 1].recall).toBeLessThan(0.92);
    expect(found.defaults.recall).toBeGreaterThan(0.98);
  });
  test('of all arms one is left, and each has its best point', async () => {
    const found = await tuneIndex(documents, queries, { recall: 0.95 }, { arms });
    expect(found.tuning.recall).toBeGreaterThanOrEqual(0.95);
    expect(found.tried.map((t) => t.name).sort()).toEqual(['binary', 'cells', 'float32']);
    expect(found.exactMs).toBeGreaterThan(0);
  });
  test('where what was kept meets the recall on few queries alone, the best of the others is taken', async () => {
    const rough = { name: 'rough', ladder: [binary(20)] };
    const exact = { name: 'exact', ladder: [binary(3000)] };
    const { tuning } = await tuneIndex(documents, queries, { recall: 0.1 }, { arms: [rough] });
    const recall = tuning.recall - tuning.error / 2;
    const found = await tuneIndex(documents, queries, { recall }, { arms: [rough, exact] });
    expect(found.settings.rescore?.count).toBe(3000);
    await expect(tuneIndex(documents, queries, { recall }, { arms: [rough] })).rejects.toThrow(
      'no settings that were tried reach a recall of',
    );
  });
  test('for a time: the best recall within it', async () => {
    const found = await tuneIndex(documents, queries, { ms: 1000 }, { arms });
    expect(found.tuning.recall).toBe(1);
    expect(found.tuning.ms).toBeLessThan(1000);
    await expect(tuneIndex(documents, queries, { ms: 1e-6 }, { arms })).rejects.toThrow(
      'no settings answer a query within 0.000001 ms on this machine; allow more time',
    );
  });
  test('the default arms rise from rough to exact and end exact', () => {
    for (const [n, d] of [
      [3000, 64],
      [30_000, 384],
      [1_000_000, 384],
    ])
      for (const { name, ladder } of armsFor(n, d, 10)) {
        const knob = ladder.map((s) => s.cells?.probes ?? s.rescore?.count ?? 0);
        expect([name, knob]).toEqual([name, [...new Set(knob)].sort((a, b) => a - b)]);
      }
    expect(armsFor(1_000_000, 384, 10).map((a) => a.name)).toEqual([
      'int8',
      'float32',
      'binary, re-scored in int8',
      'first 96 dimensions in int8, re-scored in int8',
      'first 192 dimensions in int8, re-scored in int8',
      '1024 cells, int8',
      '1024 cells, binary, re-scored in int8',
    ]);
  });
});

describe('refusals', () => {
  test.each([
    [{ recall: 1 }, 'a recall of 1: expected a number above 0 and below 1; give for instance 0.95'],
    [{ recall: Number.NaN }, 'a recall of NaN'],
    [{ ms: 0 }, '0 ms a query: expected a number above 0'],
  ])('%o', async (goal, message) => {
    const refused = tuneIndex(documents, queries, goal);
    await expect(refused).rejects.toThrow(InputError);
    await expect(refused).rejects.toThrow(message);
  });
  test('too few queries', async () => {
    await expect(tuneIndex(documents, queries.subarray(0, 39 * dimensions), { recall: 0.9 })).rejects.toThrow(
      '39 queries to find settings with: expected at least 40, half of which are held out',
    );
  });
});
