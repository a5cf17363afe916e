/** @file What every engine must do: documents written once, found exactly, filtered, replaced and removed; faults in one sentence. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../../../math/random.ts';
import { bm25 } from '../../../retrieval/bm25.ts';
import type { EngineRow, VectorEngine } from '../../../retrieval/engines/engine.ts';
import { facetsOf, wantedFacets } from '../../../retrieval/engines/facets.ts';
import { addressText, engines, openEngine, readAddress } from '../../../retrieval/engines/index.ts';
import { termWeighing } from '../../../retrieval/engines/term-weights.ts';
import { lexicalChannel } from '../../../retrieval/lexical-channel.ts';
import { type TestEngine, testEngines } from './servers.ts';

const D = 24;
const random = Random.of(3, 'engines');
const words = 'open file list process network packet editor text image audio it\u2019s 50%_\\ nul\u0000l'.split(' ');
const strange = [
  'plain',
  'o\'brien "quoted"',
  'naïve 日本語 🙂',
  'a/b?c=d&e#f',
  '%_\\',
  ' spaces ',
  "'; drop table documents; --",
];
const metadata = [
  { section: 'net', year: 2024, free: true },
  { section: 'net', year: '2024' },
  { section: 'o\'b"r' },
  [1],
  null,
];

const channel = await bm25({ length: 60, text: (i) => textOf(i) }, { analyzer: 'english' }).then((index) =>
  lexicalChannel(index, { lambda: 1, scale: 1 }),
);
const weighing = termWeighing(channel);

function textOf(i: number): string {
  const own = Random.of(i, 'text');
  return Array.from({ length: 3 + (i % 9) }, () => words[own.integer(words.length)]).join(' ');
}
const vectors = Array.from({ length: 61 }, () => Float32Array.from({ length: D }, () => random.normal()));
const rowOf = (i: number, text = textOf(i)): EngineRow => ({
  ...{ id: strange[i] ?? `d${i}`, text, vector: vectors[i], hash: `hash${i}${text.length}` },
  ...(metadata[i % 6] !== undefined && { metadata: metadata[i % 6] }),
  ...{ terms: weighing.document(text), facets: facetsOf(metadata[i % 6]) },
});
const rows = Array.from({ length: 60 }, (_, i) => rowOf(i));
const product = (a: Float32Array, b: Float32Array): number => a.reduce((s, v, i) => s + v * b[i], 0);
const query = vectors[60];
const ranked = (some: readonly EngineRow[]) =>
  some.map((r) => ({ id: r.id, score: product(query, r.vector) })).sort((a, b) => b.score - a.score);

test('every engine of the registry is tested', () => {
  const tested = new Set(Object.keys(testEngines).map((name) => name.split(',')[0]));
  const named = Object.keys(engines).map((scheme) => scheme.replace(/^(postgres)ql:$/, '$1:').replace(/s?:$/, ''));
  expect(new Set(named.map((n) => (n === 'postgre' ? 'postgres' : n)))).toEqual(tested);
});

describe.each(Object.entries(testEngines))('%s', (_, start) => {
  let server: TestEngine;
  let engine: VectorEngine;
  beforeAll(async () => {
    server = await start();
    engine = await openEngine(readAddress(server.address, 'some_texts'));
  });
  afterAll(async () => {
    await engine?.close();
    await server?.close();
  });

  test('made once, and described as it was made', async () => {
    expect(await engine.about()).toBeUndefined();
    const about = JSON.stringify({ made: 'it\'s \\ "so" é' });
    await engine.create(about, D);
    expect(await engine.about()).toBe(about);
    expect(await engine.size()).toBe(0);
    expect(await engine.nearest(query, { k: 5, facets: [] })).toEqual([]);
    expect(await engine.matching(weighing.query('open'), { k: 5, facets: [] })).toEqual([]);
    const other = await openEngine(readAddress(server.address, 'some_texts'));
    expect(await other.about()).toBe(about);
    await other.close();
  });

  test('written twice, there once; hashes and documents as they were given', async () => {
    await engine.put(rows.slice(0, 40));
    await engine.put(rows.slice(20));
    await engine.put([]);
    await engine.settle();
    expect(await engine.size()).toBe(60);
    expect(await engine.hashes([...rows.map((r) => r.id), 'nobody'])).toEqual(new Map(rows.map((r) => [r.id, r.hash])));
    expect(await engine.hashes([])).toEqual(new Map());
    const found = await engine.get([...rows.map((r) => r.id), 'nobody']);
    const byId = new Map(found.map((d) => [d.id, d]));
    expect(found).toHaveLength(60);
    for (const { id, text, metadata: given } of rows) {
      const kept = engine.name.startsWith('postgres') ? text.replaceAll('\u0000', '\ufffd') : text;
      const own = byId.get(id);
      expect([own?.id, own?.text, own?.metadata ?? null]).toEqual([id, kept, given ?? null]);
    }
  });

  test('the nearest are those of exact search, with its products', async () => {
    const expected = ranked(rows);
    const found = await engine.nearest(query, { k: 10, facets: [] });
    expect(found.map((h) => h.document.id)).toEqual(expected.slice(0, 10).map((e) => e.id));
    for (const [i, h] of found.entries()) expect(Math.abs(h.score - expected[i].score)).toBeLessThan(1e-5);
    expect(await engine.nearest(query, { k: 1000, facets: [] })).toHaveLength(60);
    const some = [rows[1].id, rows[30].id, rows[59].id];
    const products = await engine.products(query, [...some, 'nobody']);
    expect([...products.keys()].sort()).toEqual([...some].sort());
    for (const id of some)
      expect(
        Math.abs((products.get(id) as number) - (expected.find((e) => e.id === id)?.score as number)),
      ).toBeLessThan(1e-5);
    expect(await engine.products(query, [])).toEqual(new Map());
  });

  test('documents that share a term with the query, and no other', async () => {
    const asked = weighing.query('open the images');
    const sharing = rows.filter((r) => r.terms.terms.some((t) => asked.terms.includes(t)));
    const found = await engine.matching(asked, { k: 100, facets: [] });
    expect(found.map((h) => h.document.id).sort()).toEqual(sharing.map((r) => r.id).sort());
    for (let i = 1; i < found.length; i++) expect(found[i].score).toBeLessThanOrEqual(found[i - 1].score);
    if (engine.finds.matching === 'exact')
      for (const h of found) {
        const { text } = rows.find((r) => r.id === h.document.id) as EngineRow;
        expect(h.score).toBeCloseTo(weighing.score(asked, text), 5);
      }
    expect(await engine.matching(weighing.query(''), { k: 5, facets: [] })).toEqual([]);
    expect(await engine.matching(weighing.query('quagga'), { k: 5, facets: [] })).toEqual([]);
  });

  test.each([
    [{ section: 'net' }],
    [{ section: 'net', year: 2024 }],
    [{ year: '2024' }],
    [{ free: true }],
    [{ section: 'o\'b"r' }],
    [{ section: 'none' }],
  ])('filtered by %j', async (filter) => {
    const facets = wantedFacets(filter);
    const fitting = rows.filter((r) => facets.every((f) => r.facets.includes(f)));
    const found = await engine.nearest(query, { k: 60, facets });
    expect(found.map((h) => h.document.id)).toEqual(ranked(fitting).map((r) => r.id));
    const lexical = await engine.matching(weighing.query('open file list text'), { k: 60, facets });
    expect(lexical.every((h) => fitting.some((r) => r.id === h.document.id))).toBe(true);
  });

  test('replaced and removed', async () => {
    await engine.put([{ ...rowOf(8), text: 'okapi', vector: query, hash: 'new', terms: weighing.document('okapi') }]);
    expect(await engine.size()).toBe(60);
    const [first] = await engine.nearest(query, { k: 1, facets: [] });
    expect(first.document).toMatchObject({ id: 'd8', text: 'okapi' });
    expect(first.score).toBeCloseTo(product(query, query), 4);
    expect((await engine.matching(weighing.query('okapi'), { k: 3, facets: [] })).map((h) => h.document.id)).toEqual([
      'd8',
    ]);
    expect(await engine.remove(['d8', strange[1], strange[6], 'nobody'])).toBe(3);
    expect(await engine.remove([])).toBe(0);
    expect(await engine.size()).toBe(57);
    const left = await engine.nearest(query, { k: 60, facets: [] });
    expect(left.map((h) => h.document.id)).toEqual(
      ranked(rows.filter((r) => !['d8', strange[1], strange[6]].includes(r.id))).map((r) => r.id),
    );
  });

  test('what it says it holds: long ids, the character 0, long fields and terms; metadata as it was given', async () => {
    const { idBytes = 20_000, zero } = engine.holds;
    const long = Array.from({ length: 40_000 }, () => String.fromCharCode(97 + random.integer(26))).join('');
    const id = (zero ? '\0' : '') + long.slice(0, idBytes - Number(zero));
    const given = { story: long, 'a\0': ['b\0', null] };
    const facets = [...facetsOf(given), ...facetsOf({ story: long.slice(0, 2700) })];
    const terms = { terms: [long.slice(0, 5000)], weights: [1], counts: [1] };
    const row = { ...rowOf(11), id, text: zero ? 'a\0b' : 'ab', metadata: given, facets, terms };
    await engine.put([row, { ...rowOf(12), id: 'nothing', metadata: null }]);
    expect(await engine.get([id])).toEqual([{ id, text: row.text, metadata: given }]);
    expect(await engine.get(['nothing'])).toMatchObject([{ metadata: null }]);
    const [hit, ...others] = await engine.nearest(query, { k: 5, facets: wantedFacets({ story: long }) });
    expect([hit.document.id, others.length]).toEqual([id, 0]);
    expect(await engine.nearest(query, { k: 5, facets: wantedFacets({ story: `${long}x` }) })).toEqual([]);
    expect(await engine.remove([id, 'nothing'])).toBe(2);
  });

  test('vectors of another width are refused, and nothing is written', async () => {
    const row = { ...rowOf(10), id: 'wide', vector: new Float32Array(D + 1) };
    await expect(engine.put([row])).rejects.toThrow(`${engine.name} failed`);
    expect(await engine.size()).toBe(57);
  });

  test('what passes is tried again; what does not is one sentence', async () => {
    if (!server.server) return;
    server.server.fail(2, 503);
    server.server.fail(1, 0);
    expect(await engine.size()).toBe(57);
    server.server.fail(1, 400, { status: { error: 'no such thing' }, error: { reason: 'no such thing' } });
    await expect(engine.size()).rejects.toThrow(`${engine.name} failed: `);
    server.server.fail(1, 401);
    await expect(engine.size()).rejects.toThrow(/denies access .*; set (QDRANT|OPENSEARCH)_.* in the environment$/);
    expect(await engine.size()).toBe(57);
  });
});

describe('addresses', () => {
  test.each([
    ['redis://localhost', "the engine 'redis://localhost': expected an address that begins with one of postgres:"],
    ['nonsense', 'expected an address that begins with'],
    ['postgres://me:hidden@localhost/db', 'the address of the engine at localhost holds a password'],
    ['qdrant://localhost:6333?api_key=hidden', 'holds a api_key'],
  ])('%s', (address, why) => {
    expect(() => readAddress(address)).toThrow(why);
    try {
      readAddress(address);
    } catch (error) {
      expect((error as Error).message).not.toContain('hidden');
    }
  });

  test('a collection of another name, and what is kept of an address', () => {
    expect(() => readAddress('qdrant://localhost', 'My-Texts')).toThrow('at most 40 small letters, digits and _');
    expect(addressText(readAddress('lancedb:/data/with space'))).toBe('lancedb:/data/with space');
    expect(addressText(readAddress('lancedb:s3://bucket/path'))).toBe('lancedb:s3://bucket/path');
    expect(addressText(readAddress('postgres://me@host:1/db?sslmode=require'))).toBe(
      'postgres://me@host:1/db?sslmode=require',
    );
  });

  test.each(['postgres://me@127.0.0.1:59999/db', 'qdrant://127.0.0.1:59999', 'opensearch://127.0.0.1:59999'])(
    '%s: nobody answers',
    async (address) => {
      await expect(openEngine(readAddress(address))).rejects.toThrow(
        /nobody answers at .*127\.0\.0\.1:59999.*; start the engine/,
      );
    },
  );
});
