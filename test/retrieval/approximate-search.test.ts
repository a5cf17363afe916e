/** @file The approximate index, held against a plain loop. */
import { expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { measureIndex } from '../../retrieval/approximate-search.ts';

test('finds nearly all of the exact nearest, and none that are not there', async () => {
  const random = Random.of(1, 'test');
  const rows = (n: number): Float32Array => Float32Array.from({ length: n * 16 }, () => random.normal() / 4);
  const [queries, documents] = [rows(30), rows(2000)];
  const found = await measureIndex(queries, documents, 16, { k: 5, expansionSearch: 400, expansionAdd: 400 });
  expect(found).toMatchObject({ name: 'usearch', documents: 2000, dimensions: 16, k: 5 });
  expect(found.recall).toBeGreaterThan(0.9);
  expect(found.recall).toBeLessThanOrEqual(1);
  // A search that looks nowhere finds little: the recall is measured, not assumed.
  const careless = await measureIndex(queries, documents, 16, {
    k: 5,
    expansionSearch: 1,
    expansionAdd: 2,
    connectivity: 2,
  });
  expect(careless.recall).toBeLessThan(found.recall);
  expect((await measureIndex(queries, documents.subarray(0, 48), 16, { k: 10 })).k).toBe(3);
});
