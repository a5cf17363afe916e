/** @file `evaluate` on plain arrays: what it refuses, in which words, and that it compiles once for each shape. */
import { describe, expect, test, vi } from 'vitest';
import { Session } from '../../engine/runtime/session.ts';
import { cachedSessions } from '../../losses/evaluate.ts';
import { embeddingMatching, inBatchKL, infoNCE, kl, mse, pairMatching, weightedSum } from '../../losses/index.ts';

const rows = (n: number, m: number, at = (i: number) => Math.sin(i)) => ({
  dims: [n, m],
  data: Array.from({ length: n * m }, (_, i) => at(i)),
});

describe('a mistake in the arrays is one sentence', () => {
  const cases: [string, () => Promise<unknown>, string][] = [
    [
      'another count of candidates',
      () => kl().evaluate({ student: rows(2, 3), teacher: rows(2, 4) }),
      "'teacher' of loss 'kl': expected [2, 3] (queries x candidates; 'student' has 3 candidates), received [2, 4]",
    ],
    [
      'a vector for a matrix',
      () => kl().evaluate({ student: { dims: [3], data: [1, 2, 3] }, teacher: rows(1, 3) }),
      "'student' of loss 'kl': expected [queries, candidates] (queries x candidates), received [3]",
    ],
    [
      'fewer numbers than the shape has',
      () => mse().evaluate({ student: { dims: [2, 3], data: [1, 2, 3] }, teacher: rows(2, 3) }),
      "'student' of loss 'mse': expected as many numbers as [2, 3] has, received 3 numbers",
    ],
    [
      'documents of another width than queries',
      () => infoNCE().evaluate({ queries: rows(2, 3), documents: rows(4, 5) }),
      "'documents' of loss 'info-nce': expected [4, 3] (documents x width; 'queries' has 3 width), received [4, 5]",
    ],
    [
      'a teacher of another width without a projection',
      () => embeddingMatching({ of: 'queries' }).evaluate({ queries: rows(2, 3), teacherQueries: rows(2, 5) }),
      "loss 'embedding-matching' compares 'queries' of 3 dimensions with 'teacherQueries' of 5; give a 'projection' [3, 5]",
    ],
    [
      'NaN that is not a padding',
      () => kl().evaluate({ student: rows(2, 3), teacher: rows(2, 3, (i) => (i === 4 ? Number.NaN : i)) }),
      "'teacher' of loss 'kl' at [1, 1]: expected a finite number, received NaN; set the mask to 0 there, or leave the query out",
    ],
    [
      'infinite embeddings',
      () => infoNCE().evaluate({ queries: rows(1, 2, () => Number.POSITIVE_INFINITY), documents: rows(2, 2) }),
      "'queries' of loss 'info-nce' at [0, 0]: expected a finite number, received Infinity; leave the query out",
    ],
    [
      'weights that are too few',
      () => kl().evaluate({ student: rows(2, 3), teacher: rows(2, 3) }, [1]),
      "the weights of loss 'kl': expected 2 finite numbers, one a query, received 1",
    ],
    [
      'weights that are not finite',
      () => kl().evaluate({ student: rows(2, 3), teacher: rows(2, 3) }, [1, Number.NaN]),
      "the weights of loss 'kl': expected 2 finite numbers, one a query, received NaN among them",
    ],
    [
      'a position beyond the documents',
      () =>
        pairMatching().evaluate({
          queries: rows(1, 2),
          documents: rows(2, 2),
          candidates: [[0, 2]],
          mask: [[1, 1]],
          pairQueries: { dims: [1, 2, 2], data: [1, 0, 1, 0] },
          pairDocuments: { dims: [1, 2, 2], data: [1, 0, 1, 0] },
        }),
      "'candidates' of loss 'pair-matching' at [0, 1]: expected a position among the 2 documents, received 2; count documents from 0",
    ],
  ];
  test.each(cases)('%s', async (_, call, message) => {
    await expect(call()).rejects.toThrow(message);
    await expect(call()).rejects.toMatchObject({ name: 'InputError' });
  });
});

