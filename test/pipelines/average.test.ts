/** @file Means of weights: what is between, which share is kept, and what is left as it is. */
import { expect, test } from 'vitest';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { averaged, averagedAt, meanOf } from '../../pipelines/fit/parts/average.ts';
import type { Trained } from '../../pipelines/fit/parts/fit.ts';

const float = (...data: number[]): Tensor => ({ dtype: 'float32', dims: [data.length], data: Float32Array.from(data) });
const before = new Map([['w', float(0, 4)]]);
const after = new Map<string, Tensor>([
  ['w', float(8, 0)],
  ['new', float(1)],
  ['ids', { dtype: 'int64', dims: [1], data: BigInt64Array.of(3n) }],
]);
const trained = (more: Partial<Trained> = {}): Trained => ({
  weights: after,
  initial: before,
  bestStep: 5,
  bestScore: 0.5,
  log: [],
  evaluations: [],
  skipped: 0,
  stepSeconds: 0,
  steps: 5,
  ...more,
});
const first = (weights: ReadonlyMap<string, Tensor>): number => Number(weights.get('w')?.data[0]);

test('a mean is taken weight by weight; what has no counterpart and what is not a float stays', () => {
  const mean = meanOf(after, before, 0.75);
  expect([...((mean.get('w') as Tensor).data as Float32Array)]).toEqual([6, 1]);
  expect(mean.get('new')).toBe(after.get('new'));
  expect(mean.get('ids')).toBe(after.get('ids'));
});

test('the share that scores best is kept and told; the trained weights alone where none is better', async () => {
  const notes: string[] = [];
  const note = (text: string) => void notes.push(text);
  // 0.9 at a share of 0.5, less elsewhere.
  const peak = async (weights: ReadonlyMap<string, Tensor>) => 0.9 - Math.abs(first(weights) - 4) / 10;
  const best = await averaged(trained(), [0.75, 0.5, 0.25], peak, { note });
  expect([best.average, best.bestScore, first(best.weights), best.bestStep]).toEqual([0.5, 0.9, 4, 5]);
  expect(notes).toEqual([
    'dev score by the share of the trained weights in a mean with those before training: 1: 0.5000, 0.75: 0.7000, 0.5: 0.9000, 0.25: 0.7000; 0.5 is kept',
  ]);
  const alone = await averaged(trained({ bestScore: 0.95 }), [0.5], peak, { note });
  expect([alone.average, alone.weights]).toEqual([undefined, after]);
  expect(notes[1]).toContain('1 is kept');
});

test('a single share is taken, whatever dev says of it, and measured where there is a dev split', async () => {
  const notes: string[] = [];
  const note = (text: string) => void notes.push(text);
  const found = await averagedAt(trained({ bestScore: 0.95 }), 0.5, async () => 0.9, { note });
  expect([found.average, found.bestScore, first(found.weights)]).toEqual([0.5, 0.9, 4]);
  expect(notes).toEqual([
    'a mean of the trained weights (0.5) and those before training is kept: dev score 0.9000, 0.9500 alone',
  ]);
  const unmeasured = await averagedAt(trained({ bestScore: undefined }), 0.25, undefined, { note });
  expect([unmeasured.average, unmeasured.bestScore, first(unmeasured.weights)]).toEqual([0.25, undefined, 2]);
});

test('there is nothing between the start and itself', async () => {
  const own = trained({ bestStep: 0 });
  const never = () => Promise.reject(new Error('not asked'));
  expect(await averaged(own, [0.5], never, { note: () => {} })).toBe(own);
});
