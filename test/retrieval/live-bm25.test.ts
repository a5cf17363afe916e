/** @file BM25 over texts that come and go equals an index made of the texts that are there. */
import { expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { LiveBm25 } from '../../retrieval/live-bm25.ts';

const random = Random.of(3, 'live');
const words = Array.from({ length: 60 }, (_, i) => `word${i}`);
const text = (): string =>
  Array.from({ length: 1 + random.integer(12) }, () => words[Math.min(random.integer(60), random.integer(60))]).join(
    ' ',
  );
const options = { k1: 0.9, b: 0.4, analyzer: { kind: 'words', stemmer: null } } as const;

async function same(live: LiveBm25, there: readonly (readonly [string, string])[]): Promise<void> {
  const index = await bm25({ length: there.length, text: (i) => there[i][1] }, options);
  for (let q = 0; q < 20; q++) {
    const query = text();
    const { indices, scores } = index.search(query, 7);
    const found = live.search(query, 7);
    expect(found.ids).toEqual(Array.from(indices, (i) => there[i][0]));
    expect(found.scores).toEqual(scores);
    expect(
      live.scores(
        query,
        there.map(([id]) => id),
      ),
    ).toEqual(index.scores(query, Array.from(there.keys())));
  }
  expect(live.size).toBe(there.length);
}

test('after additions, removals and replacements', async () => {
  const live = new LiveBm25(options);
  let there: [string, string][] = [];
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 80; i++) {
      const document: [string, string] = [`d${round}-${i}`, text()];
      live.add(...document);
      there.push(document);
    }
    const gone = there.filter(() => random.integer(3) === 0);
    for (const [id, own] of gone) live.remove(id, own);
    there = there.filter((d) => !gone.includes(d));
    const [id, own] = there[0];
    live.remove(id, own);
    const replaced: [string, string] = [id, text()];
    live.add(...replaced);
    there = [...there.slice(1), replaced];
    await same(live, there);
  }
});

test('a corpus replaced many times over', async () => {
  const live = new LiveBm25(options);
  let there: [string, string][] = [];
  for (let i = 0; i < 4000; i++) {
    const id = `d${i % 20}`;
    const old = there.find((d) => d[0] === id);
    if (old) live.remove(...old);
    const document: [string, string] = [id, text()];
    live.add(...document);
    there = [...there.filter((d) => d[0] !== id), document];
  }
  await same(live, there);
});

test('none, and what is not there', async () => {
  const live = new LiveBm25(options);
  expect(live.search('word1', 3).ids).toEqual([]);
  live.add('a', 'word1 constructor');
  expect(live.search('constructor', 3).ids).toEqual(['a']);
  expect([...live.scores('word1', ['a', 'b'])]).toEqual([expect.closeTo(0.1514, 3), 0]);
  live.remove('b', 'word1');
  live.remove('a', 'word1 constructor');
  expect(live.search('word1', 3).ids).toEqual([]);
  live.add('a', 'word2');
  expect(() => live.add('a', 'word3')).toThrow('a is there already');
});
