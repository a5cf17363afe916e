/** @file An index in a folder: add, replace, remove, open again; damage. */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { sealed, unsealed } from '../../common/sealed.ts';
import { Random } from '../../math/random.ts';
import { type CodecName, codecs } from '../../retrieval/codecs/index.ts';
import { IndexStore } from '../../retrieval/store/store.ts';

const folders: string[] = [];
const folder = (): string => {
  const dir = mkdtempSync(join(tmpdir(), 'index-'));
  folders.push(dir);
  return join(dir, 'index');
};
afterAll(() => {
  for (const dir of folders) rmSync(dir, { recursive: true, force: true });
});

const random = Random.of(1, 'store');
const D = 96;
const unit = (n: number): Float32Array => {
  const out = new Float32Array(n * D);
  for (let i = 0; i < n; i++) {
    const row = Array.from({ length: D }, () => random.normal());
    const norm = Math.hypot(...row);
    out.set(
      row.map((v) => v / norm),
      i * D,
    );
  }
  return out;
};
const named = (n: number, from = 0) =>
  Array.from({ length: n }, (_, i) => ({ id: `d${from + i}`, metadata: { at: from + i } }));
const vectors = unit(300);
const row = (i: number): Float32Array => vectors.slice(i * D, (i + 1) * D);

describe.each([
  ...(Object.keys(codecs) as CodecName[]).map((codec) => ({ codec })),
  { codec: 'binary', rescore: { codec: 'int8', count: 50 } } as const,
  { codec: 'int8', dimensions: 16, rescore: { codec: 'float32', count: 60 } } as const,
  { codec: 'int8', bins: 200 } as const,
  { codec: 'int8', cells: { count: 9, probes: 3 } } as const,
  { codec: 'float32', cells: { count: 400, probes: 1 } } as const,
  { codec: 'float16', graph: { expansion: 300, from: 80 } } as const,
  { codec: 'pq16', rescore: { codec: 'float16', count: 60 }, cells: { count: 5, probes: 2 } } as const,
])('%o', (settings) => {
  test('joined, and with documents gone, it finds what it found', async () => {
    const store = await IndexStore.create(folder(), { dimensions: D, settings });
    for (let at = 0; at < 300; at += 100) await store.add(named(100, at), vectors.subarray(at * D, (at + 100) * D));
    await store.remove(['d0', 'd150', 'd299']);
    const search = () => [7, 120, 290].map((i) => store.search(row(i), 5));
    const before = search();
    await store.compact();
    // Bins hold other documents once others are gone, and of cells of one document more are looked at where some are gone.
    const others = 'bins' in settings || ('cells' in settings && settings.cells?.count === 400);
    if (!others) expect(search()).toEqual(before);
    expect(search().map(([{ id }]) => id)).toEqual(['d7', 'd120', 'd290']);
    const ids = ['d7', 'd298', 'd1'];
    const scores = new Map(store.search(row(7), 297).map((d) => [d.id, d.score]));
    expect(store.scores(row(7), ids)[0]).toBe(scores.get('d7'));
  });
  test('finds each document by its own vector, also when opened again', async () => {
    const dir = folder();
    const store = await IndexStore.create(dir, { dimensions: D, settings });
    await store.add(named(200), vectors.subarray(0, 200 * D));
    await store.add(named(100, 200), vectors.subarray(200 * D));
    const again = await IndexStore.open(dir);
    expect([again.size, again.bytes]).toEqual([300, store.bytes]);
    let first = 0;
    for (let i = 0; i < 300; i += 7) {
      const found = again.search(row(i), 5);
      expect(found).toEqual(store.search(row(i), 5));
      expect(found).toHaveLength(5);
      first += Number(found[0].id === `d${i}`);
    }
    expect(first / 43).toBeGreaterThan(0.85);
  });
});

