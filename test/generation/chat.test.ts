/** @file Queries by a language model, against a local server that speaks the protocol, faults included. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { chatQueries, DEFAULT_PROMPT, queriesOf } from '../../generation/chat.ts';
import { ReplyCache } from '../../generation/reply-cache.ts';
import { type Answer, closeAll, closing, fail, say, server } from './server.ts';

afterEach(closeAll);
const cacheFile = (): string => {
  const dir = mkdtempSync(join(tmpdir(), 'chat-'));
  closing.push(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'replies.jsonl');
};
const documents = (n: number) => ({ length: n, text: (i: number) => `text ${i} with {count} braces` });
const options = (url: string, cache = cacheFile()) => ({ url, model: 'tiny', each: 2, cache, retries: 2 });
const echo: Answer = ({ messages }, response) => {
  const n = /text (\d+)/.exec(messages[0].content)?.[1];
  say(response, `Here are the queries:\n1. "first ${n}"\n- second ${n}\nthird ${n}`);
};

test('the docs quote the prompt exactly', () => {
  const docs = readFileSync(join(import.meta.dirname, '../../docs/running.md'), 'utf8');
  expect(/<!-- prompt -->\n\n```\n([\s\S]*?)\n```/.exec(docs)?.[1]).toBe(DEFAULT_PROMPT);
});

test('a reply is cut into queries', () => {
  expect(
    queriesOf(
      `<think>hm\nno</think>Sure, here they are:\n\n1. one\n2) two\n* three\n(4) “four”\n...\n${'x'.repeat(301)}`,
    ),
  ).toEqual(['one', 'two', 'three', 'four']);
});

test('a reply with a line separator of Unicode is found in the cache again', async () => {
  const { url, calls } = await server((_, response) => say(response, 'one\u2028still one\ntwo'));
  const cache = cacheFile();
  const first = await chatQueries(documents(1), options(url, cache));
  expect((await chatQueries(documents(1), options(url, cache))).queries).toEqual(first.queries);
  expect(calls).toHaveLength(1);
});

test('replies are read again: separators of lines that JSON leaves as they are, and around a line cut within a character', async () => {
  const file = cacheFile();
  const written = await ReplyCache.open(file);
  const reply = { text: `one\u2028two\u2029three\rfour\n${'ä€😀'.repeat(40_000)}`, tokens: 3 };
  await written.put('first', reply);
  const whole = readFileSync(file);
  // Killed within the last character of a second reply.
  writeFileSync(file, Buffer.concat([whole, Buffer.from('{"key":"second","text":"ä').subarray(0, -1)]));
  const again = await ReplyCache.open(file);
  expect(again.get('first')).toEqual({ key: 'first', ...reply });
  expect(again.get('second')).toBeUndefined();
  await again.put('third', { text: 'x', tokens: 1 });
  const last = await ReplyCache.open(file);
  expect([last.get('first')?.tokens, last.get('third')?.text]).toEqual([3, 'x']);
});

test('each document gets its queries; the prompt holds the text, the count and the examples', async () => {
  const { url, calls } = await server(echo);
  const result = await chatQueries(documents(3), { ...options(url), examples: ['how to x'] });
  expect(result.queries).toEqual(
    [0, 1, 2].flatMap((d) => [
      { document: d, text: `first ${d}` },
      { document: d, text: `second ${d}` },
    ]),
  );
  expect(result).toMatchObject({ calls: 3, cached: 0, tokens: 30, documents: 3, notes: [] });
  expect(calls[0].content).toContain('Write 2 short search queries');
  expect(calls[0].content).toContain('how to x');
  expect(calls[0].content).toContain('with {count} braces');
});

test('a second call sends no request; another prompt does; so does a truncated line of the cache', async () => {
  const { url, calls } = await server(echo);
  const own = options(url);
  await chatQueries(documents(3), own);
  const again = await chatQueries(documents(3), own);
  expect(again).toMatchObject({ calls: 0, cached: 3 });
  expect(again.queries).toHaveLength(6);
  await chatQueries(documents(3), { ...own, prompt: 'Other: {document}' });
  expect(calls).toHaveLength(6);
  appendFileSync(own.cache, '{"key":"abc","te');
  expect(await chatQueries(documents(4), own)).toMatchObject({ calls: 1, cached: 3 });
  expect(await chatQueries(documents(4), own)).toMatchObject({ calls: 0, cached: 4 });
  expect(readFileSync(own.cache, 'utf8').trim().split('\n')).toHaveLength(8);
});

test('the budget ends the asking, what came is kept, and it says so', async () => {
  const { url } = await server(echo);
  const own = options(url);
  const calls = await chatQueries(documents(10), { ...own, concurrency: 1, budget: { calls: 4 } });
  expect(calls).toMatchObject({ calls: 4, documents: 4 });
  expect(calls.notes[0]).toContain('the budget of 4 calls is spent: 4 of 10 documents have queries');
  const tokens = await chatQueries(documents(10), { ...own, concurrency: 1, budget: { tokens: 20 } });
  expect(tokens).toMatchObject({ calls: 2, cached: 4, documents: 6 });
});

describe('faults', () => {
  test('requests to a busy server are repeated after the time that it gives', async () => {
    const { url, calls } = await server((body, response, n) =>
      n === 1
        ? fail(response, 429, { 'retry-after-ms': '20' })
        : n === 2
          ? fail(response, 500, { 'retry-after-ms': '20' })
          : echo(body, response, n),
    );
    expect(await chatQueries(documents(1), options(url))).toMatchObject({ documents: 1 });
    expect(calls).toHaveLength(3);
  });
  test.each([
    [401, 'set OPENAI_API_KEY'],
    [404, 'check generate.url'],
  ])('%i is one sentence with the remedy', async (status, remedy) => {
    const { url } = await server((_, response) => fail(response, status));
    await expect(chatQueries(documents(2), options(url))).rejects.toThrow(remedy);
  });
  test('no server, no chat endpoint, a reply without text', async () => {
    await expect(chatQueries(documents(1), { ...options('http://127.0.0.1:9/v1'), retries: 0 })).rejects.toThrow(
      'did not write queries (no answer',
    );
    const page = await server((_, response) => response.end('<html>'));
    await expect(chatQueries(documents(1), options(page.url))).rejects.toThrow(/answered without|did not write/);
    const empty = await server((_, response) => say(response, null));
    await expect(chatQueries(documents(1), options(empty.url))).rejects.toThrow('answered without choices');
  });
  test('replies without queries are counted', async () => {
    const { url } = await server((_, response) => say(response, '...'));
    expect((await chatQueries(documents(2), options(url))).notes).toEqual(['2 replies held no query']);
  });
  test('what came before a failure is kept', async () => {
    let broken = true;
    const { url, calls } = await server((body, response, n) =>
      n > 2 && broken ? fail(response, 400) : echo(body, response, n),
    );
    const own = { ...options(url), concurrency: 1 };
    await expect(chatQueries(documents(5), own)).rejects.toThrow('error 400');
    broken = false;
    expect(await chatQueries(documents(5), own)).toMatchObject({ calls: 3, cached: 2, documents: 5 });
    expect(calls).toHaveLength(6);
  });
  test('stopping by a signal stops, and a prompt without {document} is refused', async () => {
    const { url } = await server(() => {});
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error('stopped')), 50);
    await expect(chatQueries(documents(3), { ...options(url), signal: stop.signal })).rejects.toThrow('stopped');
    await expect(chatQueries(documents(1), { ...options(url), prompt: 'x' })).rejects.toThrow('has no {document}');
  });
});
