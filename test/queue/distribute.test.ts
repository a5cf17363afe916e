/** @file Pairs through a queue into the cache: what is asked for, what is written, what a failure costs, what is said meanwhile. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Progress } from '../../common/progress.ts';
import { survey } from '../../teachers/cache/maintenance.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { type DistributeOptions, distribute, distributeTexts } from '../../teachers/queue/distribute.ts';
import { InProcessQueue } from '../../teachers/queue/in-process.ts';
import { type EmbedJob, type Job, pairsOfJob, type ScoreJob } from '../../teachers/queue/queue.ts';
import { embed, type Pair } from '../../teachers/teacher.ts';

const teacher = { key: 'a key', kind: 'cross-encoder', model: 'cross' } as const;
const pairs: Pair[] = Array.from({ length: 100 }, (_, i) => ({
  queryId: `q${i % 7}`,
  documentId: `d${i}`,
  query: `query ${i % 7}`,
  document: `document ${i % 90}`,
}));
/** 100 pairs of 7 x 90 texts: none is there twice. The same again, under other ids, changes nothing. */
const repeated = [...pairs, ...pairs.map((p) => ({ ...p, documentId: `${p.documentId} again` }))];

let folder: string;
let cache: ScoreCache;
let queue: InProcessQueue;
let jobs: ScoreJob[];
let stops: (() => Promise<void>)[];
let options: DistributeOptions;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'distribute-'));
  cache = await ScoreCache.open(folder);
  [queue, jobs, stops] = [new InProcessQueue(), [], []];
  const as = { name: 'cross', kind: 'cross-encoder', tokenizer: 'words' };
  options = { queue, cache, teacher, as, range: 8 };
});
afterEach(async () => {
  for (const stop of stops) await stop();
  await cache.close();
});

type Scoring = (job: ScoreJob) => Promise<Float32Array>;
const say: Scoring = async (job) => Float32Array.from(pairsOfJob(job), (p) => p.document.length);
const employ = (answer: Scoring = say): void => employAny((job) => answer(job as ScoreJob));
function employAny(answer: (job: Job) => Promise<Float32Array>): void {
  const controller = new AbortController();
  const ended = queue.work(
    teacher.key,
    async (job) => {
      jobs.push(job as ScoreJob);
      return answer(job);
    },
    controller.signal,
  );
  stops.push(async () => {
    controller.abort();
    await ended;
  });
}
const kept = async (): Promise<number> => (await survey(folder)).tallies.reduce((n, t) => n + t.scores, 0);

test('each pair of texts is requested and written once; a second call requests nothing', async () => {
  employ();
  employ();
  expect(await distribute(repeated, options)).toEqual({ pairs: 100, ranges: 13 });
  expect(jobs.reduce((n, j) => n + j.pairs.length / 2, 0)).toBe(100);
  // A text stands once in a job, however many pairs have it.
  expect(jobs[0].texts).toHaveLength(7 + 8);
  expect(await kept()).toBe(100);
  expect(await distribute(repeated, options)).toEqual({ pairs: 0, ranges: 0 });
  expect(jobs).toHaveLength(13);
  const silent = cache.wrap({
    ...options.as,
    key: teacher.key,
    score: async () => expect.fail(),
    dispose: async () => {},
  });
  expect([...(await silent.score(pairs))]).toEqual(pairs.map((p) => p.document.length));
  expect((await survey(folder)).tallies).toMatchObject([{ name: 'cross', scores: 100, tokenizer: 'words' }]);
});

test('of a range that is partly cached, the rest is requested', async () => {
  employ();
  await distribute(
    pairs.filter((_, i) => i % 2),
    options,
  );
  expect(await distribute(pairs, options)).toEqual({ pairs: 50, ranges: 13 });
  expect(await kept()).toBe(100);
});

test('a range ends where its texts grow large', async () => {
  employ();
  const long = pairs.slice(0, 6).map((p, i) => ({ ...p, document: String(i).repeat(400_000) }));
  await distribute(long, options);
  expect(jobs.map((j) => j.pairs.length / 2).sort()).toEqual([2, 2, 2]);
});

test('a poisoned range stops the work with one error; the others are kept, and only it is requested again', async () => {
  employ((job) => {
    if (job.texts.includes('document 9')) throw new Error('out of memory');
    return say(job);
  });
  const failed = distribute(pairs, options);
  await expect(failed).rejects.toMatchObject({ code: 'queue.job-failed', exitCode: 3 });
  await expect(failed).rejects.toThrow(/8 pairs could not be scored \(tried 3 times, at last: out of memory\)/);
  // Documents 9 and 99 - 90 = 9 are in two ranges.
  expect(await kept()).toBe(100 - 8 - 4);
  const asked = jobs.length;
  await stops.pop()?.();
  employ();
  expect(await distribute(pairs, options)).toEqual({ pairs: 12, ranges: 2 });
  expect(jobs.length - asked).toBe(2);
});

test('a score that is not finite stops the work with its pair, or stays out', async () => {
  employ(async (job) => Float32Array.from(pairsOfJob(job), (p) => (p.document === 'document 33' ? Number.NaN : 1)));
  await expect(distribute(pairs, options)).rejects.toThrow(
    /the teacher's score of "query 5" with "document 33" is NaN/,
  );
  // A range whose answer is not whole is not an answer, and nothing of it is kept.
  expect(await kept()).toBeLessThan(100);
  await distribute(pairs, { ...options, onNonFinite: 'skip' });
  expect(await kept()).toBe(99);
});

