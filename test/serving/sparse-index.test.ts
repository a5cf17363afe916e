/** @file An index of a sparse student: search by impacts, documents that come and go, the verbs, the server, and what is refused. */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openDataset } from '../../data/open.ts';
import { distill as run } from '../../pipelines/distill.ts';
import { ImpactIndex } from '../../retrieval/sparse/impact-index.ts';
import { startServer } from '../../search/serve.ts';
import {
  createIndex,
  createSparseIndex,
  openEncoder,
  openIndex,
  openSparseEncoder,
  SparseIndex,
} from '../../serving/index.ts';
import { distill } from '../cli/world.ts';
import { makeWorld, type World } from '../pipelines/world.ts';
import { everyFile } from './damages.ts';

let world: World;
let student: string;
let own: { id: string; text: string; metadata: { section: string } }[];
let asked: string[];
const at = (name: string): string => join(world.folder, name);

beforeAll(async () => {
  world = await makeWorld();
  const { checkpoint } = await run({
    output: at('run'),
    cache: at('cache'),
    data: { path: world.data },
    teacher: { kind: 'cross-encoder', model: world.crossEncoder },
    student: { sparse: { columns: 64 }, model: world.dualEncoder, queryTokens: 12, documentTokens: 40 },
    candidates: { source: 'bm25', count: 4 },
    train: { steps: 1, batchSize: 4, candidates: 2, evaluateEvery: null, threads: 1, provider: 'cpu' },
    evaluate: { teacher: false, bm25: false },
  });
  student = checkpoint;
  const { documents, queries } = await openDataset(world.data);
  own = Array.from({ length: documents.length }, (_, i) => ({
    id: documents.ids[i],
    text: documents.text(i),
    metadata: { section: i % 3 ? 'net' : 'graphics' },
  }));
  asked = Array.from({ length: queries.length }, (_, i) => queries.text(i)).slice(0, 12);
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

let n = 0;
async function made(documents = own): Promise<SparseIndex> {
  const index = await createSparseIndex(at(`index${n++}`), { encoder: student });
  await index.add(documents);
  return index;
}

/** What an inverted index in memory finds, over weights that are rounded to two digits. */
async function expected(documents: typeof own, k: number) {
  const encoder = await openSparseEncoder(student);
  const { offsets, ids, weights } = await encoder.documentWeights(documents.map((d) => d.text));
  const rounded = weights.map((w) => Math.round(w * 100));
  const index = ImpactIndex.of({ offsets, ids, weights: rounded }, encoder.vocabulary);
  const found = encoder.queryWeights(asked).map((query) => {
    const { indices, scores } = index.search(query, k);
    return Array.from(indices, (d, i) => ({ ...documents[d], score: expect.closeTo(scores[i] / 100, 4) }));
  });
  await encoder.dispose();
  return found;
}

test('search: the documents and sums of an inverted index in memory, without a session for queries', async () => {
  const index = await made();
  expect(await index.searchMany(asked, 7)).toEqual(await expected(own, 7));
  expect(index.postings.count).toBeGreaterThan(own.length);
  expect([index.size, index.hybrid, index.settings]).toEqual([own.length, false, undefined]);
  const filtered = await index.search(asked[0], 1000, { filter: { section: 'graphics' } });
  const all = await index.search(asked[0], 1000);
  expect(filtered).toEqual(all.filter((d) => (d.metadata as { section: string }).section === 'graphics'));
  expect(filtered.length).toBeGreaterThan(0);
  expect(await index.search('', 5)).toEqual([]);
  await expect(index.search('a', 0)).rejects.toThrow('a search for 0 documents: expected a whole number above 0');
  await index.close();
});

test('added, replaced, removed, joined, and there when opened again', async () => {
  const index = await made(own.slice(0, 60));
  await index.add(own.slice(60));
  const moved = { ...own[3], text: own[9].text };
  await index.replace(moved);
  expect(await index.remove([own[5].id, 'nobody'])).toBe(1);
  const there = [...own.filter((_, i) => i !== 3 && i !== 5), moved];
  const found = await expected(there, 6);
  expect(await index.searchMany(asked, 6)).toEqual(found);
  await expect(index.replace({ id: 'nobody', text: 'a' })).rejects.toThrow("no document 'nobody' to replace");
  const { folder, key } = index;
  const reader = await openIndex(folder);
  expect(reader).toBeInstanceOf(SparseIndex);
  expect(reader.key).toBe(key);
  expect(await reader.searchMany(asked, 6)).toEqual(found);
  await expect(reader.remove(['d1'])).rejects.toThrow('is in use by process');
  await index.compact();
  expect(await index.searchMany(asked, 6)).toEqual(found);
  await index.close();
  // The files that it had open are there until it reads again.
  expect(await reader.remove([moved.id])).toBe(1);
  expect(await reader.searchMany(asked, 6)).toEqual(await expected(there.slice(0, -1), 6));
  await reader.close();
});

test('queries of no known token, one document, none at all, a k above all memory, and metadata that is too deep', async () => {
  const index = await made([{ ...own[0], id: '\u{1F600} ü/\u0000"' }]);
  for (const k of [1, 2, Number.MAX_SAFE_INTEGER])
    expect((await index.search(own[0].text, k)).map((d) => d.id)).toEqual(['\u{1F600} ü/\u0000"']);
  for (const text of ['', ' \n', '\u{1F600}', '\u0000']) expect((await index.search(text, 5)).length).toBeLessThan(2);
  let deep: unknown = 1;
  for (let i = 0; i < 20_000; i++) deep = { deep };
  const document = { id: own[1].id, text: own[1].text, metadata: deep };
  await expect(index.add([document])).rejects.toThrow('nested more than 200 levels deep; keep it flatter');
  await expect(index.add([{ id: '\ud800', text: 'a' }])).rejects.toThrow('half of a surrogate pair: expected');
  const encode = vi.spyOn(index.encoder, 'documentWeights');
  const weights = { offsets: Int32Array.of(0, 2), ids: Int32Array.of(1, 2), weights: Float32Array.of(1, Number.NaN) };
  encode.mockImplementation(async () => weights as never);
  await expect(index.add([own[1]])).rejects.toThrow('the weight of a token is not finite');
  encode.mockRestore();
  await index.add([own[1], { id: '\ufffd', text: 'a' }]);
  expect([index.has('\ud800'), await index.remove(['\ud801']), await index.remove(['\ufffd'])]).toEqual([false, 0, 1]);
  expect(await index.missing([own[1], document])).toEqual([document]);
  expect(await index.remove([own[1].id, '\u{1F600} ü/\u0000"'])).toBe(2);
  for (const options of [{}, { filter: { section: 'net' } }])
    expect(await index.search(own[0].text, 1e9, options)).toEqual([]);
  await index.compact();
  expect(await index.search(own[0].text, 1e9)).toEqual([]);
  await index.add([own[2]]);
  await index.close();
  const again = await openIndex(index.folder);
  expect((await again.search(own[2].text, 1e9)).map((d) => d.id)).toEqual([own[2].id]);
  await again.close();
});

test('every file: deleted, cut, changed, or of another index', async () => {
  const [index, other] = [await made(own.slice(0, 12)), await made(own.slice(4, 20))];
  await index.close();
  await other.close();
  await everyFile(index.folder, [other.folder], async () => {
    const again = await openIndex(index.folder);
    try {
      return await again.searchMany(asked, 5);
    } finally {
      await again.close();
    }
  });
});

describe('the verbs', () => {
  test('index, index again, search, search with a filter', async () => {
    const folder = at('by-verb');
    const argv = ['index', student, '--data', world.data, '--output', folder];
    const first = await distill(...argv);
    expect([first.code, first.out]).toEqual([
      0,
      expect.stringMatching(/120 embedded, 0 already in the index; \d+ post/),
    ]);
    expect((await distill(...argv)).out).toContain('0 embedded, 120 already in the index');
    const found = await distill('search', folder, asked[0], '-k', '3', '--json');
    const [line] = found.out
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l));
    const index = await openIndex(folder);
    expect(line.documents).toEqual(JSON.parse(JSON.stringify(await index.search(asked[0], 3))));
    await index.close();
    expect((await distill('search', folder, asked[0], '--where', 'section=nowhere')).out.trim()).toBe('');
    const int8 = await distill(...argv, '--dtype', 'int8');
    expect([int8.code, int8.err]).toEqual([2, expect.stringContaining('made with another dtype or other limits')]);
  });

  test.each([
    [['--codec', 'int8'], '--codec with the sparse student'],
    [['--index', 'usearch'], '--index with the sparse student'],
    [['--recall', '0.9'], '--recall with the sparse student'],
    [['--no-lexical'], '--no-lexical with the sparse student'],
    [['--no-tokens'], '--no-tokens with the sparse student'],
    [['--to', 'lancedb:a'], '--to with the sparse student'],
    [['--dtype', 'q4'], "no file of dtype 'q4' of a sparse student: expected fp32 or int8"],
  ])('%j is refused', async (more, why) => {
    const said = await distill('index', student, '--data', world.data, '--output', at('refused'), ...more);
    expect([said.code, said.err]).toEqual([2, expect.stringContaining(why)]);
    expect(existsSync(at('refused/search.json'))).toBe(false);
  });

  test('a cascade and a semantic cache are refused', async () => {
    const index = await made(own.slice(0, 5));
    await index.close();
    const common = ['--data', world.data, '--output', at('never.json')];
    const cache = await distill('semantic-cache', index.folder, ...common);
    expect([cache.code, cache.err]).toEqual([2, expect.stringContaining('queries have no vectors to be compared')]);
    const cascade = await distill('cascade', '--student', student, '--teacher', world.crossEncoder, ...common);
    expect([cascade.code, cascade.err]).toEqual([2, expect.stringContaining('is a sparse student')]);
  });
});

