import { expect, test } from 'vitest';
import { Random } from '../../common/random.ts';
import { CHUNK, rowChunks } from '../../training/row-chunks.ts';

test('each occurrence stands in one chunk of its own token, padding after the last', () => {
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
