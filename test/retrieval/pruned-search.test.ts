/** @file Pruned search gives the documents, order and scores of adding up every posting, to the bit. */
import { describe, expect, test } from 'vitest';
import { offsetsOf } from '../../math/ragged.ts';
import { Random } from '../../math/random.ts';
import { listSums, type PostingLists, PrunedSearch, RankedList, rankedLists } from '../../retrieval/pruned-search.ts';

/** Lists of many lengths over some windows of documents. @param values impacts are drawn from as many: few give many ties */
function randomLists(random: Random, documents: number, count: number, values: number): PostingLists {
  const lists = Array.from({ length: count }, (_, i) => {
    const share = [0.9, 0.4, 0.1, 0.01, 0.001][i % 5];
    // Some lists only have documents of a part.
    const [from, to] = i % 4 === 3 ? [documents >> 2, documents >> 1] : [0, documents];
    const own: number[] = [];
    for (let d = from; d < to; d++) if (random.uniform() < share) own.push(d);
    return own;
  });
  const places = Int32Array.from(lists.flat());
  const impacts = Float32Array.from(lists.flatMap((own, i) => own.map(() => (0.3 + i) * (1 + random.integer(values)))));
  return { documents, offsets: offsetsOf(lists.map((l) => l.length)), places, impacts };
}

/** Every posting added up, every document sorted. */
function plain({ documents, offsets, places, impacts }: PostingLists, lists: number[], weights: number[], k: number) {
  const scores = new Float64Array(documents);
  const having = new Set<number>();
  for (const [q, t] of lists.entries())
    for (let at = offsets[t]; at < offsets[t + 1]; at++) {
      scores[places[at]] += weights[q] * impacts[at];
      having.add(places[at]);
    }
  const found = [...having];
  found.sort((a, b) => scores[b] - scores[a] || a - b);
  return {
    indices: found.slice(0, k),
    scores: Float32Array.from(found.slice(0, k), (d) => scores[d]),
    all: scores,
    having,
  };
}

describe.each([
  [9000, 3],
  [9000, 1_000_000],
  [4096, 4],
  [5000, 1],
  [37, 2],
])('%i documents, impacts of %i values', (documents, values) => {
  test('the best and their scores are those of the plain sum, ties by position', () => {
    const random = Random.of(documents + values, 'postings');
    const lists = randomLists(random, documents, 12, values);
    const listOf = rankedLists(lists);
    const pruned = new PrunedSearch(documents);
    for (let i = 0; i < 24; i++) {
      const asked = Array.from({ length: 1 + random.integer(7) }, () => random.integer(12));
      // In turn as BM25 has them, above 0, and of either sign.
      const weights = asked.map(() => [1, 0.1 + random.uniform(), 2 * random.uniform() - 0.7][i % 3]);
      const k = [1, 10, 100, documents][i % 4];
      const want = plain(lists, asked, weights, k);
      const found = pruned.search(asked.map(listOf), weights, k);
      expect(Array.from(found.indices)).toEqual(want.indices);
      expect(found.scores).toEqual(want.scores);
      for (const some of [3, documents]) {
        const wanted = Int32Array.from({ length: some }, () => random.integer(documents));
        if (some === documents) wanted.sort();
        const { sums, found } = listSums(asked.map(listOf), weights, wanted);
        expect(sums).toEqual(Float64Array.from(wanted, (d) => want.all[d]));
        expect(Array.from(found, Boolean)).toEqual(Array.from(wanted, (d) => want.having.has(d)));
      }
    }
  });
});

test('whole numbers of 32 bits keep their order, and a k above all memory finds what there is', () => {
  const impacts = Uint32Array.of(2 ** 31 + 1, 2 ** 31 + 2, 2 ** 31 + 3);
  const list = new RankedList(Int32Array.of(3, 5000, 9000), impacts);
  const pruned = new PrunedSearch(10_000);
  for (const k of [1, 2, 1e12, Number.POSITIVE_INFINITY])
    expect(Array.from(pruned.search([list], [0.5], k).indices)).toEqual([9000, 5000, 3].slice(0, k));
});

test('no list, no document and no place among the best give nothing', () => {
  const random = randomLists(Random.of(1, 'postings'), 100, 4, 3);
  const pruned = new PrunedSearch(100);
  expect(pruned.search([], [], 5).indices.length).toBe(0);
  expect(pruned.search([rankedLists(random)(0)], [1], 0).indices.length).toBe(0);
  expect(Array.from(listSums([], [], [1, 2]).sums)).toEqual([0, 0]);
  const none = new RankedList(new Int32Array(0), new Float32Array(0));
  expect(new PrunedSearch(0).search([none], [1], 5).indices.length).toBe(0);
});
