/** @file Postings that an index keeps: BM25 over texts that come and go equals an index made of the texts that are there. */
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { analyzer } from '../../retrieval/analyzer.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { postingsOf } from '../../retrieval/store/postings.ts';
import { IndexStore } from '../../retrieval/store/store.ts';
import { countTerms, StoredBm25 } from '../../retrieval/store/term-search.ts';

const random = Random.of(3, 'postings');
const words = Array.from({ length: 60 }, (_, i) => `${'wörd日'.slice(0, 1 + (i % 5))}word${i}`);
const text = (): string =>
  Array.from({ length: 1 + random.integer(12) }, () => words[Math.min(random.integer(60), random.integer(60))]).join(
    ' ',
  );
const options = { k1: 0.9, b: 0.4, analyzer: { kind: 'words', stemmer: null } } as const;
const own = analyzer(options.analyzer);
const termsOf = (d: { text?: string }) => countTerms(own, d.text as string);
const TERMS = 'words';

const folders: string[] = [];
let folder: string;
beforeEach(() => {
  const dir = mkdtempSync(join(tmpdir(), 'postings-'));
  folders.push(dir);
  folder = join(dir, 'index');
});
afterAll(() => {
  for (const dir of folders) rmSync(dir, { recursive: true, force: true });
});

interface Document {
  id: string;
  text: string;
}
const create = (): Promise<IndexStore> => IndexStore.create(folder, { dimensions: 0, terms: TERMS });
const open = (terms = TERMS): Promise<IndexStore> => IndexStore.open(folder, { terms });
const add = (store: IndexStore, documents: readonly Document[]): Promise<void> =>
  store.add(documents, new Float32Array(0), documents.map(termsOf));

async function same(store: IndexStore, there: readonly Document[]): Promise<void> {
  const index = await bm25({ length: there.length, text: (i) => there[i].text }, options);
  const stored = new StoredBm25(store, options);
  for (let q = 0; q < 20; q++) {
    const query = text();
    const { indices, scores } = index.search(query, 7);
    const found = stored.search(query, 7);
    expect(store.found(found).map((d) => d.id)).toEqual(Array.from(indices, (i) => there[i].id));
    expect(found.scores).toEqual(scores);
    const positions = store.positionsOf(there.map(({ id }) => id));
    expect(stored.scores(query, positions)).toEqual(index.scores(query, Array.from(there.keys())));
  }
  expect(store.size).toBe(there.length);
}

/** Documents that came, went and were replaced. */
async function changed(store: IndexStore): Promise<Document[]> {
  let there: Document[] = [];
  for (let round = 0; round < 4; round++) {
    const more = Array.from({ length: 80 }, (_, i) => ({ id: `d${round}-${i}`, text: text() }));
    await add(store, more);
    there.push(...more);
    const gone = there.filter(() => random.integer(3) === 0);
    await store.remove(gone.map((d) => d.id));
    there = there.filter((d) => !gone.includes(d));
    const replaced = { id: there[0].id, text: text() };
    await add(store, [replaced]);
    there = [...there.slice(1), replaced];
    await same(store, there);
  }
  return there;
}

const files = (kind = 'terms'): string[] =>
  readdirSync(folder)
    .filter((name) => name.startsWith(kind))
    .map((name) => join(folder, name));

test('after additions, removals and replacements, opened again, and joined', async () => {
  const store = await create();
  const there = await changed(store);
  await same(await open(), there);
  await store.compact();
  await same(store, there);
  await same(await open(), there);
  expect([files().length, files('part').length]).toEqual([1, 1]);
});

test('a corpus replaced many times over: small parts are joined with their postings', async () => {
  const store = await create();
  let there: Document[] = [];
  for (let i = 0; i < 120; i++) {
    const document = { id: `d${i % 20}`, text: text() };
    await add(store, [document]);
    there = [...there.filter((d) => d.id !== document.id), document];
  }
  await same(store, there);
  await same(await open(), there);
  expect(files().length).toBe(files('part').length);
});

