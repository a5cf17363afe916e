/** @file At most so many training queries: drawn from all of them, so that a set in order of its names is not cut to its beginning. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../config/parse.ts';
import type { Dataset } from '../../data/dataset.ts';
import { askedQueries, trainingQueries } from '../../run/data.ts';

const N = 1000;
const ids = Array.from({ length: N }, (_, i) => `q${i}`);
/** The first 800 are judged. */
const dataset = {
  queries: { ids, length: N, indexOf: (id: string) => Number(id.slice(1)) },
  splits: ['train'],
  qrels: () => new Map(ids.slice(0, 800).map((id) => [id, new Map([['d', 1]])])),
} as unknown as Dataset;
const config = (data: object) =>
  parseConfig({ data: { path: 'd', ...data }, student: { model: 's' }, losses: [{ kind: 'info-nce' }] });
const drawn = (data: object): number[] => trainingQueries(config(data), dataset);

test('they come from everywhere, in order, once, and the same ones again', () => {
  const some = drawn({ maxQueries: 200 });
  expect(some).toHaveLength(200);
  expect(some).toEqual([...new Set(some)].sort((a, b) => a - b));
  for (const from of [0, 200, 400, 600]) {
    const share = some.filter((q) => q >= from && q < from + 200).length;
    expect(share).toBeGreaterThan(30);
    expect(share).toBeLessThan(70);
  }
  expect(drawn({ maxQueries: 200 })).toEqual(some);
});

test('a smaller limit draws a part of what a larger one draws', () => {
  const larger = new Set(drawn({ maxQueries: 300 }));
  expect(drawn({ maxQueries: 100 }).every((q) => larger.has(q))).toBe(true);
});

test('queries that keep their labels are always among them', () => {
  const some = drawn({ maxQueries: 50, labelled: 20 });
  expect(some.slice(0, 20)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  expect(some).toHaveLength(50);
  expect(drawn({ maxQueries: 10, labelled: 20 })).toEqual(Array.from({ length: 10 }, (_, i) => i));
});

test('all judged ones before any that no split judges', () => {
  const some = drawn({ maxQueries: 900 });
  expect(some.slice(0, 800)).toEqual(Array.from({ length: 800 }, (_, i) => i));
  expect(some).toHaveLength(900);
  expect(drawn({})).toHaveLength(N);
  expect(drawn({ unlabelled: false })).toHaveLength(800);
});

test('what is scored or embedded before a run are the queries that the run trains on', () => {
  const asked = (data: object, split: string, of = dataset) => askedQueries(config(data), of, split);
  expect(asked({ maxQueries: 200 }, 'train')).toEqual(drawn({ maxQueries: 200 }));
  expect(asked({ maxQueries: 200 }, 'dev')).toHaveLength(800);
  expect(asked({}, 'train')).toHaveLength(800);
  const none = { ...dataset, qrels: () => new Map() } as Dataset;
  expect(asked({ maxQueries: 900 }, 'train', none)).toHaveLength(900);
});