test('a server: searches, weights as text-embeddings-inference gives them, documents that come and go', async () => {
  const index = await made(own.slice(0, 40));
  await index.close();
  const server = await startServer({ index: index.folder });
  const ask = async (path: string, body: object) => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: response.status, json: JSON.parse(await response.text()) };
  };
  try {
    const encoder = await openSparseEncoder(student);
    const [query] = encoder.queryWeights([asked[0]]);
    const sparse = await ask('/embed_sparse', { inputs: asked[0] });
    const tokens = Array.from(query.ids, (index, i) => ({ index, value: query.weights[i] }));
    expect(sparse).toEqual({ status: 200, json: [tokens.sort((a, b) => a.index - b.index)] });
    const two = await ask('/embed_sparse', { inputs: [own[0].text, own[1].text], prompt_name: 'document' });
    const { offsets, ids, weights } = await encoder.documentWeights([own[0].text, own[1].text]);
    for (const d of [0, 1])
      expect(two.json[d]).toEqual(
        Array.from(ids.subarray(offsets[d], offsets[d + 1]), (index, i) => ({
          index,
          value: expect.closeTo(weights[offsets[d] + i], 5),
        })),
      );
    await encoder.dispose();
    expect(await ask('/embed', { inputs: 'a' })).toEqual({
      status: 424,
      json: { error: expect.stringContaining('ask /embed_sparse'), error_type: 'Backend' },
    });
    expect((await ask('/similarity', { inputs: { source_sentence: 'a', sentences: ['b'] } })).status).toBe(424);
    expect(await (await fetch(`${server.url}/info`)).json()).toMatchObject({
      model_dtype: 'float32',
      model_type: { embedding: { pooling: 'splade' } },
      max_input_length: 12,
    });
    const small = await openSparseEncoder(student, { dtype: 'int8' });
    expect(await small.describe()).toMatchObject({ dtype: 'int8', documentTokens: 40 });
    await small.dispose();
    const more = Array.from({ length: 8 }, (_, i) => own.slice(40 + 10 * i, 50 + 10 * i));
    for (const found of await Promise.all([
      ...more.map((some) => ask('/documents', some)),
      ...asked.map((query) => ask('/search', { query })),
    ]))
      expect(found.status).toBe(200);
    // Read as text: what reads a body by recursion would end with a stack overflow.
    const deep = `[{"id":"deep","text":"a","metadata":${'['.repeat(20_000)}${']'.repeat(20_000)}}]`;
    const headers = { 'content-type': 'application/json' };
    for (const path of ['/documents', '/search', '/embed_sparse', '/rerank']) {
      const refused = await fetch(server.url + path, { method: 'POST', headers, body: deep });
      expect([path, refused.status, await refused.text()]).toEqual([path, 422, expect.stringContaining('200 levels')]);
    }
    for (const filter of ['{"__proto__":"x"}', '{"\\u005f_proto__":"x"}']) {
      const body = `{"query":"a","filter":${filter}}`;
      const refused = await fetch(`${server.url}/search`, { method: 'POST', headers, body });
      expect([refused.status, await refused.text()]).toEqual([422, expect.stringContaining('named __proto__')]);
    }
    const searched = await ask('/search', { query: asked[1], k: 4 });
    const scores = (await expected(own, 4))[1].map((d) => d.score);
    expect(searched.json.documents.map((d: { score: number }) => d.score)).toEqual(scores);
    const gone = await fetch(`${server.url}/documents/${own[0].id}`, { method: 'DELETE' });
    expect(await gone.json()).toEqual({ removed: 1, documents: own.length - 1 });
    const none = await ask('/search', { query: asked[1], filter: { section: 'nowhere' } });
    expect(none.json).toEqual({ documents: [] });
  } finally {
    await server.close();
  }
});

