/** @file Hybrid search: exact order against all documents, fusion by hand, a weight that is fitted. */
import { describe, expect, test } from 'vitest';
import { fitHybrid } from '../../evaluation/fit-hybrid.ts';
import { givenWeight } from '../../evaluation/systems/hybrid.ts';
import { Random } from '../../math/random.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { bothChannels, type ChannelScores, fuse, hybridSearch, reciprocalRankFusion } from '../../retrieval/hybrid.ts';

const list = (dense: number[], lexical: number[]): ChannelScores => ({
  documents: Int32Array.from(dense.keys()),
  dense: Float32Array.from(dense),
  lexical: Float32Array.from(lexical),
  bounds: { dense: -1, lexical: 0 },
});

test('fusion by hand', () => {
  const l = list([0.5, 0.25, 0], [0, 2, 4]);
  expect([...fuse(l, { lambda: 0.5, scale: 4 })]).toEqual([0.5, 0.5, 0.5]);
  const rrf = reciprocalRankFusion(l);
  // Ranks: dense 1, 2, 3; lexical none, 2, 1.
  expect(rrf[0]).toBeCloseTo(1 / 61, 7);
  expect(rrf[1]).toBeCloseTo(2 / 62, 7);
  expect(rrf[2]).toBeCloseTo(1 / 63 + 1 / 61, 7);
});

describe('search over both channels', async () => {
  const random = Random.of(1, 'hybrid');
  const [n, m, dimensions] = [12, 300, 8];
  const unit = (rows: number): Float32Array => {
    const v = new Float32Array(rows * dimensions);
    for (let r = 0; r < rows; r++) {
      const row = Array.from({ length: dimensions }, () => random.normal());
      const norm = Math.hypot(...row);
      for (let k = 0; k < dimensions; k++) v[r * dimensions + k] = row[k] / norm;
    }
    return v;
  };
  const words = (count: number): string =>
    Array.from({ length: count }, () => `w${random.integer(random.integer(40) + 1)}`).join(' ');
  const documents = Array.from({ length: m }, () => words(8));
  const queries = Array.from({ length: n }, () => words(3));
  const [q, d] = [unit(n), unit(m)];
  const index = await bm25({ length: m, text: (i) => documents[i] }, { analyzer: null });
  const query = { vectors: q, text: (i: number) => queries[i] };

  test.each([
    ['a deep first search', 1000],
    ['a first search so shallow that queries are searched again', 10],
  ])('the best 10 of all documents after %s', async (_, depth) => {
    const weight = { lambda: 0.4, scale: 3 };
    const hits = await hybridSearch(query, d, dimensions, index, weight, { k: 10, depth });
    for (let i = 0; i < n; i++) {
      const lexical = index.scores(
        queries[i],
        Int32Array.from({ length: m }, (_, j) => j),
      );
      const all = Array.from({ length: m }, (_, j) => {
        let s = 0;
        for (let k = 0; k < dimensions; k++) s += q[i * dimensions + k] * d[j * dimensions + k];
        return s + (weight.lambda * lexical[j]) / weight.scale;
      });
      const order = Array.from(all.keys()).sort((a, b) => all[b] - all[a] || a - b);
      for (let r = 0; r < 10; r++) expect(hits.scores[i * 10 + r]).toBeCloseTo(all[order[r]], 5);
    }
  });

  test('both scores of every document that either channel found', async () => {
    await bothChannels(
      query,
      d,
      dimensions,
      index,
      (i, scores) => {
        expect(scores.documents.length).toBe(new Set(scores.documents).size);
        expect([...scores.lexical]).toEqual([...index.scores(queries[i], scores.documents)]);
        const words = index.search(queries[i], 5).indices;
        for (const position of words) expect(scores.documents).toContain(position);
      },
      { depth: 5 },
    );
  });
});

describe('fitting', () => {
  const ids = Array.from({ length: 40 }, (_, i) => `q${i}`);
  const qrels = new Map(ids.map((id) => [id, new Map([['d1', 1]])]));
  test('a channel that puts the relevant document first gets a weight, with its gain', () => {
    const fit = fitHybrid(
      ids.map(() => list([0.5, 0.42, 0.1], [0, 3, 1])),
      ids,
      (p) => `d${p}`,
      qrels,
    );
    expect(fit.scale).toBe(3);
    expect(fit.lambda).toBe(0.1);
    expect(fit.dense).toBeCloseTo(1 / Math.log2(3), 6);
    expect(fit.fused).toBe(1);
    expect(fit.gain.low).toBeCloseTo(1 - 1 / Math.log2(3), 6);
  });
  test('a channel that brings nothing gets none', () => {
    const fit = fitHybrid(
      ids.map(() => list([0.5, 0.9, 0.1], [5, 0, 1])),
      ids,
      (p) => `d${p}`,
      qrels,
    );
    expect(fit.lambda).toBe(0);
    expect(fit.gain).toMatchObject({ value: 0, low: 0, high: 0 });
  });
  test('a weight that is given is not fitted, and the figures are of it', () => {
    const fitted = (given: number) =>
      fitHybrid(
        ids.map(() => list([0.5, 0.42, 0.1], [0, 3, 1])),
        ids,
        (p) => `d${p}`,
        qrels,
        'ndcg@10',
        given,
      );
    expect(fitted(0.05)).toMatchObject({ lambda: 0.05, fixed: true, fused: expect.closeTo(1 / Math.log2(3), 6) });
    // Not among the weights that are tried.
    expect(fitted(0.07)).toMatchObject({ lambda: 0.07, fixed: true, fused: expect.closeTo(1 / Math.log2(3), 6) });
    expect(fitted(0.2)).toMatchObject({ lambda: 0.2, fused: 1 });
  });
  test('queries of dev that are generated fit none: the usual one is taken', () => {
    expect(givenWeight('auto', { generated: ['dev', 'train'] }, 'dev')).toBe(0.2);
    expect(givenWeight('auto', { generated: ['train'] }, 'dev')).toBeUndefined();
    expect(givenWeight(0.4, { generated: ['dev'] }, 'dev')).toBe(0.4);
  });
  test('no query shares a word with a document: no weight, no division by zero', () => {
    const fit = fitHybrid([list([0.5, 0.9], [0, 0])], ['q0'], (p) => `d${p}`, qrels);
    expect(fit).toMatchObject({ lambda: 0, scale: 1, fused: 1 });
  });
});
