/** @file Further faults of services: each is retried as asked or ends in one sentence, and no wrong score is kept. */
import { mkdtempSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { type HttpTeacherOptions, httpTeacher } from '../../teachers/services/http-teacher.ts';
import type { FormatName } from '../../teachers/services/index.ts';
import { embeddingOf, type Fault, logitOf, type Service, say, startService } from './service.ts';

let service: Service;
beforeEach(async () => {
  service = await startService();
});
const { OPENAI_API_KEY } = process.env;
afterEach(() => {
  service.close();
  if (OPENAI_API_KEY === undefined) delete process.env.OPENAI_API_KEY;
  else process.env.OPENAI_API_KEY = OPENAI_API_KEY;
});

const open = (format: FormatName, more: Partial<HttpTeacherOptions> = {}) =>
  httpTeacher({ url: service.url, format, model: 'some-model', retryDelay: 1, retries: 2, concurrency: 1, ...more });
const texts = ['text 0', 'text 1', 'text 2'];
const pairs = texts.map((document, i) => ({ queryId: 'q', documentId: `d${i}`, query: 'query', document }));
const cacheOf = (): Promise<ScoreCache> => ScoreCache.open(join(mkdtempSync(join(tmpdir(), 'faults-')), 'cache'));
const near = (got: ArrayLike<number> | undefined, wanted: readonly number[]): void => {
  expect(got?.length).toBe(wanted.length);
  for (const [i, x] of wanted.entries()) expect(got?.[i]).toBeCloseTo(x, 5);
};

/** An answer of OpenAI's protocol. */
const embeddings =
  (of: (text: string) => unknown, more: object = {}): Fault =>
  (r, body) =>
    say(r, { ...more, data: (body.input as string[]).map((t, index) => ({ index, embedding: of(t) })) });
const base64 = (values: readonly number[]): string => Buffer.from(Float32Array.from(values).buffer).toString('base64');
const scores = (of: (i: number) => unknown): unknown[] => texts.map((_, index) => ({ index, score: of(index) }));

describe('answers that are not used', () => {
  test.each<[string, FormatName, Fault, RegExp]>([
    [
      'an error under 200',
      'openai-embeddings',
      (r) => say(r, { error: { message: 'quota' } }),
      /with an error \(quota\)/,
    ],
    ['no content', 'tei', (r) => void r.writeHead(204).end(), /what is not JSON \(it begins ""\)/],
    ['null', 'tei', (r) => say(r, null), /it has no list of scores/],
    ['a number', 'openai-embeddings', (r) => say(r, 3), /it has no list of embeddings/],
    [
      'a score as text',
      'tei',
      (r) =>
        say(
          r,
          scores(() => '0.5'),
        ),
      /a score is "0.5", not a finite float32/,
    ],
    [
      'NaN as text',
      'tei',
      (r) =>
        say(
          r,
          scores(() => 'NaN'),
        ),
      /a score is "NaN", not a finite/,
    ],
    [
      'Infinity by 1e999',
      'tei',
      (r) => void r.end('[{"index":0,"score":1e999},{"index":1,"score":1},{"index":2,"score":1}]'),
      /a score is Infinity, not a finite/,
    ],
    [
      'no index',
      'tei',
      (r) =>
        say(
          r,
          texts.map(() => ({ score: 1 })),
        ),
      /the index undefined where 0 to 2/,
    ],
    [
      'an index as text',
      'tei',
      (r) =>
        say(
          r,
          texts.map((_, i) => ({ index: String(i), score: 1 })),
        ),
      /the index "0" where/,
    ],
    [
      'one result less',
      'cohere',
      (r) => say(r, { results: [{ index: 0, relevance_score: 1 }] }),
      /it has 1 results for 3/,
    ],
    [
      'one embedding less',
      'openai-embeddings',
      (r) => say(r, { data: [{ index: 0, embedding: [1] }] }),
      /it has 1 embeddings for 3/,
    ],
    [
      'widths that differ',
      'openai-embeddings',
      embeddings((t) => (t === 'text 2' ? [1] : [1, 2])),
      /has 1 components and others 2/,
    ],
    ['an empty embedding', 'openai-embeddings', embeddings(() => []), /is not a list of numbers/],
    ['base64 of three bytes', 'openai-embeddings', embeddings(() => 'AAAA'), /not the base64 of float32/],
    [
      'base64 of NaN',
      'openai-embeddings',
      embeddings(() => base64([1, Number.NaN])),
      /a component of an embedding is NaN/,
    ],
    ['another text', 'openai-embeddings', embeddings(() => 'none yet'), /not the base64 of float32/],
  ])('%s', async (_, format, fault, message) => {
    const cache = await cacheOf();
    service.faults = Array(4).fill(fault);
    const failed = open(format);
    const teacher = cache.wrap(failed);
    const ask = () => (format === 'openai-embeddings' ? teacher.embed?.(texts, 'document') : teacher.score(pairs));
    await expect(ask()).rejects.toThrow(message);
    expect(service.calls).toHaveLength(1);
    // Nothing was kept: the next run asks for everything.
    service.faults = [];
    await ask();
    expect(cache.asked).toBe(3);
    await cache.close();
  });
});

describe('asked again', () => {
  /** Sends the beginning of a right answer. */
  const torn =
    (end: (r: ServerResponse) => void): Fault =>
    (r, body) => {
      const whole = JSON.stringify((body.texts as string[]).map((t, index) => ({ index, score: logitOf('query', t) })));
      r.writeHead(200, { 'content-type': 'application/json', 'content-length': String(whole.length) });
      r.write(whole.slice(0, whole.length - 5));
      end(r);
    };
  test.each<[string, Fault, RegExp]>([
    ['a body that ends early', torn((r) => setTimeout(() => r.destroy(), 5)), /does not answer \(/],
    ['a body that stalls', torn(() => {}), /does not answer \(nothing within 0.2 s\)/],
    ['headers and no body', (r) => void r.writeHead(200).flushHeaders(), /nothing within 0.2 s/],
    ['a connection reset', (r) => r.socket?.resetAndDestroy(), /does not answer \(/],
    ['gzip that is not', (r) => void r.writeHead(200, { 'content-encoding': 'gzip' }).end('[]'), /does not answer \(/],
    ['429 without a time', (r) => say(r, { message: 'slow down' }, 429), /refuses \(429: slow down\)/],
    ['429 with a time that is not one', (r) => say(r, {}, 429, { 'Retry-After': 'soon' }), /refuses \(429/],
    [
      '503 with a date that has passed',
      (r) => say(r, {}, 503, { 'Retry-After': 'Wed, 21 Oct 2015 07:28:00 GMT' }),
      /fails \(503/,
    ],
  ])('%s: again, and then one sentence', async (_, fault, message) => {
    service.faults = [fault];
    near(
      await open('tei', { timeout: 200 }).score(pairs),
      texts.map((t) => logitOf('query', t)),
    );
    expect(service.calls).toHaveLength(2);
    service.faults = Array(9).fill(fault);
    await expect(open('tei', { timeout: 200 }).score(pairs)).rejects.toThrow(message);
    expect(service.calls).toHaveLength(5);
  });

  test.each([403, 404, 422])('%d is not asked again', async (status) => {
    service.faults = [(r) => say(r, { detail: 'no such model' }, status, { 'Retry-After': '1' })];
    await expect(open('tei').score(pairs)).rejects.toMatchObject({ exitCode: 2 });
    expect(service.calls).toHaveLength(1);
  });

  test('413 of a single text is one sentence with exit code 2', async () => {
    service.faults = Array(9).fill(((r) => say(r, { error: 'text too large' }, 413)) as Fault);
    await expect(open('tei').score(pairs)).rejects.toThrow(/refuses \(413: text too large\)|text too large/);
    expect(service.calls.length).toBeLessThan(5);
  });
});

describe('right answers in other forms', () => {
  test('gzip, a byte order mark, and vectors as base64', async () => {
    const wanted = texts.map((t) => logitOf('query', t));
    const answer = JSON.stringify(wanted.map((score, index) => ({ index, score })));
    service.faults = [
      (r) => void r.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(answer)),
      (r) => void r.end(`\ufeff${answer}`),
    ];
    near(await open('tei').score(pairs), wanted);
    near(await open('tei').score(pairs), wanted);
    service.faults = [embeddings((t) => base64(embeddingOf(t)))];
    near((await open('openai-embeddings').embed?.(texts, 'document'))?.data, texts.flatMap(embeddingOf));
  });

  test('an address of IPv6', async ({ skip }) => {
    const server: Server = createServer((_, r) =>
      say(
        r,
        scores((i) => i),
      ),
    );
    const listening = await new Promise<boolean>((done) => {
      server.once('error', () => done(false));
      server.listen(0, '::1', () => done(true));
    });
    if (!listening) return skip('no IPv6 here');
    const url = `http://[::1]:${(server.address() as AddressInfo).port}`;
    near(await open('tei', { url }).score(pairs), [0, 1, 2]);
    server.close();
  });
});

test('a redirect to another host is not followed, and the key stays here', async () => {
  process.env.OPENAI_API_KEY = 'key-for-this-host';
  let reached = 0;
  const other = createTcp(() => reached++);
  await new Promise<void>((done) => other.listen(0, '127.0.0.1', done));
  for (const status of [301, 302, 307, 308]) {
    const Location = `http://127.0.0.1:${(other.address() as AddressInfo).port}/v1/embeddings`;
    service.faults = [(r) => void r.writeHead(status, { Location }).end()];
    await expect(open('openai-embeddings').embed?.(texts, 'query')).rejects.toThrow(/it leads to another address/);
  }
  expect(reached).toBe(0);
  other.close();
});

describe('a model that changes', () => {
  const as = (model: string, width = 6): Fault => embeddings((t) => embeddingOf(t).slice(0, width), { model });

  test('in the middle: what came before is kept, nothing of the other model is', async () => {
    const cache = await cacheOf();
    const teacher = () => cache.wrap(open('openai-embeddings', { batchSize: 1 }));
    service.faults = [as('model-v1'), as('model-v2')];
    await expect(teacher().embed?.(texts, 'document')).rejects.toThrow(
      /answered as the model 'model-v1' before and answers as 'model-v2' now.*name the model by its version/,
    );
    expect(cache.asked).toBe(1);
    // A later run meets the other model first.
    service.faults = [as('model-v2'), as('model-v2')];
    await expect(teacher().embed?.(texts, 'document')).rejects.toThrow(/'model-v1' before and answers as 'model-v2'/);
    expect(cache.asked).toBe(1);
    service.faults = [as('model-v1'), as('model-v1')];
    near((await teacher().embed?.(texts, 'document'))?.data, texts.flatMap(embeddingOf));
    expect(cache.asked).toBe(3);
    await cache.close();
  });

  test('another width, in the second request or in a later run, is not mixed with what is kept', async () => {
    const cache = await cacheOf();
    const teacher = () => cache.wrap(open('openai-embeddings', { batchSize: 1 }));
    service.faults = [as('', 6), as('', 3)];
    await expect(teacher().embed?.(texts, 'document')).rejects.toThrow(/has 3 components and others 6/);
    expect(cache.asked).toBe(1);
    service.faults = [as('', 3), as('', 3)];
    await expect(teacher().embed?.(texts, 'document')).rejects.toThrow(
      /gives vectors of 3 numbers where those that came before have 6 \(embed documents\); its model was changed/,
    );
    near((await teacher().embed?.(texts, 'document'))?.data, texts.flatMap(embeddingOf));
    await cache.close();
  });
});
