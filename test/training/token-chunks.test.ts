import { expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { CHUNK, rowChunks } from '../../training/batches/token-chunks.ts';

test('each occurrence is in one chunk of its token, padding after the last', () => {
  const random = Random.of(1);
  const ids = BigInt64Array.from({ length: 500 }, () => BigInt(random.integer(2) ? 0 : random.integer(40)));
  const { chunks, places, tokens } = rowChunks(ids);
  expect(places).toHaveLength(chunks * CHUNK);
  const seen = Array.from(places, Number).filter((p) => p < ids.length);
  expect([...seen].sort((a, b) => a - b)).toEqual(Array.from(ids, (_, i) => i));
  for (let k = 0; k < places.length; k++)
    if (places[k] < ids.length) expect(ids[Number(places[k])]).toBe(tokens[Math.floor(k / CHUNK)]);
    else expect(places[k]).toBe(500n);
});

test('counts of chunks are few: steps of like size share the sizes of their buffers', () => {
  const counts = new Set<number>();
  for (let n = 1; n <= 4096; n += 7)
    counts.add(rowChunks(BigInt64Array.from({ length: n }, (_, i) => BigInt(i))).chunks);
  expect(counts.size).toBeLessThanOrEqual(8 * 12);
  for (const n of [5, 100, 1000, 4097]) {
    const { chunks } = rowChunks(BigInt64Array.from({ length: n }, (_, i) => BigInt(i)));
    expect(chunks).toBeGreaterThanOrEqual(n);
    expect(chunks).toBeLessThanOrEqual(Math.ceil(n * 1.25));
  }
});
