/** @file Documents of the corpus in a step of a query tower: which are drawn, and what losses make of them. */
import { expect, test } from 'vitest';
import { toLosses } from '../../config/losses.ts';
import { parseConfig } from '../../config/parse.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { losses } from '../../losses/index.ts';
import { Random } from '../../math/random.ts';
import { type BatchSource, type EmbeddingTable, makeBatch } from '../../training/batches/dual-encoder-batch.ts';

const WIDTH = 4;
const table = (rows: number, seed: number) => {
  const random = Random.of(seed);
  return { dimensions: WIDTH, data: Float32Array.from({ length: rows * WIDTH }, () => random.normal()) };
};
/** Two queries with two candidates each; document 9 is relevant to the first and no candidate. */
const source = (documents: number): BatchSource => ({
  examples: {
    queries: Int32Array.of(0, 1),
    offsets: Int32Array.of(0, 2, 4),
    documents: Int32Array.of(3, 4, 4, 5),
    scores: new Float32Array(4),
    labelled: Uint8Array.of(1, 1),
    weights: Float32Array.of(1, 1),
    relevant: (q) => new Set(q === 0 ? [3, 9] : [4]),
  },
  queryTokens: () => ({ ids: Int32Array.of(7), typeIds: Int32Array.of(0) }),
  documentTokens: () => ({ ids: Int32Array.of(7), typeIds: Int32Array.of(0) }),
  padId: 0,
  teacherQueries: table(2, 1),
  teacherDocuments: table(documents, 2),
  frozenDocuments: true,
});
const options = { queries: 2, candidates: 2, documentGroups: 1, seed: 0 };
const rowsOf = (data: Float32Array): string[] =>
  Array.from({ length: data.length / WIDTH }, (_, i) => String([...data.subarray(i * WIDTH, (i + 1) * WIDTH)]));

test.each([
  ['a few of many', 1000, 20, 23],
  ['more than half', 20, 12, 15],
  ['more than there are', 20, 4096, 20],
  ['none', 20, undefined, 3],
])('%s: each document once, the candidates first', (_, documents, sampledDocuments, expected) => {
  const from = source(documents);
  const { documentEmbeddings, arrays, candidates } = makeBatch(from, 0, { ...options, sampledDocuments });
  const all = rowsOf((from.teacherDocuments as EmbeddingTable).data);
  const drawn = rowsOf((documentEmbeddings as Tensor).data as Float32Array).map((row) => all.indexOf(row));
  expect(drawn).toHaveLength(expected);
  expect(new Set(drawn).size).toBe(expected);
  expect(new Set(drawn.slice(0, 3))).toEqual(new Set([3, 4, 5]));
  expect(Math.max(...Array.from(candidates.data as BigInt64Array, Number))).toBeLessThan(3);
  const column = (name: 'owner' | 'inBatch' | 'positives', m: number): number[] =>
    [0, 1].map((b) => ((arrays[name] as Tensor).data as Float32Array)[b * expected + m]);
  for (let m = 0; m < expected; m++) expect(column('owner', m).reduce((a, b) => a + b)).toBe(1);
  for (let m = 3; m < expected; m++) {
    expect(column('positives', m)).toEqual([0, 0]);
    expect(column('inBatch', m)).toEqual([drawn[m] === 9 ? 0 : 1, 1]);
  }
});

test('a step draws the same documents again, and another step others', () => {
  const at = (step: number) => {
    const { documentEmbeddings } = makeBatch(source(1000), step, { ...options, sampledDocuments: 20 });
    return rowsOf((documentEmbeddings as Tensor).data as Float32Array).slice(3);
  };
  expect(at(1)).toEqual(at(1));
  expect(at(1)).not.toEqual(at(2));
});

test('in-batch-kl compares spans with frozen documents of the step, and with no documents that are trained', () => {
  const kl = {
    kind: 'in-batch-kl',
    weight: 2,
    temperature: 0.05,
    studentTemperature: 0.05,
    teacherScores: 'embeddings',
  };
  const [frozen] = toLosses([kl as never], true);
  expect(frozen.extra?.needs).toEqual(['queries', 'documents', 'teacherQueries', 'teacherDocuments']);
  expect(toLosses([kl as never], false)[0].extra).toBeUndefined();
  expect(toLosses([{ ...kl, teacherScores: 'given' } as never], true)[0].extra).toBeUndefined();
});

test('the divergence over documents is the definition in numbers', async () => {
  const [queries, teacherQueries, documents] = [table(3, 3), table(3, 4), table(7, 5)];
  const rows = (t: typeof queries) =>
    Array.from({ length: t.data.length / WIDTH }, (_, i) => [...t.data.subarray(i * WIDTH, (i + 1) * WIDTH)]);
  const softmax = (q: number[], T: number): number[] => {
    const e = rows(documents).map((d) => Math.exp(d.reduce((s, v, i) => s + v * q[i], 0) / T));
    return e.map((v) => v / e.reduce((a, b) => a + b));
  };
  const expected = rows(queries).map((q, b) => {
    const [p, s] = [softmax(rows(teacherQueries)[b], 2), softmax(q, 2)];
    return 4 * p.reduce((sum, v, m) => sum + v * Math.log(v / s[m]), 0);
  });
  const { values } = await losses['in-batch-kl']({ temperature: 2, studentTemperature: 2 }).evaluate({
    queries: rows(queries),
    documents: rows(documents),
    teacherQueries: rows(teacherQueries),
    teacherDocuments: rows(documents),
  });
  values.forEach((v, i) => {
    expect(v).toBeCloseTo(expected[i], 6);
  });
});

const towers = {
  pipeline: 'static-queries',
  data: { path: 'd' },
  embedder: { model: 'm' },
  student: { static: {} },
  losses: [{ kind: 'in-batch-kl' }],
} as const;

test('options that nothing would read are refused with the remedy', () => {
  expect(parseConfig({ ...towers, train: { sampledDocuments: 10, spans: 8 } }).train.sampledDocuments).toBe(10);
  expect(() =>
    parseConfig({ ...towers, losses: [{ kind: 'embedding-matching' }], train: { sampledDocuments: 10 } }),
  ).toThrow("no loss reads the documents of 'train.sampledDocuments'; add in-batch-kl, or remove it");
  const both = { data: { path: 'd' }, student: { model: 's' }, losses: [{ kind: 'info-nce' }] } as const;
  expect(() => parseConfig({ ...both, train: { sampledDocuments: 10 } })).toThrow(
    "'train.sampledDocuments' draws from frozen documents and both towers are trained",
  );
  expect(() => parseConfig({ ...both, train: { average: [0.5] } })).toThrow(
    "'train.average' is chosen on the dev split and nothing is evaluated on it",
  );
});