test('vectors that are encoded again keep their postings', async () => {
  const settings = { codec: 'float32' } as const;
  const store = await IndexStore.create(folder, { dimensions: 2, settings, terms: TERMS });
  const documents = Array.from({ length: 9 }, (_, i) => ({ id: `d${i}`, text: text() }));
  await store.add(
    documents,
    Float32Array.from({ length: 18 }, (_, i) => Math.sin(i)),
    documents.map(termsOf),
  );
  await store.remove(['d2', 'd7']);
  await store.encodeAgain({ codec: 'int8' });
  const there = documents.filter((_, i) => i !== 2 && i !== 7);
  await same(store, there);
  await same(await open(), there);
  await expect(store.add(documents.slice(0, 1), Float32Array.of(1, 2))).rejects.toThrow('no lists of terms for 1');
});

test('numbers of every width come back, and a term that does not occur is not found', () => {
  const rows = [3, 255, 256, 65_535, 65_536, 4_000_000_000].map((n) => new Map([['a', n]]));
  for (let n = 1; n <= rows.length; n++) {
    const postings = postingsOf([...rows.slice(0, n), new Map([['é', 7]])]);
    const list = postings.find('a');
    expect([list?.places, Array.from(list?.values ?? [])]).toEqual([
      Uint32Array.from(rows.slice(0, n).keys()),
      rows.slice(0, n).map((r) => r.get('a')),
    ]);
    expect(Array.from(postings.find('é')?.places ?? [])).toEqual([n]);
    for (const other of ['', 'A', 'aa', 'b', '日']) expect(postings.find(other)).toBeUndefined();
  }
  expect(postingsOf([]).find('a')).toBeUndefined();
});

describe('postings that are not there', () => {
  test.each([
    ['their files are missing', TERMS, () => files()],
    ['one file is missing', TERMS, () => files().slice(0, 1)],
    ['they are of other terms', 'words 2', () => []],
  ] as const)('%s: they are made again, in memory or in the folder', async (_, wanted, lost) => {
    const store = await create();
    const there = await changed(store);
    store.close();
    for (const name of lost()) rmSync(name);
    const inMemory = await open(wanted);
    expect(inMemory.lacksTerms).toBeGreaterThan(0);
    const before = files();
    await inMemory.restoreTerms(wanted, termsOf, { save: false });
    expect(files()).toEqual(before);
    await same(inMemory, there);
    const saved = await open(wanted);
    await saved.restoreTerms(wanted, termsOf, { save: true });
    await same(saved, there);
    const again = await open(wanted);
    expect(again.lacksTerms).toBe(0);
    await same(again, there);
    await add(again, [{ id: 'more', text: words[1] }]);
    await same(again, [...there, { id: 'more', text: words[1] }]);
  });

  test('an index of an earlier version, without any', async () => {
    const earlier = await IndexStore.create(folder, { dimensions: 2 });
    const there = [text(), text()].map((t, i) => ({ id: `d${i}`, text: t }));
    await earlier.add(there, Float32Array.of(1, 0, 0, 1));
    const store = await open();
    expect(store.lacksTerms).toBe(2);
    await store.restoreTerms(TERMS, termsOf, { save: true });
    await same(await open(), there);
    expect((await open()).search(Float32Array.of(1, 0), 1)[0].id).toBe('d0');
  });
});

test('a file that was changed is refused: its tables when it is opened, a list when it is read', async () => {
  const store = await create();
  await add(store, [
    { id: 'a', text: 'one two' },
    { id: 'b', text: 'two two three' },
  ]);
  store.close();
  const [file] = files();
  const content = readFileSync(file);
  const bm = async () => new StoredBm25(await open(), options);
  for (const [at, refusals] of [
    [content.length - 1, ['one', 'two', 'three']],
    [1, ['one']],
  ] as const) {
    const bad = Buffer.from(content);
    bad[at] ^= 4;
    writeFileSync(file, bad);
    for (const word of ['one', 'two', 'three']) {
      const found = bm().then((b) => b.search(word, 3).indices);
      if ((refusals as readonly string[]).includes(word))
        await expect(found).rejects.toThrow(
          /is damaged \(.*checksum.*differs\); restore the folder, or make the index again/,
        );
      else expect((await found).length).toBeGreaterThan(0);
    }
  }
  writeFileSync(file, content.subarray(0, content.length - 8));
  await expect(open()).rejects.toThrow('is damaged (it has');
  writeFileSync(file, content);
  renameSync(file, `${file}.elsewhere`);
  expect((await open()).lacksTerms).toBe(2);
});
