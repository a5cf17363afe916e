/** @file A server on a free port: shapes of answers, limits, mistakes of callers, documents added while it searches. */

import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Encoder } from '../../models/encoder.ts';
import { cascade } from '../../search/fit-cascade.ts';
import { type RunningServer, startServer } from '../../search/serve.ts';
import { embedBody } from '../../serving/http/bodies.ts';
import { WorkQueue } from '../../serving/http/limits.ts';
import { openEncoder, openIndex, openReranker } from '../../serving/index.ts';
import { distill, documents, makeWorld, write } from '../cli/world.ts';

let world: string;
let server: RunningServer;
const log: string[] = [];
const at = (name: string): string => join(world, name);

beforeAll(async () => {
  world = await makeWorld();
  for (const name of ['index', 'other'])
    expect((await distill('index', at('dual'), '--data', at('data'), '--output', at(name))).code).toBe(0);
  await cascade({
    ...{ student: at('dual'), teacher: at('cross'), data: at('data'), index: at('index'), output: at('cascade.json') },
    ...{ calibrate: 'train', risk: 0.3, candidates: 20, cache: at('cache') },
  });
  server = await startServer({
    index: at('index'),
    cascade: at('cascade.json'),
    limits: { body: 20_000, texts: 8 },
    onLog: (line) => log.push(line),
  });
});
afterAll(async () => {
  await server.close();
  rmSync(world, { recursive: true, force: true });
});

async function ask(path: string, body?: unknown, more: RequestInit = {}, to = server) {
  const response = await fetch(to.url + path, {
    ...(body !== undefined && {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    }),
    ...more,
  });
  const text = await response.text();
  const { status, headers } = response;
  return { status, headers, text, json: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : undefined };
}

