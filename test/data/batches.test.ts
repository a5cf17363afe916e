import { describe, expect, test } from 'vitest';
import { padBatch, shapedBatches } from '../../data/batches.ts';

const lengths = Array.from({ length: 500 }, (_, i) => 1 + ((i * 37) % 190));

describe('shaped batches', () => {
  test('on a processor a block is as large as its texts', () => {
    for (const { at, rows, length } of shapedBatches(lengths, 1024, false)) {
      expect(rows).toBe(at.length);
      expect(length).toBe(Math.max(...at.map((i) => lengths[i])));
    }
  });

  test('on a device blocks come in few shapes, hold every text once and stay within the tokens', () => {
    const batches = shapedBatches(lengths, 1024, true);
    expect(batches.flatMap((b) => b.at).sort((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
    expect(new Set(batches.map((b) => `${b.rows} x ${b.length}`)).size).toBeLessThanOrEqual(6);
    for (const { at, rows, length } of batches) {
      expect(rows).toBeGreaterThanOrEqual(at.length);
      expect(length).toBeGreaterThanOrEqual(Math.max(...at.map((i) => lengths[i])));
      expect(rows * length).toBeLessThanOrEqual(1024);
    }
  });

  test('a text longer than the tokens of a batch is a separate batch', () => {
    expect(shapedBatches([100, 3], 64, true).map(({ at, rows, length }) => [at, rows, length])).toEqual([
      [[0], 1, 128],
      [[1], 2, 32],
    ]);
  });

  test('rows that fill up a block read one token of padding and nothing else', () => {
    const b = padBatch([{ ids: Int32Array.of(7, 8), typeIds: Int32Array.of(0, 1) }], 5, { rows: 2, length: 3 });
    expect([...b.ids].map(Number)).toEqual([7, 8, 5, 5, 5, 5]);
    expect([...b.mask].map(Number)).toEqual([1, 1, 0, 1, 0, 0]);
    expect([...b.typeIds].map(Number)).toEqual([0, 1, 0, 0, 0, 0]);
  });
});
