/** @file What every replay method must hold, and the orders that its source gives. */
import { describe, expect, test } from 'vitest';
import type { Tensor } from '../../../engine/graph/tensor.ts';
import { Random } from '../../../math/random.ts';
import { Stream, type StreamMethodName, type StreamPart, streamMethods } from '../../../training/streams/index.ts';

const names = Object.keys(streamMethods) as StreamMethodName[];
const settings = { buffer: 24, gap: 0, surprising: 0.7 };
const part = (more: Partial<StreamPart>): StreamPart => ({
  ...settings,
  length: 6,
  batches: [3, 3],
  random: Random.of(0, 'stream'),
  ...more,
});
const make = (name: StreamMethodName, n: number, more: Partial<typeof settings> & { batch?: number } = {}): Stream =>
  new Stream(n, { method: streamMethods[name], batch: 8, seed: 5, ...settings, ...more });

/** Losses that change with the weights: with the number of times that they were asked for. */
const losses = () => {
  let asked = 0;
  return async (from: number, to: number) => {
    asked++;
    return Array.from({ length: to - from }, (_, i) => Math.sin(7 * (from + i) + asked));
  };
};

/** The batches of some steps of two batches each, as a training takes them. */
async function learned(stream: Stream, from: number, to: number, surprise = losses()): Promise<number[][]> {
  const all: number[][] = [];
  for (let number = from; number < to; number += 2) {
    await stream.prepare([number, number + 1], surprise);
    for (const k of [number, number + 1]) if (k < to) all.push(stream.batch(k));
  }
  return all;
}

describe.each(names)('%s', (name) => {
  const method = streamMethods[name];

  test.each([1, 7, 8, 61, 100])('a pass over %i examples', async (n) => {
    const stream = make(name, n);
    const batches = await learned(stream, 0, stream.batches);
    expect(stream.batches).toBe(Math.ceil(n / 8));
    const sizes = batches.map((b) => b.length);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(8);
    const flat = batches.flat();
    expect(flat).toHaveLength(n);
    expect(flat.every((i) => Number.isInteger(i) && i >= 0 && i < n)).toBe(true);
    const once = flat.toSorted((a, b) => a - b);
    if (method.repeats) for (const b of batches) expect(new Set(b).size).toBe(b.length);
    else expect(once).toEqual(Array.from({ length: n }, (_, i) => i));
  });

  test('the next pass learns as many examples', async () => {
    const stream = make(name, 61);
    const [first, second] = [
      await learned(stream, 0, stream.batches),
      await learned(stream, stream.batches, 2 * stream.batches),
    ];
    expect(second.map((b) => b.length)).toEqual(first.map((b) => b.length));
    // A stream in its own order repeats; a random order does not.
    if (name === 'in-order' || name === 'reverse') expect(second).toEqual(first);
    if (name === 'shuffle') expect(second).not.toEqual(first);
  });

  test('it never learns an example before it has arrived in the buffer', async () => {
    const stream = make(name, 100, { buffer: 16 });
    const flat = (await learned(stream, 0, stream.batches)).flat();
    // A buffer of 16 is full before its first example is learned.
    for (const [k, i] of flat.entries()) expect(i).toBeLessThan(k + 16 + 8);
  });

  test('interrupted anywhere and resumed from what was saved, it gives the same batches', async () => {
    const steps = 22;
    const whole = await learned(make(name, 61), 0, steps);
    for (const stop of [2, 4, 10, 16]) {
      const surprise = losses();
      const before = make(name, 61);
      await learned(before, 0, stop, surprise);
      const saved = new Map(Object.entries(before.get()).map(([n, t]) => [n, structuredClone(t) as Tensor]));
      const after = make(name, 61);
      after.set(saved);
      expect(await learned(after, stop, steps, surprise), `from ${stop}`).toEqual(whole.slice(stop));
    }
  });

  test('a state that lacks a part is refused', () => {
    expect(() => make(name, 61).set(new Map())).toThrow("it lacks the stream's first");
  });
});

test('reverse: the order of the source, with and without a gap', () => {
  const order = (more: Partial<StreamPart>) => [...streamMethods.reverse.order(part(more))].map((i) => i + 1);
  expect(order({ buffer: 3 })).toEqual([3, 2, 1, 6, 5, 4]);
  expect(order({ buffer: 4 })).toEqual([4, 3, 2, 1, 6, 5]);
  expect(order({ buffer: 2, gap: 1 })).toEqual([2, 1, 5, 4]);
  expect(order({ length: 7, buffer: 2, gap: 1 })).toEqual([2, 1, 5, 4, 7]);
  for (const [n, buffer, gap] of [
    [6, 2, 1],
    [7, 2, 1],
    [8, 3, 2],
    [5, 9, 1],
    [10, 1, 4],
  ])
    expect(streamMethods.reverse.learned(n, { ...settings, buffer, gap })).toBe(
      streamMethods.reverse.order(part({ length: n, buffer, gap })).length,
    );
});

test('reverse: a pass with a gap has as many batches as what it learns', () => {
  const stream = make('reverse', 60, { buffer: 10, gap: 5, batch: 8 });
  expect(stream.batches).toBe(5);
  expect(Array.from({ length: 5 }, (_, k) => stream.batch(k)).flat()).toHaveLength(40);
});

test('shuffle: a buffer of 1 keeps the order, one of the whole stream is uniform', () => {
  const { order } = streamMethods.shuffle;
  expect([...order(part({ buffer: 1 }))]).toEqual([0, 1, 2, 3, 4, 5]);
  const firsts = new Float64Array(6);
  for (let seed = 0; seed < 6000; seed++) firsts[order(part({ buffer: 6, random: Random.of(seed) }))[5]]++;
  for (const count of firsts) expect(Math.abs(count - 1000)).toBeLessThan(4 * Math.sqrt(1000));
});

test('introspective: a batch is a pivot and the examples before it, the largest losses first', () => {
  const surprise = [0, 9, 0, 0, 5, 7];
  const order = (more: Partial<StreamPart>) => [
    ...streamMethods.introspective.order(part({ surprise, surprising: 1, ...more })),
  ];
  // The pivot 1 has no three examples before it and is moved to 2.
  expect(order({})).toEqual([2, 1, 0, 5, 4, 3]);
  expect(order({ batches: [2, 2, 2] })).toEqual([1, 0, 5, 4, 4, 3]);
  expect(new Set(order({ surprising: 0 }).slice(0, 3)).size).toBe(3);
});

test('introspective: 70 % of the batches end at a pivot', () => {
  const length = 200;
  const surprise = Array.from({ length }, (_, i) => Math.sin(i));
  const batches = Array.from({ length: 20 }, () => 10);
  const order = streamMethods.introspective.order(part({ length, batches, surprise }));
  const runs = batches.map((size, k) => [...order.subarray(k * size, (k + 1) * size)]);
  const reversed = runs.filter((run) => run.every((i, k) => k === 0 || i === run[k - 1] - 1));
  expect(reversed).toHaveLength(14);
});

test('introspective: a batch that is not prepared is no batch', () => {
  expect(() => make('introspective', 61).batch(3)).toThrow('batch 3 of the stream is not prepared');
});
