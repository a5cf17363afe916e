import { expect, test } from 'vitest';
import { groupForDevice } from '../../training/batches/length-groups.ts';
import { batchOf } from './tiny.ts';

test('a device gets few shapes, and each text is where its place says', () => {
  const { queries, documents } = batchOf(40);
  const batches = [queries, documents[0]];
  const { groups, places } = groupForDevice(batches, 2, 0);
  for (const g of groups) expect([g.rows % 32, g.length % 32]).toEqual([0, 0]);
  const rows = groups.flatMap((g) => Array.from({ length: g.rows }, (_, r) => ({ g, r })));
  for (const [b, batch] of batches.entries())
    for (let r = 0; r < batch.rows; r++) {
      const at = rows[Number(places[b][r])];
      for (let i = 0; i < batch.length; i++) {
        expect(at.g.mask[at.r * at.g.length + i]).toBe(batch.mask[r * batch.length + i]);
        if (batch.mask[r * batch.length + i])
          expect(at.g.ids[at.r * at.g.length + i]).toBe(batch.ids[r * batch.length + i]);
      }
    }
  for (const { g, r } of rows) expect(g.mask[r * g.length]).toBe(1n);
});