test('NaN marks a document without a teacher score', async () => {
  const loss = inBatchKL({ teacherScores: 'given' });
  const arrays = {
    queries: rows(2, 3),
    documents: rows(3, 3),
    teacherInBatch: rows(2, 3, (i) => (i === 1 ? Number.NaN : i)),
  };
  expect(Number.isFinite((await loss.evaluate(arrays)).loss)).toBe(true);
});

test('a loss is compiled once for each shape, also by calls at the same time, and the cache is bounded', async () => {
  const loss = mse({ scale: 1, shift: 0 });
  const at = (n: number, k: number) => ({ student: rows(n, 4, (i) => i + k), teacher: rows(n, 4, (i) => i) });
  const before = cachedSessions();
  const values = await Promise.all([1, 2, 3, 4, 5].map((k) => loss.evaluate(at(2, k))));
  expect(values.map((v) => v.loss)).toEqual([1, 4, 9, 16, 25]);
  expect(cachedSessions()).toBe(Math.min(32, before + 1));
  const many = await Promise.all(Array.from({ length: 40 }, (_, i) => loss.evaluate(at(i + 1, 1))));
  expect(many.map((v) => v.loss)).toEqual(Array(40).fill(1));
  expect(many.map((v) => v.gradients.student?.length)).toEqual(Array.from({ length: 40 }, (_, i) => 4 * (i + 1)));
  expect(cachedSessions()).toBe(32);
  expect((await loss.evaluate(at(2, 3))).loss).toBe(9);
});

test('a loss made anew with the same options uses the same session, with the same bits; other options have their own', async () => {
  const arrays = { student: rows(5, 7), teacher: rows(5, 7, (i) => 9 * Math.cos(i)) };
  const of = (temperature: number) => kl({ temperature, studentTemperature: 0.07 });
  const first = await of(1.25).evaluate(arrays);
  const sum = () => weightedSum([of(1.25), mse({ scale: 2, shift: 0 })].map((loss, i) => ({ loss, weight: i + 0.5 })));
  const added = await sum().evaluate(arrays);
  const loaded = vi.spyOn(Session, 'load');
  for (let i = 0; i < 20; i++) {
    expect(await of(1.25).evaluate(arrays)).toEqual(first);
    expect(await sum().evaluate(arrays)).toEqual(added);
  }
  expect(loaded).not.toHaveBeenCalled();
  const other = await of(1.5).evaluate(arrays);
  expect(other.loss).not.toBe(first.loss);
  expect(loaded).toHaveBeenCalled();
  loaded.mockRestore();
});

test('sessions that are pushed out are released once they are idle', async () => {
  const [loaded, released] = [vi.spyOn(Session, 'load'), vi.spyOn(Session.prototype, 'release')];
  const loss = mse({ scale: 3, shift: 0 });
  const before = cachedSessions();
  await Promise.all(
    Array.from({ length: 40 }, (_, i) => loss.evaluate({ student: rows(i + 1, 3), teacher: rows(i + 1, 3, Math.cos) })),
  );
  expect(cachedSessions()).toBe(32);
  // Those that infer shapes and those that were pushed out are closed: as many are open as are cached.
  expect(loaded.mock.calls.length).toBeGreaterThanOrEqual(40);
  expect(loaded.mock.calls.length - released.mock.calls.length).toBe(32 - before);
  loaded.mockRestore();
  released.mockRestore();
});

test('a call with a shape seen before takes no compilation', async () => {
  const loss = kl();
  const arrays = { student: rows(8, 16), teacher: rows(8, 16, Math.cos) };
  const timed = async (): Promise<number> => {
    const started = performance.now();
    await loss.evaluate(arrays);
    return performance.now() - started;
  };
  const first = await timed();
  const again: number[] = [];
  for (let i = 0; i < 50; i++) again.push(await timed());
  expect(again.sort((a, b) => a - b)[25]).toBeLessThan(first / 3);
});