describe('answers', () => {
  test('/embed: a list of vectors, of one side or the other, as the encoder gives them', async () => {
    const encoder = await openEncoder(at('dual'));
    const expected = (data: Float32Array) => [...data].map((v) => expect.closeTo(v, 6));
    const one = await ask('/embed', { inputs: 'open file' });
    expect(one.status).toBe(200);
    expect(one.json).toEqual([expected(await encoder.embedQueries(['open file']))]);
    const two = await ask('/embed', { inputs: ['open', 'file'], prompt_name: 'document', truncate: true });
    expect(two.json.flat()).toEqual(expected(await encoder.embedDocuments(['open', 'file'])));
    expect(two.json).toHaveLength(2);
    // Fields that may be null in text-embeddings-inference, and its dimensions.
    const nothing = { normalize: null, truncate: null, truncation_direction: null, prompt_name: null };
    const short = await ask('/embed', { inputs: 'open file', dimensions: 4, ...nothing });
    const [whole] = one.json;
    const norm = Math.hypot(...whole.slice(0, 4));
    expect(short.json).toEqual([whole.slice(0, 4).map((v: number) => expect.closeTo(v / norm, 5))]);
    await encoder.dispose();
  });

  test('/tokenize: ids with their places in characters; /decode: the text of ids', async () => {
    const encoder = await openEncoder(at('dual'));
    const text = 'Open 😀 fíle';
    const { status, json } = await ask('/tokenize', { inputs: text });
    expect(status).toBe(200);
    const [tokens] = json as [{ id: number; text: string; special: boolean; start: number; stop: number }[]];
    expect(tokens[0]).toEqual({ id: 2, text: '[CLS]', special: true, start: null, stop: null });
    expect(tokens.at(-1)).toMatchObject({ text: '[SEP]', special: true, start: null, stop: null });
    const own = tokens.slice(1, -1);
    const characters = Array.from(text);
    for (const t of own) expect(t.text).toBe(characters.slice(t.start, t.stop).join(''));
    expect(own.map((t) => t.text).join('')).toBe('Open😀fíle');
    const bare = await ask('/tokenize', { inputs: [text, ''], add_special_tokens: false, prompt_name: 'document' });
    expect(bare.json).toEqual([own, []]);
    const ids = (await ask('/tokenize', { inputs: 'open file' })).json[0].map((t: { id: number }) => t.id);
    expect((await ask('/decode', { ids })).json).toEqual([encoder.decode(ids)]);
    const both = await ask('/decode', { ids: [ids, []], skip_special_tokens: false });
    expect(both.json[0]).toMatch(/^\[CLS\].*\[SEP\]$/);
    expect(both.json[1]).toBe('');
    await encoder.dispose();
  });

  test('/embed reads the fields that the specification of text-embeddings-inference names', () => {
    // Of the package @huggingface/tasks: made from TEI's OpenAPI.
    const spec = 'node_modules/@huggingface/tasks/src/tasks/feature-extraction/spec/input.json';
    const { properties } = JSON.parse(readFileSync(spec, 'utf8')) as { properties: object };
    expect(Object.keys(embedBody.shape)).toEqual(expect.arrayContaining(Object.keys(properties)));
  });

  test('/rerank: index and score, best first; sigmoid or logit, with or without the text', async () => {
    const texts = documents.slice(0, 5).map((d) => d.text);
    const reranker = await openReranker(at('cross'));
    const logits = await reranker.score('open file', texts);
    const order = texts.map((_, i) => i).sort((a, b) => logits[b] - logits[a]);
    const { json } = await ask('/rerank', { query: 'open file', texts });
    expect(json).toEqual(order.map((i) => ({ index: i, score: expect.closeTo(1 / (1 + Math.exp(-logits[i])), 5) })));
    const raw = await ask('/rerank', { query: 'open file', texts, raw_scores: true, return_text: true });
    expect(raw.json[0]).toEqual({ index: order[0], score: expect.closeTo(logits[order[0]], 5), text: texts[order[0]] });
    await reranker.dispose();
  });

  test('/search: documents with scores, and the pairs that the teacher scored', async () => {
    const { status, json } = await ask('/search', { query: 'open file', k: 3 });
    expect(status).toBe(200);
    expect(json.documents).toHaveLength(3);
    expect(json.documents[0]).toMatchObject({
      id: expect.any(String),
      text: expect.any(String),
      student: expect.any(Number),
    });
    expect(json.pairs).toBe(20);
    expect(json.deferred).toBe(true);
  });

  test('/info: the fields of text-embeddings-inference, with the values of this server', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    const encoder = await Encoder.load(at('dual'));
    expect((await ask('/info')).json).toEqual({
      model_id: 'dual',
      model_sha: null,
      model_dtype: 'float32',
      served_model_name: 'dual',
      model_type: { embedding: { pooling: 'mean' } },
      max_concurrent_requests: 66,
      max_input_length: encoder.maxLength,
      max_batch_tokens: encoder.batchTokens,
      max_batch_requests: null,
      max_client_batch_size: 8,
      auto_truncate: true,
      tokenization_workers: 1,
      version,
      sha: null,
      docker_label: null,
    });
    await encoder.dispose();
    expect((await ask('/info', {})).status).toBe(405);
  });

  test('/similarity: cosines with the source, on the side that is asked for', async () => {
    const sentences = ['open file', 'scan a page', ''];
    const cosines = async (parameters?: object) => {
      const inputs = { source_sentence: 'open file', sentences };
      const { status, json } = await ask('/similarity', { inputs, ...(parameters && { parameters }) });
      const { json: rows } = await ask('/embed', { inputs: ['open file', ...sentences], ...parameters });
      const [first, ...others] = rows as number[][];
      const product = (row: number[]) => row.reduce((sum, v, i) => sum + v * first[i], 0);
      expect(status).toBe(200);
      expect(json).toEqual(others.map((row) => expect.closeTo(product(row), 5)));
      return json;
    };
    expect((await cosines())[0]).toBeCloseTo(1, 5);
    await cosines({ prompt_name: 'document', truncate: true });
    for (const [inputs, status] of [
      [{ source_sentence: 'a', sentences: [] }, 400],
      [{ source_sentence: 'a', sentences: Array(8).fill('b') }, 413],
      [{ source_sentence: 'a' }, 422],
    ] as const)
      expect((await ask('/similarity', { inputs })).status).toBe(status);
  });

  test('/health is empty, as in text-embeddings-inference', async () => {
    const { status, text } = await ask('/health');
    expect([status, text]).toEqual([200, '']);
  });

  test('/embed of a model that compares products: unit length by default, as they are where that is asked for', async () => {
    cpSync(at('dual'), at('products'), { recursive: true });
    const modules = ['Transformer', 'Pooling'].map((type, idx) => ({
      ...{ idx, name: String(idx), path: idx ? '1_Pooling' : '' },
      type: `sentence_transformers.models.${type}`,
    }));
    const pooling = { word_embedding_dimension: 16, pooling_mode_mean_tokens: true };
    write(at('products'), {
      'modules.json': JSON.stringify(modules),
      '1_Pooling/config.json': JSON.stringify(pooling),
      'config_sentence_transformers.json': JSON.stringify({ similarity_fn_name: 'dot' }),
    });
    const argv = ['index', at('products'), '--data', at('data'), '--output', at('products-index')];
    expect((await distill(...argv)).code).toBe(0);
    const one = await startServer({ index: at('products-index'), writable: false });
    const encoder = await openEncoder(at('products'));
    try {
      const own = [...(await encoder.embedQueries(['open file']))];
      const norm = Math.hypot(...own);
      expect(Math.abs(norm - 1)).toBeGreaterThan(0.01);
      const near = (values: number[]) => [values.map((v) => expect.closeTo(v, 5))];
      for (const normalize of [undefined, true]) {
        const { json } = await ask('/embed', { inputs: 'open file', normalize }, {}, one);
        expect(json).toEqual(near(own.map((v) => v / norm)));
      }
      const raw = await ask('/embed', { inputs: 'open file', normalize: false, dimensions: 5 }, {}, one);
      expect(raw.json).toEqual(near(own.slice(0, 5)));
    } finally {
      await encoder.dispose();
      await one.close();
    }
  });

  test('/healthz and /metrics', async () => {
    expect((await ask('/healthz')).json).toEqual({ status: 'ok', documents: server.documents });
    const { headers, text } = await ask('/metrics');
    expect(headers.get('content-type')).toContain('text/plain');
    expect(text).toMatch(/^distill_requests_total\{route="\/search",status="200"\} \d+$/m);
    expect(text).toMatch(/^distill_request_seconds_bucket\{le="0.1",route="\/embed"\} \d+$/m);
    expect(text).toMatch(new RegExp(`^distill_documents ${server.documents}$`, 'm'));
    expect(text).toMatch(/^distill_teacher_pairs_total 20$/m);
    expect(text).toMatch(/^distill_cascade_drift_p [\d.e-]+$/m);
    expect(text).toContain('process_resident_memory_bytes');
  });
});

