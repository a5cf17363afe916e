/** @file The k largest: exact against a sort, by bins against its formula by Monte Carlo. */
import { expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { binsFor, expectedRecall, topK, topKAmong, topKByBins } from '../../retrieval/top-k.ts';

const random = Random.of(2, 'top');

test('exact: as a sort gives them, ties by position, any k', () => {
  for (const n of [0, 1, 2, 7, 500])
    for (const k of [0, 1, 3, 10, 1000]) {
      const scores = Float32Array.from({ length: n }, () => random.integer(40));
      const sorted = Array.from(scores.keys())
        .sort((a, b) => scores[b] - scores[a] || a - b)
        .slice(0, k);
      const found = topK(scores, k);
      expect([...found.indices]).toEqual(sorted);
      expect([...found.scores]).toEqual(sorted.map((i) => scores[i]));
    }
});

test('among some positions in any order: as a sort gives them, ties by position, any k', () => {
  for (const n of [0, 1, 2, 7, 500])
    for (const k of [0, 1, 3, 10, 1000]) {
      const values = Float64Array.from({ length: 2 * n }, () => random.integer(40) / 3);
      const positions = random.shuffle(Array.from(values.keys())).slice(0, n);
      const sorted = [...positions].sort((a, b) => values[b] - values[a] || a - b).slice(0, k);
      const found = topKAmong(positions, values, k);
      expect([...found.indices]).toEqual(sorted);
      expect([...found.scores]).toEqual(sorted.map((i) => Math.fround(values[i])));
    }
});

test('bins: L = 176 for a recall of 0.95 of ten, 1931 of a hundred', () => {
  expect(binsFor(0.95, 10)).toBe(175);
  expect(binsFor(0.95, 100)).toBe(1930);
  expect(expectedRecall(176, 10)).toBeCloseTo(0.9748, 4);
  expect(expectedRecall(128, 10)).toBeCloseTo(0.9656, 4);
  expect(() => binsFor(1, 10)).toThrow('recall is 1');
});

test.each([
  [128, 10],
  [64, 20],
])('bins: the recall of %i bins and %i wanted is the formula’s, within Monte Carlo’s error', (bins, k) => {
  const n = 5000;
  const runs = 400;
  let found = 0;
  for (let r = 0; r < runs; r++) {
    const scores = Float32Array.from({ length: n }, () => random.uniform());
    const exact = new Set(topK(scores, k).indices);
    for (const i of topKByBins(scores, k, bins).indices) found += Number(exact.has(i));
  }
  const recall = found / (runs * k);
  expect(Math.abs(recall - expectedRecall(bins, k))).toBeLessThan(0.01);
});

test('bins: as many bins as rows are exact', () => {
  const scores = Float32Array.from({ length: 50 }, () => random.uniform());
  expect([...topKByBins(scores, 10, 50).indices]).toEqual([...topK(scores, 10).indices]);
});
