/** @file BM25: hand values, exact order against a plain sum over all documents, and the figures of real data sets. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openBeir } from '../../data/beir.ts';
import { bm25Run } from '../../evaluation/bm25-run.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';
import { Random } from '../../math/random.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { shared } from '../shared.ts';

const table = (texts: string[]) => ({ length: texts.length, text: (i: number) => texts[i] });

test('the formula by hand: stems, stopwords, repeated words of document and query', async () => {
  const index = await bm25(table(['The cats ran', 'a cat, a cat and a dog', 'birds']), { k1: 1.2, b: 0.75 });
  const { indices, scores } = index.search('CAT running cat', 3);
  // Lengths 2, 3, 1, mean 2; idf(cat) = ln(1 + 1.5 / 2.5), idf(ran) = idf(run) is of the stem 'ran', absent from the query.
  const idf = Math.log(1 + 1.5 / 2.5);
  const second = (2 * idf * 2) / (2 + 1.2 * (0.25 + (0.75 * 3) / 2));
  const first = (2 * idf) / (1 + 1.2);
  expect([...indices]).toEqual([1, 0]);
  expect(scores[0]).toBeCloseTo(second, 6);
  expect(scores[1]).toBeCloseTo(first, 6);
});

test('the best k are those of all documents in order, ties by position; a query of unknown words finds none', async () => {
  const random = Random.of(3, 'bm25');
  const words = Array.from({ length: 30 }, (_, i) => `w${i}`);
  const draw = (n: number): string =>
    Array.from({ length: n }, () => words[random.integer(random.integer(30) + 1)]).join(' ');
  const documents = Array.from({ length: 400 }, () => draw(random.integer(12)));
  const index = await bm25(table(documents));
  for (let i = 0; i < 20; i++) {
    const query = draw(3);
    const all = index.search(query, 400);
    const order = Array.from(all.indices, (d, r) => ({ d, s: all.scores[r] }));
    for (let r = 1; r < order.length; r++)
      expect(order[r - 1].s > order[r].s || (order[r - 1].s === order[r].s && order[r - 1].d < order[r].d)).toBe(true);
    for (const k of [0, 1, 7, 100])
      expect([...index.search(query, k).indices]).toEqual([...all.indices.subarray(0, k)]);
  }
  expect(index.search('zebra', 5).indices.length).toBe(0);
});

test('an unknown stemmer is refused; no stemmer takes words as they are', async () => {
  await expect(bm25(table([]), { analyzer: 'klingon' })).rejects.toThrow("there is no stemmer for 'klingon'");
  const index = await bm25(table(['the runs', 'the run']), { analyzer: null });
  expect([...index.search('the run', 2).indices]).toEqual([1, 0]);
});

/** Test nDCG@10 and Recall@100 of bm25s with the same options, from the data sets' own descriptions. */
const figures = {
  debian: [0.764, 0.9466],
  squad: [0.9069, 0.9973],
  boolq: [0.8003, 0.9806],
  cranfield: [0.4546, 0.7124],
  medquad: [0.6206, 0.9863],
  'squad-sentences': [0.6656, 0.8911],
};

describe.skipIf(!shared)('real data sets', () => {
  test.each(Object.entries(figures))('%s', async (name, [ndcg, recall]) => {
    const folder = join(shared as string, 'data', name);
    if (!existsSync(folder)) return;
    const dataset = await openBeir(folder);
    const { means } = evaluateRun(await bm25Run(dataset, 'test', 100), dataset.qrels('test'), [
      'ndcg@10',
      'recall@100',
    ]);
    expect(Math.abs(means['ndcg@10'] - ndcg)).toBeLessThan(0.001);
    expect(Math.abs(means['recall@100'] - recall)).toBeLessThan(0.001);
  });
});