test('what is said: how far it is, how many work, and that nobody does', async () => {
  const heard: Progress[] = [];
  const onProgress = (p: Progress): void => void heard.push(p);
  const running = distribute(pairs, options, { onProgress });
  await expect.poll(() => heard.some((p) => p.note)).toBe(true);
  expect(heard.find((p) => p.note)?.note).toMatch(
    /there is no worker for the queue of this process.*distill worker --queue/,
  );
  employ();
  await running;
  const last = heard.at(-1);
  expect(last).toMatchObject({ stage: 'score', done: 100, total: 100, unit: 'pairs' });
  expect(heard.filter((p) => !p.note).map((p) => p.done)).toEqual(
    heard
      .filter((p) => !p.note)
      .map((p) => p.done)
      .sort((a, b) => a - b),
  );
  heard.length = 0;
  await distribute([...pairs, { ...pairs[0], document: 'one more' }], options, { onProgress });
  expect(heard.some((p) => p.note === '100 of 101 pairs were in the cache')).toBe(true);
});

test('an aborted signal ends it with its reason; what was scored is kept', async () => {
  const controller = new AbortController();
  employ(async (job) => {
    if (jobs.length === 5) controller.abort(new Error('enough'));
    return say(job);
  });
  await expect(distribute(pairs, options, { signal: controller.signal })).rejects.toThrow('enough');
  expect(await kept()).toBeGreaterThan(0);
  expect(await kept()).toBeLessThan(100);
});

describe('texts', () => {
  const texts = {
    length: 120,
    ids: Array.from({ length: 120 }, (_, i) => `d${i}`),
    text: (i: number) => 'word '.repeat(1 + ((i * 7) % 30)) + (i % 100),
  };
  const vector = (text: string): number[] => [
    text.length,
    Math.fround(1 / text.length),
    text.charCodeAt(text.length - 1),
  ];
  const embedding = async (job: Job): Promise<Float32Array> => Float32Array.from(job.texts.flatMap(vector));
  const asked = (): EmbedJob[] => jobs as unknown as EmbedJob[];
  const vectorsKept = async (): Promise<number> => (await survey(folder)).tallies.reduce((n, t) => n + t.embeddings, 0);
  const read = async (kind: 'query' | 'document'): Promise<Float32Array> => {
    const silent = { ...options.as, key: teacher.key, score: async () => expect.fail(), dispose: async () => {} };
    const wrapped = cache.wrap({ ...silent, embed: async () => expect.fail() });
    return (await embed(wrapped)(texts, kind)).data;
  };

  test('each is embedded and written once, those of similar length together, and comes back in its place', async () => {
    employAny(embedding);
    employAny(embedding);
    const different = new Set(Array.from({ length: 120 }, (_, i) => texts.text(i)));
    const ranges = Math.ceil(different.size / 8);
    expect(await distributeTexts(texts, 'document', options)).toEqual({ texts: different.size, ranges });
    expect(asked().flatMap((j) => j.texts).length).toBe(different.size);
    expect(new Set(asked().map((j) => j.embed))).toEqual(new Set(['document']));
    for (const job of asked()) {
      const lengths = job.texts.map((t) => t.length);
      expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThan(30);
    }
    expect(await vectorsKept()).toBe(different.size);
    expect(await distributeTexts(texts, 'document', options)).toEqual({ texts: 0, ranges: 0 });
    expect(await read('document')).toEqual(
      Float32Array.from(Array.from({ length: 120 }, (_, i) => vector(texts.text(i))).flat()),
    );
    // A query is another text than a document of the same words.
    expect((await distributeTexts(texts, 'query', options)).texts).toBe(different.size);
    expect(asked().at(-1)?.embed).toBe('query');
  });

  test('a worker that cannot embed one range stops the work with one error; the others are kept, and only it is asked for again', async () => {
    const poisoned = texts.text(3);
    let broken = true;
    employAny((job) => {
      if (broken && job.texts.includes(poisoned)) throw new Error('out of memory');
      return embedding(job);
    });
    const failed = distributeTexts(texts, 'document', options);
    await expect(failed).rejects.toMatchObject({ code: 'queue.job-failed', exitCode: 3 });
    await expect(failed).rejects.toThrow(/8 texts could not be embedded \(tried 3 times, at last: out of memory\)/);
    const before = await vectorsKept();
    expect(before).toBeGreaterThan(0);
    broken = false;
    const again = await distributeTexts(texts, 'document', options);
    expect(before + again.texts).toBe(await vectorsKept());
    expect(again).toEqual({ texts: 8, ranges: 1 });
  });

  test('vectors of another width than those that are kept are refused, and are not kept in the queue', async () => {
    let width = 3;
    employAny(async (job) => new Float32Array(job.texts.length * width).fill(1));
    await distributeTexts({ length: 10, text: texts.text }, 'document', options);
    width = 2;
    // Half of a range is kept with three numbers: the rest comes with two.
    const other = { length: 14, text: texts.text };
    await expect(distributeTexts(other, 'document', { ...options, range: 64 })).rejects.toMatchObject({
      code: 'teacher.other-width',
    });
    width = 3;
    expect((await distributeTexts(other, 'document', { ...options, range: 64 })).texts).toBe(4);
  });

  test('a vector that is not finite stops the work with its text, or stays out', async () => {
    const bad = texts.text(5);
    employAny(async (job) => Float32Array.from(job.texts.flatMap((t) => (t === bad ? [1, Number.NaN, 2] : vector(t)))));
    await expect(distributeTexts(texts, 'document', options)).rejects.toThrow(
      /the teacher's vector of "word word .*" is NaN in dimension 1/,
    );
    const { texts: came } = await distributeTexts(texts, 'document', { ...options, onNonFinite: 'skip' });
    expect(came).toBeGreaterThan(0);
    expect(await vectorsKept()).toBe(new Set(Array.from({ length: 120 }, (_, i) => texts.text(i))).size - 1);
  });
});
