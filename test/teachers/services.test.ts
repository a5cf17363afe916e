/** @file Services as teachers: their protocols, their faults, what is kept and what is never sent or shown. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { type HttpTeacherOptions, httpTeacher, httpTeacherKey } from '../../teachers/services/http-teacher.ts';
import type { FormatName } from '../../teachers/services/index.ts';
import type { Pair } from '../../teachers/teacher.ts';
import { embeddingOf, type Fault, logitOf, type Service, say, startService } from './service.ts';

let service: Service;
const environment = { ...process.env };
beforeEach(async () => {
  service = await startService();
});
afterEach(() => {
  service.close();
  process.env = { ...environment };
});

const pairsOf = (queries: number, documents: number): Pair[] =>
  Array.from({ length: queries * documents }, (_, i) => {
    const [q, d] = [Math.floor(i / documents), i % documents];
    return { queryId: `q${q}`, documentId: `d${d}`, query: `query ${q}`, document: `document ${d}` };
  });
const pairs = pairsOf(3, 5);
const open = (format: FormatName, more: Partial<HttpTeacherOptions> = {}) =>
  httpTeacher({ url: service.url, format, model: 'some-model', retryDelay: 1, retries: 3, ...more });
const near = (got: ArrayLike<number>, wanted: ArrayLike<number>): void => {
  expect(got.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) expect(got[i]).toBeCloseTo(wanted[i], 4);
};
const logits = pairs.map((p) => logitOf(p.query, p.document));
const dots = pairs.map((p) => {
  const [q, d] = [embeddingOf(p.query), embeddingOf(p.document)];
  return q.reduce((s, x, k) => s + x * d[k], 0);
});

describe('protocols', () => {
  test.each<[FormatName, string, number[], object]>([
    ['tei', '/rerank', logits, { query: 'query 0', raw_scores: true, return_text: false, truncate: true }],
    ['cohere', '/v2/rerank', logits, { query: 'query 0', model: 'some-model', top_n: 5 }],
    ['jina', '/v1/rerank', logits, { query: 'query 0', model: 'some-model', top_n: 5, return_documents: false }],
    ['openai-embeddings', '/v1/embeddings', dots, { model: 'some-model', encoding_format: 'float' }],
  ])('%s: what is asked and what is read', async (format, path, wanted, body) => {
    process.env.TEST_KEY = 'key-of-the-test';
    const notes: string[] = [];
    const teacher = open(format, { keyVariable: 'TEST_KEY' });
    const got = await teacher.score(pairs, { onProgress: (p) => p.note && notes.push(p.note) });
    near(got, wanted);
    expect(service.calls[0]).toMatchObject({ path, auth: 'Bearer key-of-the-test' });
    expect(service.calls.map((c) => c.body)).toContainEqual(expect.objectContaining(body));
    expect(notes.some((n) => /their logit is the score/.test(n))).toBe(format === 'cohere' || format === 'jina');
    expect(JSON.stringify([teacher.name, teacher.key, notes])).not.toContain('key-of-the-test');
  });

  test('probabilities are kept as they are where that is said', async () => {
    const got = await open('cohere', { scores: 'as-it-is' }).score(pairs);
    near(
      got,
      logits.map((x) => 1 / (1 + Math.exp(-x))),
    );
  });

  test('text-embeddings-inference embeds; prompts are put before the texts', async () => {
    const teacher = open('tei', { task: 'embed', prompts: { query: 'query: ', document: 'passage: ' } });
    const q = await teacher.embed?.(['a', ''], 'query');
    expect(q?.dimensions).toBe(6);
    near(q?.data ?? [], [...embeddingOf('query: a'), ...embeddingOf('query: ')]);
    expect(service.calls[0]).toMatchObject({
      path: '/embed',
      body: { inputs: ['query: a', 'query: '], normalize: true },
    });
  });

  test.each([
    ['', '/v1/embeddings'],
    ['/v1', '/v1/embeddings'],
    ['/v1/', '/v1/embeddings'],
    ['/v1/embeddings', '/v1/embeddings'],
  ])('the address may end in %j', async (end, path) => {
    await open('openai-embeddings', { url: service.url + end }).embed?.(['a'], 'query');
    expect(service.calls[0].path).toBe(path);
  });

  test('requests hold as many texts as the service takes, several at once', async () => {
    const many = pairsOf(4, 70);
    near(
      await open('tei', { concurrency: 3 }).score(many),
      many.map((p) => logitOf(p.query, p.document)),
    );
    expect(service.calls.map((c) => (c.body.texts as string[]).length).sort((a, b) => a - b)).toEqual([
      6, 6, 6, 6, 32, 32, 32, 32, 32, 32, 32, 32,
    ]);
    expect(service.most).toBeGreaterThan(1);
    expect(service.most).toBeLessThanOrEqual(3);
  });

  test('a service that takes fewer texts gets smaller requests', async () => {
    const small: Fault = (r, body) =>
      say(r, { error: `batch size ${(body.texts as string[]).length} > maximum allowed batch size 4` }, 413);
    service.faults = [small, small, small];
    const many = pairsOf(1, 30);
    near(
      await open('tei', { concurrency: 1 }).score(many),
      many.map((p) => logitOf(p.query, p.document)),
    );
    expect(Math.max(...service.calls.slice(3).map((c) => (c.body.texts as string[]).length))).toBeLessThanOrEqual(4);
  });

  test('a rate is kept', async () => {
    const started = performance.now();
    await open('tei', { requestsPerMinute: 600, concurrency: 4 }).score(pairsOf(5, 1));
    expect(performance.now() - started).toBeGreaterThan(390);
  });

  test('the key of the cache follows what changes scores, and nothing else', () => {
    const key = (more: Partial<HttpTeacherOptions>) => httpTeacherKey({ url: 'http://a.test', format: 'tei', ...more });
    const own = key({});
    for (const same of [
      { concurrency: 9 },
      { budget: { texts: 5 } },
      { keyVariable: 'X' },
      { batchSize: 2 },
      { timeout: 5 },
    ])
      expect(key(same)).toBe(own);
    for (const other of [{ url: 'http://b.test' }, { model: 'm' }, { truncate: false }, { task: 'embed' as const }])
      expect(key(other)).not.toBe(own);
    expect(httpTeacherKey({ url: 'http://a.test/rerank', format: 'tei' })).toBe(own);
  });
});

describe('faults', () => {
  test('429 with Retry-After in seconds and as a date, 500, a closed socket: repeated as the service says', async () => {
    const date = new Date(Date.now() + 2500).toUTCString();
    service.faults = [
      (r) => say(r, {}, 429, { 'Retry-After': '1' }),
      (r) => say(r, {}, 503, { 'Retry-After': date }),
      (r) => r.destroy(),
    ];
    const started = performance.now();
    near(
      await open('tei', { retries: 5 }).score(pairsOf(1, 2)),
      pairsOf(1, 2).map((p) => logitOf(p.query, p.document)),
    );
    expect(performance.now() - started).toBeGreaterThan(1400);
    expect(service.calls).toHaveLength(4);
  });

  const bad: [string, Fault, RegExp, number][] = [
    ['a wrong count', (r) => say(r, [{ index: 0, score: 1 }]), /it has 1 scores for 5 texts/, 1],
    ['an index twice', (r) => say(r, Array(5).fill({ index: 0, score: 1 })), /the index 0 twice/, 1],
    [
      'an index beyond',
      (r) =>
        say(
          r,
          [0, 1, 2, 3, 7].map((index) => ({ index, score: 1 })),
        ),
      /the index 7 where 0 to 4/,
      1,
    ],
    [
      'null for a score',
      (r) =>
        say(
          r,
          [0, 1, 2, 3, 4].map((index) => ({ index, score: null })),
        ),
      /a score is null/,
      1,
    ],
    [
      '1e39',
      (r) =>
        say(
          r,
          [0, 1, 2, 3, 4].map((index) => ({ index, score: 1e39 })),
        ),
      /a score is 1e\+39, not a finite float32/,
      1,
    ],
    ['NaN', (r) => void r.end('[{"index":0,"score":NaN}]'), /what is not JSON/, 1],
    ['another shape', (r) => say(r, { scores: [1] }), /it has no list of scores/, 1],
    ['an HTML page', (r) => void r.end('<html><b>It works</b></html>'), /not JSON \(it begins "<html>/, 1],
    ['401', (r) => say(r, { error: 'bad key' }, 401), /refuses \(401: bad key\); set TEI_API_KEY/, 1],
    ['422', (r) => say(r, { error: 'inputs: too bad' }, 422), /refuses \(422: inputs: too bad\)/, 1],
    [
      'a redirect',
      (r) => void r.writeHead(302, { Location: 'http://127.0.0.1:9/' }).end(),
      /refuses \(302\); it leads to another/,
      1,
    ],
    [
      'an HTML error for ever',
      (r) => void r.writeHead(502).end('<html><style>x</style><h1>Bad gateway</h1>'),
      /fails \(502: Bad gateway\)/,
      4,
    ],
    ['a wait of a day', (r) => say(r, {}, 429, { 'Retry-After': '86400' }), /\(429/, 1],
    ['nothing in time', () => {}, /does not answer \(nothing within 0.3 s\)/, 4],
    ['escapes', (r) => say(r, { error: { message: '\u001b[31mred\nline' } }, 400), /400: \\u001b\[31mred\\nline\)/, 1],
  ];
  test.each(bad)('%s is one sentence', async (_, fault, message, requests) => {
    service.faults = Array(8).fill(fault);
    const failed = open('tei', { timeout: 300, concurrency: 1 }).score(pairsOf(1, 5));
    await expect(failed).rejects.toThrow(message);
    expect(service.calls).toHaveLength(requests);
  });

  test('a key that a service repeats is not shown', async () => {
    process.env.OPENAI_API_KEY = 'sk-very-secret';
    service.faults = [(r) => say(r, { error: { message: 'Incorrect API key provided: sk-very-secret.' } }, 401)];
    const failed = open('openai-embeddings').embed?.(['a'], 'query');
    await expect(failed).rejects.toThrow(/Incorrect API key provided: \*\*\*\. *\)|Incorrect API key provided: \*\*\*/);
    await expect(failed).rejects.not.toThrow(/very-secret/);
  });

  test('options that contradict each other are refused before any request', () => {
    expect(() => open('cohere', { model: undefined })).toThrow("a request to Cohere names a model; add 'model'");
    expect(() => open('cohere', { task: 'embed' })).toThrow('Cohere is not asked to embed here');
    expect(() => open('tei', { url: 'http://user:secret@host/' })).toThrow(
      /^the service's url holds a name or password; [^@]*$/,
    );
    expect(() => open('tei', { url: 'file:///etc/passwd' })).toThrow('begins with http://');
    process.env.TEI_API_KEY = 'two words';
    expect(() => open('tei')).toThrow('the environment variable TEI_API_KEY');
  });

  test('a relevance outside 0 to 1 is not taken for a probability', async () => {
    service.faults = [(r) => say(r, { results: [{ index: 0, relevance_score: 4.2 }] })];
    await expect(open('jina').score(pairsOf(1, 1))).rejects.toThrow(
      /a score is 4.19\d* where the format documents 0 to 1/,
    );
  });
});

