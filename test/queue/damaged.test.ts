/** @file Entries on a Redis server that are damaged or of another version: each is told of in a sentence, and no job is lost. */
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { hashAll } from '../../common/files.ts';
import { openQueue } from '../../teachers/queue/index.ts';
import {
  answerOf,
  answerText,
  checkedJob,
  embedJobOf,
  type JobQueue,
  jobOf,
  type ScoreJob,
} from '../../teachers/queue/queue.ts';
import { hasServer, type Server, startServer } from './server.ts';

const named = { kind: 'cross-encoder', model: 'models/cross' } as const;
const pairs = [
  { query: 'one', document: 'a' },
  { query: 'two', document: 'a' },
];
const scores = Float32Array.of(0.25, -3);

describe('what travels is checked', () => {
  const job = jobOf({ ...named, key: 'a key' }, pairs);
  const embedding = embedJobOf({ ...named, key: 'a key' }, ['one', 'two'], 'query');

  test('a job as it was made is taken', () => {
    for (const own of [job, embedding, jobOf(job.teacher, pairs, true)])
      expect(checkedJob(JSON.parse(JSON.stringify(own)))).toEqual(own);
  });

  test.each<[string, object]>([
    ['another text', { texts: ['one', 'b', 'two'] }],
    ['other pairs', { pairs: [2, 1, 0, 1] }],
    ['another teacher', { teacher: { ...job.teacher, key: 'other' } }],
    ['a pair without its text', { ...jobWith([0, 1, 7, 1]) }],
    ['a field of a later version', { priority: 3 }],
    ['a teacher with such a field', { teacher: { ...job.teacher, quantised: true } }],
    ['no texts', { texts: undefined }],
  ])('%s', (_, change) => {
    expect(() => checkedJob({ ...job, ...change })).toThrow(
      /^the job is damaged, or of another version of onnx-distill than this worker \([^\n]+\)$/,
    );
  });

  function jobWith(positions: number[]): object {
    const id = `r${hashAll(['a key', '', positions.join(), ...job.texts])}`;
    return { id, pairs: positions };
  }

  test('an answer is taken for its own job alone, and whole', () => {
    const text = answerText(job, scores);
    expect(answerOf(job, text)).toEqual(scores);
    const [numbers] = text.split(' ');
    const other = jobOf(job.teacher, [...pairs].reverse());
    for (const [of, bad] of [
      [other, text],
      [job, numbers],
      [job, text.replace(/^./, 'B')],
      [job, text.slice(0, -1)],
      [job, undefined],
      [job, { numbers }],
    ] as const)
      expect(() => answerOf(of, bad)).toThrow('the answer is damaged, or of a worker with another version');
  });
});

describe.skipIf(!hasServer)('on a server', () => {
  let server: Server;
  let redis: Redis;
  const open: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    server = await startServer();
    redis = new Redis(server.url);
  });
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });
  afterAll(async () => {
    redis?.disconnect();
    await server?.stop();
  });

  async function end(): Promise<{ queue: JobQueue; notes: string[] }> {
    const notes: string[] = [];
    const queue = await openQueue(server.url, { onNote: (note) => notes.push(note) });
    open.push(() => queue.close());
    return { queue, notes };
  }
  let made = 0;
  const newJob = (): ScoreJob => jobOf({ ...named, key: `key ${made++}` }, pairs);
  const entryOf = (job: ScoreJob): string =>
    `bull:onnx-distill-scores-${hashAll([job.teacher.key]).slice(0, 32)}:${job.id}`;

  /** A job that waits on the server; whoever asked for it is gone. */
  async function left(): Promise<ScoreJob> {
    const job = newJob();
    const { queue } = await end();
    const gone = new AbortController();
    const asked = queue.ask(job, gone.signal);
    asked.catch(() => {});
    await expect.poll(() => redis.exists(entryOf(job))).toBe(1);
    gone.abort();
    await asked.catch(() => {});
    return job;
  }
  async function employ(job: ScoreJob): Promise<{ times: () => number }> {
    const { queue } = await end();
    const controller = new AbortController();
    let times = 0;
    const ended = queue.work(
      job.teacher.key,
      async () => {
        times++;
        return scores;
      },
      controller.signal,
    );
    open.push(() => {
      controller.abort();
      return ended.catch(() => {});
    });
    return { times: () => times };
  }

  test('a job that is no JSON is put again by whoever asks, with a note', async () => {
    const job = await left();
    await redis.hset(entryOf(job), 'data', '{"id": "');
    const { queue, notes } = await end();
    const answer = queue.ask(job);
    answer.catch(() => {});
    await expect
      .poll(() => notes)
      .toEqual([expect.stringMatching(/^the entry of a job in .* was damaged .*put again$/)]);
    await employ(job);
    expect(await answer).toEqual(scores);
  });

  test('a job with other content is not scored; it fails with a sentence, and is whole when it is asked for again', async () => {
    const job = await left();
    await redis.hset(entryOf(job), 'data', JSON.stringify({ ...job, texts: ['one', 'b', 'two'] }));
    const worker = await employ(job);
    const { queue } = await end();
    const failed = queue.ask(job);
    await expect(failed).rejects.toMatchObject({ code: 'queue.job-failed' });
    await expect(failed).rejects.toThrow(/the job is damaged, or of another version [^\n]*its id is not the hash/);
    expect(worker.times()).toBe(0);
    expect(await queue.ask(job)).toEqual(scores);
    expect(worker.times()).toBe(1);
  });

  test('an answer of another version, or damaged, is not taken; the next one who asks has it made again', async () => {
    const base64 = Buffer.from(scores.buffer).toString('base64');
    for (const bad of [JSON.stringify(base64), JSON.stringify(`${base64} 0123456789abcdef`), '{}']) {
      const job = newJob();
      const worker = await employ(job);
      const first = await end();
      await first.queue.ask(job);
      await redis.hset(entryOf(job), 'returnvalue', bad);
      const { queue } = await end();
      await expect(queue.ask(job)).rejects.toThrow(/the answer is damaged, or of a worker with another version/);
      expect(await queue.ask(job)).toEqual(scores);
      expect(worker.times()).toBe(2);
    }
  });

  test('teachers whose announcement is not understood are left there, with a note each, once', async () => {
    const [good, later] = [await left(), await left()];
    const key = 'onnx-distill-teachers';
    const announced = JSON.parse((await redis.hget(key, later.teacher.key)) as string);
    const ofLater = JSON.stringify({ ...announced, teacher: { ...announced.teacher, quantised: true } });
    await redis.hset(key, later.teacher.key, ofLater);
    await redis.hset(key, 'junk', '{"at":');
    const before = await redis.hgetall(key);
    const { queue, notes } = await end();
    for (let round = 0; round < 2; round++) {
      const found = (await queue.teachers()).map((t) => t.key);
      expect([found.includes(good.teacher.key), found.includes(later.teacher.key)]).toEqual([true, false]);
    }
    expect(notes).toHaveLength(2);
    for (const note of notes) expect(note).toMatch(/is not understood .* of another version .* left to other workers$/);
    expect(await redis.hgetall(key)).toEqual(before);
    // Whoever asks for a job of the teacher announces it again.
    const answer = queue.ask(jobOf(later.teacher, pairs.slice(1)));
    await expect.poll(async () => (await queue.teachers()).map((t) => t.key)).toContain(later.teacher.key);
    await employ(later);
    expect(await answer.catch((error: Error) => error.message)).toMatch(/gave 2 scores for 1 pairs/);
  });
});
