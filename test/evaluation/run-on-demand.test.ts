/** @file A run that is looked up on demand is the map that it stands for, and costs bytes a hit. */
import { expect, test } from 'vitest';
import { TextTableBuilder } from '../../data/dataset.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';
import { runOnDemand } from '../../evaluation/metrics/run-on-demand.ts';

const tableOf = (texts: Record<string, string>) => {
  const builder = new TextTableBuilder();
  for (const [id, text] of Object.entries(texts)) builder.add(id, text);
  return builder.build();
};

test('ids, scores and order are those of the hits, without the query itself, cut to the depth', () => {
  const queries = tableOf({ q0: 'first', a: 'the same text', q2: 'unasked', q3: 'third' });
  const documents = tableOf({ a: 'The  same text', b: 'other', c: 'more', q3: 'another text' });
  const hits = {
    k: 3,
    indices: Int32Array.of(1, 0, 2, 0, 1, 2, 3, 1, 0),
    scores: Float32Array.of(3, 2, 1, 9, 8, 7, 6, 5, 4),
  };
  const run = runOnDemand(hits, [0, 1, 3], { queries, documents }, 2);
  const expected = new Map([
    ['q0', { ids: ['b', 'a'], scores: Float32Array.of(3, 2) }],
    // The document 'a' is the query 'a'.
    ['a', { ids: ['b', 'c'], scores: Float32Array.of(8, 7) }],
    // One of the same id and another text is a result.
    ['q3', { ids: ['q3', 'b'], scores: Float32Array.of(6, 5) }],
  ]);
  expect(new Map(run)).toEqual(expected);
  expect([...run.keys()]).toEqual([...expected.keys()]);
  expect([...run.values()]).toEqual([...expected.values()]);
  expect(run.size).toBe(3);
  expect([run.has('q0'), run.has('q2'), run.has('nobody')]).toEqual([true, false, false]);
  expect([run.get('q3'), run.get('q2'), run.get('nobody')]).toEqual([expected.get('q3'), undefined, undefined]);
  const seen: [string, unknown][] = [];
  run.forEach((found, id) => void seen.push([id, found]));
  expect(seen).toEqual([...expected]);
  const qrels = new Map([
    ['q0', new Map([['a', 1]])],
    ['a', new Map([['c', 1]])],
  ]);
  expect(evaluateRun(run, qrels, ['ndcg@10', 'mrr@10'])).toEqual(evaluateRun(expected, qrels, ['ndcg@10', 'mrr@10']));
  // Of a sample, hits are positions within it.
  const sampled = runOnDemand({ ...hits, k: 1 }, [0], { queries, documents }, 1, Int32Array.of(2, 3));
  expect(sampled.get('q0')?.ids).toEqual(['q3']);
});

test('a hundred thousand queries of a hundred hits cost no objects', () => {
  const [n, k] = [100_000, 100];
  const ids = Array.from({ length: n }, (_, i) => `q${i}`);
  const queries = { ids, length: n, text: String, indexOf: (id: string) => Number(id.slice(1)), hash: '' };
  const documents = { ...queries, ids: ids.map((id) => `d${id}`), indexOf: () => undefined };
  const hits = {
    k,
    indices: Int32Array.from({ length: n * k }, (_, i) => (i * 7) % n),
    scores: new Float32Array(n * k),
  };
  const before = process.memoryUsage().heapUsed;
  const run = runOnDemand(
    hits,
    Array.from({ length: n }, (_, i) => i),
    { queries, documents },
    k,
  );
  // As objects these were 100,000 x (ids and scores) = 120 MB and more.
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(20e6);
  expect(run.get('q99999')?.ids).toHaveLength(k);
});