describe('refused', () => {
  test('another encoder than it was made with', async () => {
    const index = await made(own.slice(0, 5));
    await index.close();
    const other = at('other');
    cpSync(student, other, { recursive: true });
    await (await openIndex(index.folder, { encoder: other })).close();
    const about = join(other, 'sparse.json');
    const content = JSON.parse(readFileSync(about, 'utf8'));
    for (const prompts of [{ ...content.prompts, query: { before: 'find: ' } }, content.prompts]) {
      writeFileSync(about, JSON.stringify({ ...content, prompts }));
      if (prompts === content.prompts) cpSync(join(other, 'onnx/model_quantized.onnx'), join(other, 'onnx/model.onnx'));
      await expect(openIndex(index.folder, { encoder: other })).rejects.toThrow(
        /is not the (encoder|one) that .* was made with .*; name the right checkpoint/,
      );
    }
    await expect(openIndex(index.folder, { encoder: world.dualEncoder })).rejects.toThrow('has no sparse.json');
  });

  test('a dense use of the folder, and a sparse use of a dense one', async () => {
    await expect(openEncoder(student)).rejects.toThrow('open it with openSparseEncoder');
    await expect(createIndex(at('none'), { encoder: student })).rejects.toThrow(
      'make its index with createSparseIndex',
    );
    await expect(createSparseIndex(at('none'), { encoder: world.dualEncoder })).rejects.toThrow('has no sparse.json');
    const index = await made(own.slice(0, 5));
    await index.close();
    await expect(openIndex(index.folder, { documents: world.dualEncoder })).rejects.toThrow("'documents' is given");
    await expect(createSparseIndex(index.folder, { encoder: student })).rejects.toThrow('is not empty');
  });
});
