import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { Session } from '../../engine/runtime/session.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualPooling, exposeSegments, segmentsOf } from '../../teachers/pair-embeddings.ts';
import { shared } from '../shared.ts';

test('segments are between special tokens, whatever their number', () => {
  const special = new Set([101, 102]);
  expect(segmentsOf([101, 7, 8, 102, 9, 102], special)).toEqual({ query: [1, 3], document: [4, 5] });
  expect(segmentsOf([101, 7, 102, 102, 9, 10, 102], special)).toEqual({ query: [1, 2], document: [4, 6] });
  expect(segmentsOf([101, 7, 8, 102, 102], special)).toEqual({ query: [1, 3], document: [5, 5] });
  expect(segmentsOf([101, 102, 9, 102], special, false)).toEqual({ query: [2, 2], document: [2, 3] });
});

describe.skipIf(!shared)('debian-cross-encoder', () => {
  const folder = join(shared ?? '', 'models/debian-cross-encoder');
  const pairs = [
    {
      queryId: '',
      documentId: '',
      query: 'fast text editor',
      document: 'vim is an almost compatible version of the editor vi',
    },
    { queryId: '', documentId: '', query: 'fast text editor', document: 'a library of numbers' },
    {
      queryId: '',
      documentId: '',
      query: 'solve sudoku puzzles',
      document: 'sudoku solver and generator for the terminal',
    },
  ];

  test('logits are as before the cut; equal words have vectors that depend on the pair; the correlation is told', async () => {
    const [plain, pooling] = [await crossEncoder(folder), await dualPooling(folder)];
    try {
      const scores = await plain.score(pairs);
      const { dimensions, queries, documents, logits, correlation } = await pooling.read(pairs);
      expect(dimensions).toBe(384);
      for (const [i, s] of scores.entries()) expect(logits[i]).toBeCloseTo(s, 4);
      const row = (x: Float32Array, i: number) => Array.from(x.subarray(i * dimensions, (i + 1) * dimensions));
      expect(Math.max(...row(queries, 0).map((v, k) => Math.abs(v - queries[dimensions + k])))).toBeGreaterThan(0.1);
      expect(documents.some((v) => v !== 0)).toBe(true);
      for (const c of Object.values(correlation)) expect(Math.abs(c)).toBeLessThanOrEqual(1);
      // Batched with others or alone, the vectors are the same.
      const alone = await pooling.read([pairs[2]]);
      for (const [k, v] of row(queries, 2).entries()) expect(alone.queries[k]).toBeCloseTo(v, 4);
    } finally {
      await plain.dispose();
      await pooling.dispose();
    }
  });

  test('the graph is cut before the classifier: its head on the first token gives the logit', async () => {
    const graph = await loadGraph(join(folder, 'onnx/model.onnx'));
    const weights = Object.fromEntries(
      graph.constants
        .filter((v) => /pooler|classifier/.test(v.name))
        .map((v) => [v.name.replace(/^m\./, ''), v.constant?.data as Float32Array]),
    );
    exposeSegments(graph);
    const session = await Session.load(graph);
    const tokens = (await TextTokenizer.load(folder)).encodePair(pairs[0].query, pairs[0].document);
    const dims = [1, tokens.ids.length];
    const tensor = (data: ArrayLike<number>) => ({
      dtype: 'int64' as const,
      dims,
      data: BigInt64Array.from(Array.from(data), BigInt),
    });
    const first = tensor(Array.from(tokens.ids, (_, i) => Number(i === 0)));
    const out = await session.run({
      input_ids: tensor(tokens.ids),
      attention_mask: tensor(Array.from(tokens.ids, () => 1)),
      token_type_ids: tensor(tokens.typeIds),
      query_segment: first,
      document_segment: first,
    });
    await session.release();
    const h = out.pair_queries.data as Float32Array;
    const D = h.length;
    let logit = weights['classifier.bias'][0];
    for (let r = 0; r < D; r++) {
      let z = weights['bert.pooler.dense.bias'][r];
      for (let k = 0; k < D; k++) z += weights['bert.pooler.dense.weight'][r * D + k] * h[k];
      logit += weights['classifier.weight'][r] * Math.tanh(z);
    }
    expect(logit).toBeCloseTo(Number(out.logits.data[0]), 3);
  });
});
