/** @file A cross-encoder cut at a layer: joined from the bottom it is the whole model, and stored states change nothing. */
import { beforeAll, describe, expect, test } from 'vitest';
import { crossEncoder } from '../../../teachers/cross-encoder.ts';
import { splitCrossEncoder } from '../../../teachers/split/split-cross-encoder.ts';
import { makeWorld, type World } from '../../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
const query = 'red lamp from the kitchen';
const documents = [
  'This lamp is red. It stands in the kitchen since last year.',
  'A piano.',
  'This tent is blue and is still in good order, it stands in the garden since last year and the year before.',
];

describe('cut after one of two layers', () => {
  test('read together from the bottom, its logits are those of the whole model', async () => {
    const teacher = await crossEncoder(world.crossEncoder);
    const pairs = documents.map((document, i) => ({ queryId: 'q', documentId: `${i}`, query, document }));
    const expected = await teacher.score(pairs);
    await teacher.dispose();
    const split = await splitCrossEncoder(world.crossEncoder, 1);
    expect([split.below, split.layers, split.width]).toEqual([1, 2, 32]);
    const found = await split.whole(query, documents);
    for (const [i, logit] of expected.entries()) expect(found[i]).toBeCloseTo(logit, 4);
    await split.dispose();
  });

  test('stored states give the same logits as fresh ones, alone and in any batch; the query counts', async () => {
    const split = await splitCrossEncoder(world.crossEncoder, 1);
    const stored = await split.documents(documents);
    const all = await split.score(query, stored);
    for (const [i, text] of documents.entries()) {
      const [fresh] = await split.documents([text]);
      const [alone] = await split.score(query, [fresh]);
      expect(alone).toBeCloseTo(all[i], 4);
      // A state a token of the document and of the special token behind it.
      expect(stored[i].data.length).toBe(stored[i].count * split.width);
    }
    const other = await split.score('guitar', stored);
    expect(Math.abs(other[0] - all[0])).toBeGreaterThan(1e-5);
    await split.dispose();
  });

  test('refuses a layer that is not there, and a model without a logit', async () => {
    await expect(splitCrossEncoder(world.crossEncoder, 2)).rejects.toThrow(/exits after the layers \[2\]/);
    await expect(splitCrossEncoder(world.dualEncoder, 1)).rejects.toThrow();
  });
});