test('cells: all of them find what a scan finds; few of them still give as many documents as are asked for', async () => {
  const stores = await Promise.all(
    [undefined, { count: 12, probes: 12 }, { count: 12, probes: 1 }].map(async (cells) => {
      const store = await IndexStore.create(folder(), { dimensions: D, settings: { codec: 'float32', cells } });
      await store.add(named(300), vectors);
      return store;
    }),
  );
  const [scan, all, one] = stores.map((s) => s.search(row(9), 20));
  expect(all).toEqual(scan);
  expect(one[0]).toEqual(scan[0]);
  const [, , few] = stores;
  for (const k of [1, 50, 299, 1000]) expect(few.search(row(9), k)).toHaveLength(Math.min(k, 300));
});

test('replacing, removing, joining: what is gone is not found, the rest is', async () => {
  const dir = folder();
  const store = await IndexStore.create(dir, { dimensions: D, settings: { codec: 'float32' } });
  await store.add(named(100), vectors.subarray(0, 100 * D));
  await store.add([{ id: 'd3', text: 'new' }], row(200));
  expect(store.size).toBe(100);
  expect(store.search(row(200), 1)[0]).toMatchObject({ id: 'd3', text: 'new' });
  expect(store.search(row(3), 1)[0].id).not.toBe('d3');
  expect(await store.remove(['d5', 'd5', 'unknown'])).toBe(1);
  expect(store.search(row(5), 100).map((d) => d.id)).not.toContain('d5');
  expect(store.search(row(5), 1000)).toHaveLength(99);
  const before = store.search(row(7), 10);
  await store.compact();
  expect(store.search(row(7), 10)).toEqual(before);
  const again = await IndexStore.open(dir);
  expect([...again.documents()].map((d) => d.id).sort()).toEqual([...store.documents()].map((d) => d.id).sort());
  expect(readdirSync(dir)).toHaveLength(2);
});

test('changes made at the same time are all there, and many parts are joined', async () => {
  const store = await IndexStore.create(folder(), { dimensions: D });
  await Promise.all(Array.from({ length: 60 }, (_, i) => store.add(named(1, i), row(i))));
  expect(store.size).toBe(60);
  for (let i = 0; i < 60; i++) expect(store.search(row(i), 1)[0].id).toBe(`d${i}`);
});

test('encoded again with other settings: the same documents, in them from now on', async () => {
  const dir = folder();
  const store = await IndexStore.create(dir, { dimensions: D, settings: { codec: 'float32' } });
  await store.add(named(200), vectors.subarray(0, 200 * D));
  await store.add(named(100, 200), vectors.subarray(200 * D));
  await store.remove(['d3', 'd250']);
  expect(store.vectors()).toHaveLength(298 * D);
  expect(store.vectors().slice(3 * D, 4 * D)).toEqual(row(4));
  const settings = { codec: 'binary', rescore: { codec: 'int8', count: 80 }, cells: { count: 8, probes: 8 } } as const;
  await store.encodeAgain(settings);
  const again = await IndexStore.open(dir);
  expect([again.size, again.settings]).toEqual([298, settings]);
  expect(again.bytes).toBe(298 * (D / 8 + D + 4));
  expect(readdirSync(dir).filter((name) => name.startsWith('part'))).toHaveLength(1);
  for (const i of [0, 4, 249, 299]) expect(again.search(row(i), 1)[0].id).toBe(`d${i}`);
  await again.add(named(1, 250), row(250));
  expect(again.search(row(250), 1)[0].id).toBe('d250');
  expect(() => again.vectors()).toThrow('holds its vectors as binary, not as they were given');
  await expect(again.encodeAgain({ codec: 'int8' })).rejects.toThrow('make the index again in a new folder');
});

test('an empty index finds nothing; a list that ends before k is shorter', async () => {
  const store = await IndexStore.create(folder(), { dimensions: D });
  expect(store.search(row(0), 10)).toEqual([]);
  await store.add([], new Float32Array(0));
  await store.add(named(2), vectors.subarray(0, 2 * D));
  expect(store.search(row(0), 10)).toHaveLength(2);
});

