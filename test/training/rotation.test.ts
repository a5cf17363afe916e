import { expect, test } from 'vitest';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Random } from '../../math/random.ts';
import { prefix, search } from '../../retrieval/exact-search.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import { learnProjection, projected, selectDimensions, selectionMatrix } from '../../training/fewer-dimensions.ts';
import { learnRotation, rotated } from '../../training/rotation.ts';

const [D, WIDTH] = [16, 4];

/** Vectors of few directions, mixed so that each component holds a little of all; queries are near documents. */
function space(): { queries: Embeddings; documents: Embeddings } {
  const random = Random.of(3, 'space');
  const directions = Array.from({ length: WIDTH }, () => Array.from({ length: D }, () => random.normal()));
  const unit = (v: number[]): number[] => {
    const norm = Math.hypot(...v);
    return v.map((x) => x / norm);
  };
  const drawn = (): number[] => directions.map(() => random.normal());
  const vector = (mix: number[], noise: number): number[] =>
    unit(
      Array.from({ length: D }, (_, k) => mix.reduce((s, m, i) => s + m * directions[i][k], noise * random.normal())),
    );
  const mixes = Array.from({ length: 200 }, drawn);
  const table = (rows: number[][]): Embeddings => ({ dimensions: D, data: Float32Array.from(rows.flat()) });
  return {
    documents: table(mixes.map((m) => vector(m, 0.3))),
    queries: table(mixes.slice(0, 100).map((m) => vector(m, 0.3))),
  };
}

/** The share of queries whose best document by whole vectors is the best by prefixes. */
async function kept(q: Embeddings, d: Embeddings, whole: { indices: Int32Array }): Promise<number> {
  const cut = await search(prefix(q.data, D, WIDTH), prefix(d.data, D, WIDTH), WIDTH, 1);
  return whole.indices.filter((v, i) => v === cut.indices[i]).length / whole.indices.length;
}

test('prefixes find what whole vectors find, and whole vectors find what they found', async () => {
  const { queries, documents } = space();
  const R = await learnRotation(queries, documents, { dimensions: [WIDTH], steps: 150, queries: 32, documents: 100 });
  for (let a = 0; a < D; a++)
    for (let b = 0; b < D; b++) {
      let dot = 0;
      for (let k = 0; k < D; k++) dot += R[k * D + a] * R[k * D + b];
      expect(dot).toBeCloseTo(a === b ? 1 : 0, 5);
    }
  const [q, d] = [await rotated(queries, R), await rotated(documents, R)];
  const before = await search(queries.data, documents.data, D, 1);
  const after = await search(q.data, d.data, D, 1);
  for (const [i, s] of after.scores.entries()) expect(s).toBeCloseTo(before.scores[i], 5);
  const [cut, turned] = [await kept(queries, documents, before), await kept(q, d, before)];
  expect(turned).toBeGreaterThan(cut + 0.2);
});

test('the same seed learns the same matrix', async () => {
  const { queries, documents } = space();
  const options = { dimensions: [4], steps: 5, queries: 16, documents: 80 };
  const [a, b, c] = await Promise.all([0, 0, 1].map((seed) => learnRotation(queries, documents, { ...options, seed })));
  expect([...a]).toEqual([...b]);
  expect([...a]).not.toEqual([...c]);
});

test('a width that is not below the whole is refused', async () => {
  const { queries, documents } = space();
  await expect(learnRotation(queries, documents, { dimensions: [D] })).rejects.toMatchObject({
    code: 'rotation.dimensions',
  });
});

test('a learned projection finds more than chosen dimensions', async () => {
  const { queries, documents } = space();
  const options = { keep: WIDTH, steps: 120, queries: 32, documents: 100 };
  const chosen = await selectDimensions(queries, documents, options);
  expect(new Set(chosen).size).toBe(WIDTH);
  const before = await search(queries.data, documents.data, D, 1);
  const share = async (matrix: Tensor<'float32'>): Promise<number> => {
    const [q, d] = [await projected(queries, matrix), await projected(documents, matrix)];
    for (let i = 0; i < 5; i++) expect(Math.hypot(...q.data.subarray(i * WIDTH, (i + 1) * WIDTH))).toBeCloseTo(1, 5);
    const found = await search(q.data, d.data, WIDTH, 1);
    return before.indices.filter((v, i) => v === found.indices[i]).length / before.indices.length;
  };
  const learned = await share(await learnProjection(queries, documents, options));
  expect(learned).toBeGreaterThan(await share(selectionMatrix(chosen, D)));
  await expect(learnProjection(queries, documents, { keep: D })).rejects.toMatchObject({ code: 'rotation.dimensions' });
});

test('Sequential Attention keeps the dimensions that rank', async () => {
  const random = Random.of(8, 'noise');
  // Documents differ in the dimensions 3, 7, 11 and 12 alone; elsewhere all vectors are alike but for noise.
  const informative = [3, 7, 11, 12];
  const table = (rows: number[][]): Embeddings => ({
    dimensions: D,
    data: Float32Array.from(rows.flatMap((r) => r.map((x) => x / Math.hypot(...r)))),
  });
  const means = Array.from({ length: 200 }, () => informative.map(() => random.normal()));
  const row = (i: number): number[] =>
    Array.from({ length: D }, (_, k) => {
      const at = informative.indexOf(k);
      return at < 0 ? 0.02 * random.normal() : means[i][at];
    });
  const all = Array.from({ length: 200 }, (_, i) => i);
  const chosen = await selectDimensions(table(all.slice(0, 100).map(row)), table(all.map(row)), {
    keep: 4,
    queries: 32,
    documents: 100,
  });
  expect(chosen.sort((a, b) => a - b)).toEqual(informative);
});
