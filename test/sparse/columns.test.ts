/** @file The columns that a sparse step computes, and the inverted index over token ids. */
import { describe, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { ImpactIndex } from '../../retrieval/sparse/impact-index.ts';
import type { TokenBatch } from '../../training/batches/length-groups.ts';
import { drawColumns } from '../../training/sparse/columns.ts';
import { rampAt } from '../../training/sparse/sparse-step.ts';

const batch = (rows: number[][]): TokenBatch => {
  const length = Math.max(...rows.map((r) => r.length));
  const flat = (at: (row: number[], i: number) => number) =>
    BigInt64Array.from(
      rows.flatMap((row) => Array.from({ length }, (_, i) => at(row, i))),
      BigInt,
    );
  return {
    rows: rows.length,
    length,
    ids: flat((row, i) => row[i] ?? 0),
    mask: flat((row, i) => Number(i < row.length)),
    typeIds: flat(() => 0),
  };
};

describe('columns of a step', () => {
  const queries = batch([
    [7, 9],
    [9, 11, 7],
  ]);
  const documents = [batch([[1, 2, 3, 4, 5, 6, 7]]), batch([[20, 21, 22, 23, 24, 25, 26, 27, 28, 29]])];
  const draw = (wanted: number, step = 0, vocabulary = 1000) =>
    drawColumns(queries, documents, { vocabulary, wanted, seed: 1, step });

  test('every token of the queries comes first, none is drawn twice, and padding is none of them', () => {
    const { ids, counts, asked } = draw(16) as NonNullable<ReturnType<typeof draw>>;
    expect(Array.from(ids.subarray(0, asked))).toEqual([7, 9, 11]);
    expect(new Set(ids).size).toBe(16);
    expect(Array.from(counts.subarray(0, asked))).toEqual([1, 1, 1]);
  });

  test('the columns stand for the whole vocabulary, and a sum over it is estimated without bias', () => {
    const value = Float64Array.from({ length: 1000 }, (_, t) => (t < 30 ? 5 : 1) + Math.sin(t));
    const whole = value.reduce((a, b) => a + b, 0);
    let mean = 0;
    for (let step = 0; step < 400; step++) {
      const { ids, counts } = draw(64, step) as NonNullable<ReturnType<typeof draw>>;
      expect(counts.reduce((a, b) => a + b, 0)).toBeCloseTo(1000, 3);
      mean += ids.reduce((s, t, c) => s + counts[c] * value[t], 0) / 400;
    }
    expect(Math.abs(mean / whole - 1)).toBeLessThan(0.01);
  });

  test('a vocabulary that fits is taken whole; too few columns for the queries are refused; a step draws the same again', () => {
    const all = draw(64, 0, 40) as NonNullable<ReturnType<typeof draw>>;
    expect(Array.from(all.ids).sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, t) => t));
    expect(Array.from(all.counts)).toEqual(Array(40).fill(1));
    expect(draw(3)).toBeUndefined();
    expect(draw(32, 5)).toEqual(draw(32, 5));
    expect(draw(32, 5)?.ids).not.toEqual(draw(32, 6)?.ids);
  });

  test('a ramp grows quadratically over its share of the steps and stays', () => {
    expect(rampAt(0, 0.5, 20)).toBeCloseTo(0.01, 12);
    expect(rampAt(4, 0.5, 20)).toBeCloseTo(0.25, 12);
    expect([9, 15].map((step) => rampAt(step, 0.5, 20))).toEqual([1, 1]);
    expect(rampAt(0, undefined, 20)).toBe(1);
  });
});

describe('an index of impacts', () => {
  const random = Random.of(4, 'rows');
  const [n, V] = [200, 50];
  const dense = Array.from({ length: n }, () =>
    Float32Array.from({ length: V }, () => (random.uniform() < 0.2 ? 3 * random.uniform() : 0)),
  );
  const rows = {
    offsets: new Float64Array(n + 1),
    ids: new Int32Array(0),
    weights: new Float32Array(0),
  };
  const found = dense.map((row) => Array.from(row.keys()).filter((t) => row[t] > 0));
  for (const [d, ids] of found.entries()) rows.offsets[d + 1] = rows.offsets[d] + ids.length;
  rows.ids = Int32Array.from(found.flat());
  rows.weights = Float32Array.from(found.flatMap((ids, d) => ids.map((t) => dense[d][t])));
  const query = { ids: Int32Array.of(3, 17, 40, 49), weights: Float32Array.of(2, 0.5, -1, 4) };
  const scoreOf = (d: number): number => query.ids.reduce((s, t, i) => s + query.weights[i] * dense[d][t], 0);
  const touched = Array.from({ length: n }, (_, d) => d).filter((d) => Array.from(query.ids).some((t) => dense[d][t]));

  test.each([
    ['float32', 1e-5],
    ['uint8', 0.06],
  ] as const)(
    '%s scores are the dot products, best first, and a second search is not told of the first',
    (impacts, error) => {
      const index = ImpactIndex.of(rows, V, impacts);
      for (const _ of [0, 1]) {
        const { indices, scores } = index.search(query, n);
        expect(indices.length).toBe(touched.length);
        expect(new Set(indices)).toEqual(new Set(touched));
        for (const [i, d] of indices.entries()) expect(Math.abs(scores[i] - scoreOf(d))).toBeLessThan(error);
        expect(Array.from(scores)).toEqual(Array.from(scores).sort((a, b) => b - a));
      }
      expect(Array.from(index.scoresOf(query, [5, 6]), (s, i) => Math.abs(s - scoreOf(5 + i)) < error)).toEqual([
        true,
        true,
      ]);
      expect(index.work(query)).toBe(found.flat().filter((t) => query.ids.includes(t)).length);
    },
  );

  test('an index of bytes takes a quarter of the impacts; tokens beyond the vocabulary find nothing', () => {
    const [float, byte] = [ImpactIndex.of(rows, V), ImpactIndex.of(rows, V, 'uint8')];
    expect(float.postings.places.length).toBe(rows.ids.length);
    expect(float.bytes - byte.bytes).toBe(
      3 * byte.postings.places.length + 8 * (rows.ids.length - byte.postings.places.length),
    );
    expect(float.search({ ids: Int32Array.of(900), weights: Float32Array.of(1) }, 5).indices.length).toBe(0);
  });
});
