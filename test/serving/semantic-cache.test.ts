/** @file The semantic cache: what it keeps and forgets, the verb, and searches that take earlier answers. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sealed, unsealed } from '../../common/sealed.ts';
import { Random } from '../../math/random.ts';
import { cascade } from '../../search/fit-cascade.ts';
import { streamOf } from '../../search/query-stream.ts';
import { semanticCache } from '../../search/semantic-cache.ts';
import { startServer } from '../../search/serve.ts';
import { inFolder, openCachedSearch } from '../../serving/cached-search.ts';
import { openCascade, openIndex } from '../../serving/index.ts';
import { readSemanticCache, SemanticCache, writeSemanticCache } from '../../serving/semantic-cache.ts';
import { distill, documents, jsonl, makeWorld, queries } from '../cli/world.ts';

let world: string;
const at = (name: string): string => join(world, name);
const MANY = 120;

beforeAll(async () => {
  world = await makeWorld();
  vi.stubEnv('XDG_CACHE_HOME', join(world, 'cache-home'));
  const many = Array.from({ length: MANY }, (_, i) => ({
    _id: `m${i}`,
    text: `${documents[i % 40].text
      .split(' ')
      .slice(i % 5, (i % 5) + 4)
      .join(' ')} ${i}`,
  }));
  writeFileSync(at('data/queries.jsonl'), jsonl([...queries, ...many]));
  const judged = many.map((q, i) => `${q._id}\td${i % 40}\t1\n`).join('');
  writeFileSync(at('data/qrels/dev.tsv'), `query-id\tcorpus-id\tscore\n${judged}`);
  expect((await distill('index', at('dual'), '--data', at('data'), '--output', at('index'))).code).toBe(0);
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(world, { recursive: true, force: true });
});

describe('what is kept', () => {
  const vector = (...v: number[]): Float32Array => Float32Array.from(v);
  test('the nearest answer from the threshold on, lengths left aside; the one not used for longest goes first', () => {
    const cache = new SemanticCache<string>({ dimensions: 2, threshold: 0.99, capacity: 2 });
    cache.put('a', vector(2, 0), 'A');
    cache.put('b', vector(0, 3), 'B');
    expect(cache.find(vector(1, 0.05))).toMatchObject({
      text: 'a',
      answer: 'A',
      similarity: expect.closeTo(0.99875, 4),
    });
    expect(cache.find(vector(1, 1))).toBeUndefined();
    expect([cache.hits, cache.misses]).toEqual([1, 1]);
    cache.put('c', vector(-1, 0), 'C');
    expect([cache.size, cache.same('b'), cache.same('a')?.answer]).toEqual([2, undefined, 'A']);
    expect(cache.same('a', () => false)).toBeUndefined();
    cache.put('a', vector(0, -1), 'A2');
    expect([cache.size, cache.same('a')?.answer, cache.nearest(vector(0, -1))?.answer]).toEqual([2, 'A2', 'A2']);
    cache.clear();
    expect([cache.size, cache.nearest(vector(0, -1))]).toEqual([0, undefined]);
  });
  test('Infinity takes the same text alone; a vector of zeros is near nothing', () => {
    const cache = new SemanticCache<number>({ dimensions: 2, threshold: Number.POSITIVE_INFINITY });
    cache.put('a', vector(1, 0), 1);
    expect(cache.find(vector(1, 0))).toBeUndefined();
    expect(cache.same('a')?.answer).toBe(1);
    expect(cache.nearest(vector(0, 0))?.similarity ?? 0).toBe(0);
  });
});

test('the stream: words dropped and swapped, repeats and new ones', () => {
  const stream = streamOf(
    Array.from({ length: 400 }, (_, i) => `alpha beta gamma ${i}`),
    Random.of(0, 'stream'),
  );
  const of = (kind: string) => stream.filter((s) => s.kind === kind);
  for (const kind of ['repeat', 'dropped', 'swapped', 'new']) expect(of(kind).length).toBeGreaterThan(60);
  for (const s of of('repeat')) expect(s.earlier).toBe(s.text);
  for (const s of of('dropped')) expect(s.earlier?.split(' ')).toHaveLength(3);
  for (const s of of('swapped')) {
    expect(s.earlier).not.toBe(s.text);
    expect(s.earlier?.split(' ').sort()).toEqual(s.text.split(' ').sort());
  }
  for (const s of of('new')) expect(s.earlier).toBeUndefined();
  expect(streamOf(['one'], Random.of(1))[0].kind).toMatch(/repeat|new/);
});

describe('distill semantic-cache', () => {
  test('prints hits and loss, and writes what was certified', async () => {
    const said = await distill(
      ...['semantic-cache', at('index'), '--data', at('data'), '--risk', '0.1', '--output', at('answers.json')],
    );
    expect([said.code, said.err]).toEqual([0, expect.not.stringContaining('error')]);
    for (const part of [
      'cosine from',
      'same text',
      'came before',
      'a word swapped',
      '* certified',
      'certified on 120 queries',
    ])
      expect(said.out).toContain(part);
    const file = await readSemanticCache(at('answers.json'));
    expect(file.guarantee).toMatchObject({ alpha: 0.1, certified: true, against: 'labels', queries: MANY });
    expect(file.threshold).toBeLessThan(1);
    const own = await semanticCache({
      index: at('index'),
      data: at('data'),
      risk: 0.3,
      labels: false,
      output: at('own.json'),
    });
    expect(own.guarantee).toContain('(by the fresh answer)');
    expect(own.kinds.find((k) => k.kind === 'repeat')).toMatchObject({ hits: 1, lossOfHits: 0, lossOfAll: 0 });
    const few = await semanticCache({ index: at('index'), data: at('data'), risk: 0.001, output: at('few.json') });
    expect(few.guarantee).toBe(
      'nothing could be certified with 120 queries (at least 2374 are needed): only a query with the same text takes an earlier answer',
    );
  });

  test('a search takes what is near, as many documents as asked for, and forgets when documents change', async () => {
    const content = await readSemanticCache(at('answers.json'));
    const index = await openIndex(at('index'));
    await writeSemanticCache(at('near.json'), { ...content, threshold: 0.95 });
    const search = await openCachedSearch<string[]>(at('near.json'), index, index.key);
    let asked = 0;
    const ask = (text: string, k: number) =>
      search.search(text, k, async (vector) => {
        asked++;
        return inFolder(index)
          .searchVector(vector, text, k)
          .map((d) => d.id);
      });
    const first = await ask('open file list', 5);
    expect(first.from).toBeUndefined();
    expect(first.answer).toEqual((await index.search('open file list', 5)).map((d) => d.id));
    expect((await ask('open file list', 5)).from).toEqual({ query: 'open file list', similarity: 1 });
    // The tiny encoder reads mostly which words there are.
    const swapped = await ask('file open list', 5);
    expect(swapped.from?.query).toBe('open file list');
    expect(swapped.from?.similarity).toBeGreaterThanOrEqual(0.95);
    expect(swapped.answer).toEqual(first.answer);
    // More documents than were kept: asked anew.
    expect((await ask('open file list', 8)).answer).toHaveLength(8);
    expect(asked).toBe(2);
    await index.add([{ id: 'new', text: 'open file list' }]);
    expect((await ask('open file list', 5)).from).toBeUndefined();
    expect(asked).toBe(3);
    await index.remove(['new']);
    expect((await ask('open file list', 5)).from).toBeUndefined();
    expect([search.cache.hits, asked]).toEqual([2, 4]);
    await index.close();
  });

  test('in front of a cascade and behind the server', async () => {
    await cascade({
      ...{ student: at('dual'), teacher: at('cross'), data: at('data'), index: at('index'), cache: at('cache') },
      ...{ candidates: 10, risk: 0.3, output: at('cascade.json') },
    });
    const made = await semanticCache({
      ...{ index: at('index'), data: at('data'), cascade: at('cascade.json'), cache: at('cache') },
      ...{ risk: 0.2, output: at('behind.json') },
    });
    expect(made.certified).toBe(true);
    const opened = await openCascade(at('cascade.json'), { index: at('index'), semanticCache: at('behind.json') });
    const fresh = await opened.search('network packet', 4);
    const again = await opened.search('network packet', 4);
    expect(again).toEqual({ ...fresh, pairs: 0, deferred: false, cached: { query: 'network packet', similarity: 1 } });
    expect(opened.drift()).toMatchObject({ served: 2 });
    await opened.close();
    await expect(
      openCascade(at('cascade.json'), { index: at('index'), semanticCache: at('answers.json') }),
    ).rejects.toThrow(`the search is not the one that ${at('answers.json')} was certified for`);

    const server = await startServer({ index: at('index'), semanticCache: at('answers.json') });
    const post = async (query: string) =>
      (
        await fetch(`${server.url}/search`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ query, k: 3 }),
        })
      ).json() as Promise<{ documents: unknown[]; cached?: object }>;
    const one = await post('mail server');
    expect(one.cached).toBeUndefined();
    expect(await post('mail server')).toEqual({ ...one, cached: { query: 'mail server', similarity: 1 } });
    expect(await (await fetch(`${server.url}/metrics`)).text()).toContain('distill_earlier_answers_total 1');
    await server.close();
  });

  test('files and options that are not understood are refused', async () => {
    const text = readFileSync(at('answers.json'), 'utf8');
    const content = JSON.stringify(unsealed(text).value);
    for (const [from, to, why] of [
      ['cache-2"', 'cache-7"', 'format'],
      ['"bits":12', '"bits":99', 'bits'],
      ['"certified":true', '"certified":false', 'says that nothing is certified'],
    ]) {
      expect(content).toContain(from);
      writeFileSync(at('wrong.json'), sealed(JSON.parse(content.replace(from, to))));
      await expect(readSemanticCache(at('wrong.json'))).rejects.toThrow(why);
    }
    for (const [wrong, why] of [
      [text.replace('{', ''), 'not a semantic cache of this version (not JSON)'],
      [text.replace('"bits": 12', '"bits": 11'), '(its checksum differs)'],
    ]) {
      writeFileSync(at('wrong.json'), wrong);
      await expect(readSemanticCache(at('wrong.json'))).rejects.toThrow(why);
    }
    await expect(readSemanticCache(at('nowhere.json'))).rejects.toThrow('there is no file');
    const make = (options: object) =>
      semanticCache({ index: at('index'), data: at('data'), output: at('none.json'), ...options });
    await expect(make({ risk: 0 })).rejects.toThrow('--risk 0');
    await expect(make({ calibrate: 'nothing' })).rejects.toThrow('nothing');
    writeFileSync(at('data/corpus.jsonl'), jsonl(documents.slice(0, 39)));
    await expect(make({ calibrate: 'test' })).rejects.toThrow('holds 40 documents');
    writeFileSync(at('data/corpus.jsonl'), jsonl(documents));
  });
});