describe('refusals', () => {
  test('vectors and documents that do not fit', async () => {
    const store = await IndexStore.create(folder(), { dimensions: D });
    await expect(store.add(named(2), row(0))).rejects.toThrow('2 documents with 96 numbers');
    await expect(store.add([{ id: '' }], row(0))).rejects.toThrow('document 0 has no id');
    await expect(store.add([{ id: 'a' }, { id: 'a' }], vectors.subarray(0, 2 * D))).rejects.toThrow(
      "the id 'a' occurs twice",
    );
    await expect(store.add([{ id: 'a' }], row(0).fill(Number.NaN, 3, 4))).rejects.toThrow(
      "the vector of 'a' is not finite",
    );
    expect(() => store.search(new Float32Array(3), 1)).toThrow('a query of 3 numbers');
    // A refusal is not hindrance to what follows.
    await store.add([{ id: 'a' }], row(0));
    expect(store.size).toBe(1);
  });
  test.each([
    [{ count: 0, probes: 1 }, 'an index of 0 cells: expected a whole number from 1 to 65,536'],
    [{ count: 70_000, probes: 1 }, 'an index of 70000 cells'],
    [{ count: 4, probes: 0 }, 'a search of 0 cells: expected a whole number above 0'],
  ])('cells that do not fit: %o', async (cells, message) => {
    await expect(IndexStore.create(folder(), { dimensions: D, settings: { codec: 'int8', cells } })).rejects.toThrow(
      message,
    );
  });
  test('settings that do not fit', async () => {
    await expect(IndexStore.create(folder(), { dimensions: 50, settings: { codec: 'pq16' } })).rejects.toThrow(
      'not a multiple of that',
    );
    await expect(
      IndexStore.create(folder(), { dimensions: 48, settings: { codec: 'int8', dimensions: 64 } }),
    ).rejects.toThrow('an index of 64 dimensions');
    await expect(IndexStore.create(folder(), { dimensions: 48, settings: { codec: 'zip' as 'int8' } })).rejects.toThrow(
      "no encoding 'zip'",
    );
  });
  test('no index, another format, a damaged part, a missing part, names that lead elsewhere', async () => {
    const dir = folder();
    await expect(IndexStore.open(dir)).rejects.toThrow('holds no index');
    const store = await IndexStore.create(dir, { dimensions: D });
    await expect(IndexStore.create(dir, { dimensions: D })).rejects.toThrow('is not empty');
    await store.add(named(10), vectors.subarray(0, 10 * D));
    const manifest = unsealed(readFileSync(join(dir, 'index.json'), 'utf8')).value as { parts: { name: string }[] };
    const part = join(dir, manifest.parts[0].name);
    copyFileSync(part, `${part}.good`);
    const bytes = readFileSync(part);
    bytes[40] ^= 1;
    writeFileSync(part, bytes);
    await expect(IndexStore.open(dir)).rejects.toThrow('its checksum differs');
    rmSync(part);
    await expect(IndexStore.open(dir)).rejects.toThrow('cannot be read (ENOENT)');
    for (const [change, why] of [
      [{ format: 'x' }, 'expected onnx-distill-index-2'],
      [{ parts: [{ name: '../../etc/passwd', count: 1, hash: '' }] }, 'parts'],
      [{ dimensions: -1 }, 'dimensions'],
      [{ removed: 'all' }, 'removed'],
    ] as const) {
      writeFileSync(join(dir, 'index.json'), sealed({ ...manifest, ...change }));
      await expect(IndexStore.open(dir)).rejects.toThrow(why);
    }
    writeFileSync(join(dir, 'index.json'), '{');
    await expect(IndexStore.open(dir)).rejects.toThrow('not JSON');
  });
});
