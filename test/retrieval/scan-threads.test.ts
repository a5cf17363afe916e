/** @file Scans on several threads: the scores of one thread to the bit, of every codec, and of memories that come and go. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { type CodecName, codecs } from '../../retrieval/codecs/index.ts';
import { place } from '../../retrieval/codecs/kernel.ts';
import { scanThreads } from '../../retrieval/codecs/scan-threads.ts';
import { IndexStore } from '../../retrieval/store/store.ts';

const before = { ...scanThreads };
const folder = mkdtempSync(join(tmpdir(), 'threads-'));
beforeAll(() => Object.assign(scanThreads, { fromBytes: 4096, most: 3 }));
afterAll(() => {
  Object.assign(scanThreads, before);
  rmSync(folder, { recursive: true, force: true });
});

const D = 96;
const N = 60_000;
const random = Random.of(6, 'threads');
const floats = (n: number): Float32Array => Float32Array.from({ length: n }, () => random.normal());
const data = floats(N * D);

test.each(Object.keys(codecs) as CodecName[])('%s: any part of the rows, in any order of queries', (name) => {
  const codec = codecs[name];
  // Enough for 256 centroids: more rows teach longer and test nothing more.
  const sample = { data: data.subarray(0, 300 * D), dimensions: D };
  const learned = codec.learn(sample, 0);
  const rows = name.startsWith('pq') ? 2000 : N;
  const codes = codec.encode({ data: data.subarray(0, rows * D), dimensions: D }, learned);
  scanThreads.most = 1;
  const alone = place(codes.slice());
  scanThreads.most = 3;
  const shared = place(codes.slice());
  expect(alone.buffer).toBeInstanceOf(ArrayBuffer);
  expect(shared.buffer).toBeInstanceOf(SharedArrayBuffer);
  for (let q = 0; q < 12; q++) {
    const query = floats(D);
    const [from, to] = q % 3 ? [random.integer(rows / 2), rows - random.integer(rows / 3)] : [0, rows];
    const [a, b] = [new Float32Array(to - from), new Float32Array(to - from)];
    codec.scorer(query, learned)(alone, from, to, a);
    codec.scorer(query, learned)(shared, from, to, b);
    expect(Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer))).toBe(0);
  }
});

test('an index in shared memory is written, joined and opened as any', async () => {
  const dir = join(folder, 'index');
  const settings = { codec: 'int8', rescore: { codec: 'float32', count: 30 } } as const;
  const store = await IndexStore.create(dir, { dimensions: D, settings });
  for (let at = 0; at < 900; at += 300)
    await store.add(
      Array.from({ length: 300 }, (_, i) => ({ id: `d${at + i}` })),
      data.subarray(at * D, (at + 300) * D),
    );
  await store.remove(['d5']);
  const found = store.search(data.slice(7 * D, 8 * D), 20);
  await store.compact();
  const again = await IndexStore.open(dir);
  for (const index of [store, again]) expect(index.search(data.slice(7 * D, 8 * D), 20)).toEqual(found);
});
