/** @file A graph as a kind of index: what it finds, changes and joins, opened by mapping, and what is refused. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { Random } from '../../math/random.ts';
import { IndexStore } from '../../retrieval/store/store.ts';
import { armsFor, graphArms } from '../../retrieval/tuning/arms.ts';
import { tuneIndex } from '../../retrieval/tuning/tune.ts';
import { checkSettings, type IndexSettings } from '../../retrieval/vector-index.ts';

const root = mkdtempSync(join(tmpdir(), 'graph-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let made = 0;
const folder = (): string => join(root, String(made++));

const D = 32;
const random = Random.of(2, 'graph');
const unit = (n: number): Float32Array => {
  const out = new Float32Array(n * D);
  for (let i = 0; i < n; i++) {
    const row = Array.from({ length: D }, () => random.normal());
    const norm = Math.hypot(...row);
    for (let k = 0; k < D; k++) out[i * D + k] = row[k] / norm;
  }
  return out;
};
const vectors = unit(2000);
const queries = unit(60);
const named = (n: number, from = 0) => Array.from({ length: n }, (_, i) => ({ id: `d${from + i}` }));
const row = (table: Float32Array, i: number): Float32Array => table.slice(i * D, (i + 1) * D);
const graph = (expansion: number): IndexSettings => ({ codec: 'int8', graph: { expansion, from: 100 } });
const graphFiles = (dir: string): string[] => readdirSync(dir).filter((f) => f.startsWith('graph-'));

async function filled(dir: string, settings: IndexSettings, size = 500): Promise<IndexStore> {
  const store = await IndexStore.create(dir, { dimensions: D, settings });
  for (let at = 0; at < 2000; at += size) await store.add(named(size, at), vectors.subarray(at * D, (at + size) * D));
  return store;
}

/** Share of the ten that a scan finds. */
function recall(found: IndexStore, scan: IndexStore): number {
  let n = 0;
  for (let q = 0; q < 60; q++) {
    const exact = new Map(scan.search(row(queries, q), 10).map((f) => [f.id, f.score]));
    for (const { id, score } of found.search(row(queries, q), 10))
      if (exact.has(id)) {
        expect(score).toBe(exact.get(id));
        n++;
      }
  }
  return n / 600;
}

test('finds what a scan finds, with its scores, and more with more candidates; opened again as it was', async () => {
  const scan = await filled(folder(), { codec: 'int8' });
  const dir = folder();
  const store = await filled(dir, graph(200));
  expect(graphFiles(dir)).toHaveLength(4);
  const found = recall(store, scan);
  expect(found).toBeGreaterThan(0.95);
  expect(recall(await filled(folder(), graph(10), 2000), scan)).toBeLessThan(found);
  const again = await IndexStore.open(dir);
  expect(again.search(row(queries, 3), 10)).toEqual(store.search(row(queries, 3), 10));
  // As many as are asked for, though the walk would end before.
  expect(store.search(row(queries, 0), 2000)).toHaveLength(2000);
});

test('removed, replaced, joined and opened again', async () => {
  const dir = folder();
  const store = await filled(dir, graph(300));
  await store.remove(named(500).map((d) => d.id));
  await store.add([{ id: 'd700' }], row(queries, 0));
  expect(store.search(row(queries, 0), 1)[0].id).toBe('d700');
  await store.compact();
  expect(graphFiles(dir)).toHaveLength(1);
  const again = await IndexStore.open(dir);
  for (const index of [store, again]) {
    expect(index.size).toBe(1500);
    const [first] = index.search(row(queries, 0), 5);
    expect(first.id).toBe('d700');
    expect(index.search(row(vectors, 3), 50).some((f) => f.id === 'd3')).toBe(false);
    expect(index.search(row(vectors, 1900), 1)[0].id).toBe('d1900');
  }
});

test('many additions: only small parts are joined, and nothing is lost', async () => {
  const dir = folder();
  const store = await IndexStore.create(dir, { dimensions: D, settings: graph(100) });
  await store.add(named(1500), vectors.subarray(0, 1500 * D));
  for (let i = 0; i < 40; i++)
    await store.add(named(5, 1500 + 5 * i), vectors.subarray((1500 + 5 * i) * D, (1505 + 5 * i) * D));
  await store.remove(['d0', 'd1699']);
  const again = await IndexStore.open(dir);
  expect(again.size).toBe(1698);
  expect(readdirSync(dir).filter((f) => f.startsWith('part-')).length).toBeLessThan(20);
  for (const i of [1, 700, 1499, 1502, 1650, 1698]) expect(again.search(row(vectors, i), 1)[0].id).toBe(`d${i}`);
  expect([...again.documents()].map((d) => d.id)).toEqual(named(1698, 1).map((d) => d.id));
});

test('among what a search for settings tries, and alone where it is asked for', async () => {
  const names = (graphs: boolean) => armsFor(30_000, D, 10, graphs).map((a) => a.name);
  expect(names(true)).toEqual([...names(false), 'graph, int8']);
  expect(armsFor(1000, D, 10, true).some((a) => a.name.startsWith('graph'))).toBe(false);
  const [arm] = graphArms(30_000, 10);
  expect([arm.ladder[0].graph?.expansion, arm.ladder.at(-1)?.graph?.expansion]).toEqual([10, 1000]);
  const ladder = arm.ladder.map((s) => ({ ...s, graph: { expansion: s.graph?.expansion ?? 0, from: 100 } }));
  const documents = { data: vectors, dimensions: D };
  const found = await tuneIndex(documents, queries, { recall: 0.9 }, { k: 5, arms: [{ ...arm, ladder }] });
  expect(found.settings.graph?.expansion).toBeGreaterThan(5);
  expect(found.heldOut.recall).toBeGreaterThan(0.85);
});

describe('refused', () => {
  test.each<[IndexSettings, string]>([
    [{ codec: 'binary', graph: { expansion: 10 } }, 'a graph over binary: expected a codec that keeps vectors'],
    [{ codec: 'int8', graph: { expansion: 0 } }, 'a graph whose expansion is 0: expected a whole number above 0'],
    [{ codec: 'int8', graph: { expansion: 10, connectivity: 1.5 } }, 'a graph whose connectivity is 1.5'],
    [{ codec: 'int8', graph: { expansion: 10 }, cells: { count: 2, probes: 1 } }, 'a graph together with cells'],
    [{ codec: 'int8', graph: { expansion: 10 }, bins: 50 }, 'a graph together with bins'],
    [{ codec: 'int8', graph: { expansion: 10 }, dimensions: 16 }, 'a graph together with dimensions'],
  ])('%o', (settings, why) => {
    expect(() => checkSettings(settings, D)).toThrow(why);
  });

  test('without the package, by name', async () => {
    const dir = folder();
    await filled(dir, graph(50));
    vi.doMock('usearch', () => {
      throw new Error('Cannot find package');
    });
    try {
      await expect(IndexStore.open(dir)).rejects.toThrow(
        /the package usearch cannot be loaded .*; install it with npm install usearch, or make the index again without --index usearch/,
      );
    } finally {
      vi.doUnmock('usearch');
    }
    expect((await IndexStore.open(dir)).size).toBe(2000);
  });
});