describe('behind the cache', () => {
  const cacheOf = (): Promise<ScoreCache> => ScoreCache.open(join(mkdtempSync(join(tmpdir(), 'services-')), 'cache'));

  test('a budget stops with a sentence, what came is kept, the next run asks the rest', async () => {
    const cache = await cacheOf();
    const first = cache.wrap(open('tei', { concurrency: 1, budget: { requests: 2 } }));
    await expect(first.score(pairs)).rejects.toThrow(/the budget of 2 requests to http.*is spent; raise 'budget'/);
    expect(service.calls).toHaveLength(2);
    near(await cache.wrap(open('tei', { budget: { texts: 5 } })).score(pairs), logits);
    expect(service.calls).toHaveLength(3);
    near(await cache.wrap(open('tei', { budget: { texts: 1 } })).score(pairs), logits);
    expect(service.calls).toHaveLength(3);
    await cache.close();
  });

  test('a failure half way keeps what came, of embeddings too', async () => {
    const cache = await cacheOf();
    const texts = Array.from({ length: 10 }, (_, i) => `text ${i}`);
    const options = { task: 'embed', batchSize: 2, concurrency: 1 } as const;
    let n = 0;
    service.faults = [];
    const teacher = cache.wrap(open('tei', options));
    const original = service.calls.push.bind(service.calls);
    service.calls.push = (...c) => {
      if (++n === 4) service.faults.push((r) => say(r, {}, 400));
      return original(...c);
    };
    await expect(teacher.embed?.(texts, 'document')).rejects.toThrow('refuses (400');
    const got = await cache.wrap(open('tei', options)).embed?.(texts, 'document');
    near(got?.data ?? [], texts.flatMap(embeddingOf));
    expect(service.calls.slice(4).map((c) => c.body.inputs)).toEqual([texts.slice(6, 8), texts.slice(8, 10)]);
    await cache.close();
  });
});