describe('mistakes of callers are one sentence, with a status and a kind', () => {
  test.each([
    ['/search', '{"query": ', 400, 'the body is not JSON'],
    ['/search', '[[[[[[', 400, 'the body is not JSON'],
    ['/search', { text: 'a' }, 422, 'query'],
    ['/search', { query: 'a', k: 0 }, 422, 'k: '],
    ['/search', { query: 'a', k: 5000 }, 422, 'k: '],
    ['/search', { query: 'a', top: 5 }, 422, 'top'],
    ['/search', { query: 'a', filter: { section: 'net' } }, 422, 'a cascade is certified for searches without one'],
    [
      '/search',
      { query: 'a', filter: { section: [1] } },
      422,
      'filter.section: expected a text, a number or a boolean',
    ],
    ['/search', [], 422, 'expected object'],
    ['/embed', { inputs: 5 }, 422, 'inputs: expected a text or a list of texts; lists of token ids are not read'],
    ['/embed', { inputs: [[1, 2]] }, 422, 'lists of token ids are not read'],
    ['/embed', { inputs: 'a', dimensions: 17 }, 422, 'dimensions: the vectors have 16, and 17 are asked for'],
    ['/embed', { inputs: [] }, 400, 'there are no inputs'],
    ['/embed', { inputs: Array(9).fill('a') }, 413, '9 inputs in one request: at most 8'],
    ['/embed', { inputs: 'a', normalize: false }, 422, "normalize: the model's folder scales vectors to unit length"],
    ['/embed', { inputs: 'a', truncation_direction: 'Left' }, 422, 'truncation_direction: texts are cut at the end'],
    ['/embed', { inputs: 'a', prompt_name: 'web' }, 422, 'prompt_name: '],
    ['/embed', { inputs: 'a', model: 'other' }, 422, 'model'],
    ['/embed_sparse', { inputs: [] }, 400, 'there are no inputs'],
    ['/embed_sparse', { inputs: 'a', normalize: true }, 422, 'normalize'],
    ['/embed', { inputs: 'a', truncate: false }, 422, "always cut at the model's limit"],
    ['/rerank', { query: 'a' }, 422, 'texts: '],
    ['/rerank', { query: 'a', texts: [] }, 400, 'there are no texts'],
    ['/documents', { documents: [{ id: 'a' }] }, 422, 'expected a list of documents'],
    ['/tokenize', { inputs: [] }, 400, 'there are no inputs'],
    ['/tokenize', { inputs: [[1]] }, 422, 'lists of token ids are not read'],
    ['/tokenize', { inputs: Array(9).fill('a') }, 413, '9 inputs in one request: at most 8'],
    ['/decode', { ids: [] }, 400, 'there are no ids'],
    ['/decode', { ids: ['a'] }, 422, 'ids: expected a list of token ids'],
    ['/decode', { ids: [-1] }, 422, 'ids.0: '],
    ['/documents', { documents: [] }, 400, 'there are no documents'],
    [
      '/documents',
      [
        { id: 'a', text: 'b' },
        { id: 'a', text: 'c' },
      ],
      422,
      "the id 'a' occurs twice",
    ],
    ['/nowhere', {}, 404, 'there is no such path'],
  ])('%s %j', async (path, body, status, why) => {
    const found = await ask(path, body);
    const error_type = why.startsWith('there are no ') ? 'Empty' : 'Validation';
    expect(found.json).toEqual({ error: expect.stringContaining(why), error_type });
    expect(found.status).toBe(status);
    expect(found.text).not.toContain(world);
  });

  test('a body nested too deep', async () => {
    expect((await ask('/search', '['.repeat(19_000))).status).toBe(400);
  });

  test('a body that is too long, of another type, another method, another host', async () => {
    const long = await ask('/search', { query: 'a'.repeat(30_000) });
    expect([long.status, long.json.error]).toEqual([413, expect.stringContaining('more than 20000 bytes')]);
    const plain = await ask('/search', undefined, { method: 'POST', body: '{"query":"a"}' });
    expect([plain.status, plain.json.error]).toEqual([415, expect.stringContaining('application/json')]);
    expect((await ask('/search')).status).toBe(405);
    expect((await ask('/documents/none', undefined, { method: 'DELETE' })).status).toBe(404);
    const host = await raw('GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n');
    expect(host).toMatch(/^HTTP\/1.1 403 /);
    expect(host).toContain('only requests to the loopback address');
    expect(await raw('nonsense\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /);
  });

  function raw(text: string): Promise<string> {
    return new Promise((done, fail) => {
      const { port, hostname } = new URL(server.url);
      let found = '';
      const socket = connect(Number(port), hostname, () => socket.write(text));
      socket.on('data', (d) => {
        found += d;
      });
      socket.on('end', () => done(found));
      socket.on('error', fail);
    });
  }

  test('without a re-ranker, and read-only', async () => {
    const plain = await startServer({ index: at('other'), writable: false });
    try {
      const rerank = await ask('/rerank', { query: 'a', texts: ['b'] }, {}, plain);
      expect([rerank.status, rerank.json.error_type]).toEqual([424, 'Backend']);
      const sparse = await ask('/embed_sparse', { inputs: 'a' }, {}, plain);
      expect([sparse.status, sparse.json]).toEqual([
        424,
        { error: 'the model that is served is no sparse student: ask /embed', error_type: 'Backend' },
      ]);
      const added = await ask('/documents', [{ id: 'a', text: 'b' }], {}, plain);
      expect([added.status, added.json.error]).toEqual([403, 'this server is read-only']);
      const removed = await ask('/documents/d1', undefined, { method: 'DELETE' }, plain);
      expect(removed.status).toBe(403);
      const found = await ask('/search', { query: 'open' }, {}, plain);
      expect(found.json).toEqual({ documents: expect.any(Array) });
      expect(found.json.documents[0].score).toEqual(expect.any(Number));
      const none = await ask('/search', { query: 'open', filter: { section: 'net' } }, {}, plain);
      expect(none.json).toEqual({ documents: [] });
    } finally {
      await plain.close();
    }
  });
});

test('documents come and go while it searches', async () => {
  const before = server.documents;
  const work: Promise<void>[] = [];
  for (let i = 0; i < 20; i++) {
    const body = { documents: [{ id: `new/${i}`, text: `zebra ${i}`, metadata: { i, __proto__: null } }] };
    work.push(ask('/documents', body).then((r) => expect([r.status, r.json.added]).toEqual([200, 1])));
    work.push(ask('/search', { query: 'zebra', k: 5 }).then((r) => expect(r.json.documents).toHaveLength(5)));
  }
  await Promise.all(work);
  expect(server.documents).toBe(before + 20);
  const gone = await ask(`/documents/${encodeURIComponent('new/3')}`, undefined, { method: 'DELETE' });
  expect(gone.json).toEqual({ removed: 1, documents: before + 19 });
  // The index is this server's alone.
  const other = await openIndex(at('index'));
  expect([other.size, other.has('new/3'), (await other.get('new/4'))?.metadata]).toEqual([
    before + 19,
    false,
    { i: 4 },
  ]);
  await expect(other.remove(['new/4'])).rejects.toThrow('is in use by process');
  await other.close();
  const text = await ask('/metrics');
  expect(text.text).toContain('distill_requests_waiting 0');
});

test('a fault says nothing to a stranger, and all to the log', async () => {
  log.length = 0;
  const index = at('index');
  rmSync(join(index, 'vectors'), { recursive: true });
  writeFileSync(join(index, 'vectors'), 'no folder');
  const found = await ask('/documents', [{ id: 'x', text: 'y' }]);
  expect(found.json).toEqual({ error: 'the server failed; its log says why', error_type: 'Backend' });
  expect(found.status).toBe(500);
  expect(found.text).not.toMatch(/ at |\/|Error:/);
  expect(log.join()).toContain(index);
  expect(log.join()).toContain('store.ts');
  // What is in memory is still searched.
  expect((await ask('/search', { query: 'open' })).status).toBe(200);
});

test("a model's work that fails is a 424 of the type Backend, and told to the log", async () => {
  log.length = 0;
  const failing = vi.spyOn(Encoder.prototype, 'encode').mockRejectedValue(new Error('out of memory'));
  try {
    const found = await ask('/embed', { inputs: 'a' });
    expect([found.status, found.json]).toEqual([
      424,
      { error: 'inference failed; the log of the server says why', error_type: 'Backend' },
    ]);
    expect(log.join()).toContain('out of memory');
  } finally {
    failing.mockRestore();
  }
});

test('ends in order: a request under way is answered, later ones are not taken', async () => {
  const one = await startServer({ index: at('other') });
  const working = Array.from({ length: 6 }, () =>
    ask('/embed', { inputs: documents.slice(0, 40).map((d) => d.text) }, {}, one),
  );
  await sleep(5);
  const closed = one.close();
  for (const found of await Promise.allSettled(working))
    if (found.status === 'fulfilled') expect(found.value.json).toHaveLength(40);
  await closed;
  await expect(fetch(`${one.url}/healthz`)).rejects.toThrow();
  await one.close();
  const again = await openIndex(at('other'));
  await again.claim();
  await again.close();
});

test('an address that is taken, and limits that are none', async () => {
  const { port } = new URL(server.url);
  await expect(startServer({ index: at('other'), port: Number(port) })).rejects.toThrow(
    `cannot listen on 127.0.0.1:${port} (EADDRINUSE); choose another --host or --port`,
  );
  await expect(startServer({ index: at('other'), limits: { time: 0 } })).rejects.toThrow("the limit 'time' is 0");
  // Nothing was left locked.
  const one = await startServer({ index: at('other') });
  await one.close();
});

describe('the queue', () => {
  const held = () => {
    let go = (): void => {};
    const until = new Promise<void>((done) => {
      go = done;
    });
    return { go: () => go(), work: () => until };
  };

  test('so many run, so many wait, the rest are refused', async () => {
    const queue = new WorkQueue({ concurrency: 2, queue: 3, time: 10_000 });
    const first = held();
    const running = Array.from({ length: 5 }, () => queue.run(first.work));
    await sleep(1);
    expect([queue.running, queue.length]).toEqual([2, 3]);
    await expect(queue.run(first.work)).rejects.toMatchObject({ status: 429, kind: 'Overloaded' });
    first.go();
    await Promise.all(running);
    expect([queue.running, queue.length]).toEqual([0, 0]);
    expect(await queue.run(async () => 7)).toBe(7);
  });

  test('time is over while it runs, or while it waits; places are given back', async () => {
    const queue = new WorkQueue({ concurrency: 1, queue: 3, time: 30 });
    const slow = held();
    let heard = false;
    const late = queue.run(async (signal) => {
      signal.addEventListener('abort', () => {
        heard = true;
      });
      await slow.work();
    });
    const waits = queue.run(async () => 1);
    await expect(late).rejects.toMatchObject({ status: 503, message: expect.stringContaining('more than 0.03 s') });
    await expect(waits).rejects.toMatchObject({ status: 503 });
    expect(heard).toBe(true);
    // Work that does not heed its signal keeps its place until it ends.
    expect([queue.running, queue.length]).toEqual([1, 0]);
    slow.go();
    await sleep(5);
    expect(queue.running).toBe(0);
    await expect(queue.run(async () => Promise.reject(new Error('own')))).rejects.toThrow('own');
    expect(await queue.run(async () => 2)).toBe(2);
  });
});
