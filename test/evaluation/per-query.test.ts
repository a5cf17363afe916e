/** @file A report of very many queries holds the values of a sample, the same for each system and run, and says so. */
import { expect, test } from 'vitest';
import { perQueryFigures, REPORTED_QUERIES, reportedValues, sampleNotes } from '../../evaluation/report/per-query.ts';

const many = REPORTED_QUERIES + 10_000;
const ids = Array.from({ length: many }, (_, i) => `q${i}`);

test('few queries are all there', () => {
  const values = reportedValues({ 'ndcg@10': Float64Array.of(0.12345678, 1) });
  expect(perQueryFigures(['a', 'b'], { student: values })).toEqual({
    queryIds: ['a', 'b'],
    systems: { student: { 'ndcg@10': [0.123457, 1] } },
  });
  expect(sampleNotes(REPORTED_QUERIES)).toEqual([]);
});

test('of many queries a sample is there, values beside the ids of their queries, alike for each system', () => {
  const position = Float64Array.from({ length: many }, (_, i) => i);
  const [a, b] = [reportedValues({ map: position }), reportedValues({ map: position.map((v) => 2 * v) })];
  const { queryIds, of, systems } = perQueryFigures(ids, { a, b });
  expect([queryIds.length, of]).toEqual([REPORTED_QUERIES, many]);
  expect(new Set(queryIds).size).toBe(REPORTED_QUERIES);
  expect(systems.a.map.map((i) => `q${i}`)).toEqual(queryIds);
  expect(systems.b.map.map((i) => `q${i / 2}`)).toEqual(queryIds);
  // Drawn from all of them, not the first ones.
  expect(systems.a.map.filter((i) => i >= REPORTED_QUERIES).length).toBeGreaterThan(7000);
  expect(sampleNotes(many)).toEqual([
    'values of single queries are of 50,000 drawn of 60,000; means, intervals and tests are of all',
  ]);
});
