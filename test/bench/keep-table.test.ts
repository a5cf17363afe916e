/** @file The table of losses in other domains: means over sets and seeds, and the share of the loss that a variant takes back. */
import { expect, test } from 'vitest';
import { keepTable, lossOf } from '../../bench/experiments/keep.ts';
import type { Outcome } from '../../bench/experiments/outcome.ts';

const outcome = (variant: string, seed: number, own: number, [a, b]: [number, number]): Outcome => ({
  group: 'keep',
  variant,
  seed,
  metrics: { 'ndcg@10': own, 'ndcg@10 on a': a, 'ndcg@10 on b': b, 'ndcg@10, mean of 2 other sets': (a + b) / 2 },
  before: { 'ndcg@10': 0.7, 'ndcg@10 on a': 0.6, 'ndcg@10 on b': 0.8 },
  seconds: 1,
  trainSeconds: 1,
});

test('the share is of the loss that training alone makes with the same seeds', () => {
  const all = [
    outcome('alone', 0, 0.84, [0.5, 0.7]),
    outcome('alone', 1, 0.86, [0.48, 0.66]),
    outcome('kept', 0, 0.85, [0.55, 0.75]),
    outcome('alone of 8000', 0, 0.8, [0.52, 0.72]),
    outcome('daft-1', 0, 0.8, [0.54, 0.74]),
    outcome('alone; x=1', 0, 0.8, [0.4, 0.6]),
    outcome('kept; x=1', 0, 0.8, [0.45, 0.65]),
    outcome('worse', 2, 0.8, [0.4, 0.6]),
    { ...outcome('other', 0, 0, [0, 0]), group: 'losses' },
  ];
  expect(lossOf(all[0])).toBeCloseTo(0.1, 9);
  expect(keepTable(all)).toEqual([
    '| variant | seeds | debian | a | b | mean of others | loss | loss taken back |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    '| encoder as it was |  | 0.7000 | 0.6000 | 0.8000 | 0.7000 | 0 |  |',
    '| alone | 0, 1 | 0.8500 | 0.4900 | 0.6800 | 0.5850 | 0.1150 |  |',
    '| kept | 0 | 0.8500 | 0.5500 | 0.7500 | 0.6500 | 0.0500 | 50 % |',
    '| alone of 8000 | 0 | 0.8000 | 0.5200 | 0.7200 | 0.6200 | 0.0800 | 20 % |',
    '| daft-1 | 0 | 0.8000 | 0.5400 | 0.7400 | 0.6400 | 0.0600 | 25 % |',
    '| alone; x=1 | 0 | 0.8000 | 0.4000 | 0.6000 | 0.5000 | 0.2000 |  |',
    '| kept; x=1 | 0 | 0.8000 | 0.4500 | 0.6500 | 0.5500 | 0.1500 | 25 % |',
    // No run of the same seed alone: nothing to compare with.
    '| worse | 2 | 0.8000 | 0.4000 | 0.6000 | 0.5000 | 0.2000 |  |',
  ]);
  expect(keepTable([])).toEqual(['no run of the group keep is finished']);
});
