/** @file One suite for every queue: each job is answered once, retried within bounds, and kept until it is forgotten. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Unfit } from '../../teachers/queue/errors.ts';
import { InProcessQueue } from '../../teachers/queue/in-process.ts';
import { openQueue } from '../../teachers/queue/index.ts';
import {
  type Answer,
  ATTEMPTS,
  embedJobOf,
  type Job,
  type JobQueue,
  jobOf,
  pairsOfJob,
  type ScoreJob,
} from '../../teachers/queue/queue.ts';
import { hasServer, type Server, startServer } from './server.ts';

let server: Server | undefined;
beforeAll(async () => {
  if (hasServer) server = await startServer();
});
afterAll(() => server?.stop());

/** Two ends of the same queue, as two processes have them. */
interface Ends {
  asking: JobQueue;
  working: JobQueue;
}
const members: Record<string, () => Promise<Ends>> = {
  'in process': async () => {
    const queue = new InProcessQueue();
    return { asking: queue, working: queue };
  },
  ...(hasServer && {
    bullmq: async () => {
      const [asking, working] = await Promise.all([1, 2].map(() => openQueue((server as Server).url)));
      return { asking, working };
    },
  }),
};

const teacher = { key: 'key of a teacher', kind: 'cross-encoder', model: 'models/cross' } as const;
let made = 0;
/** A job of its own: a server keeps what other tests asked. */
const newJob = (size = 3): ScoreJob =>
  jobOf(
    teacher,
    Array.from({ length: size }, (_, i) => ({ query: `query ${made++}`, document: `document ${i % 2}` })),
  );
/** Numbers that tell pairs apart and that text would round. */
const say: Answer = async (job) =>
  Float32Array.from(pairsOfJob(job as ScoreJob), (p) => Math.fround(1 / 3 + Number(p.query.split(' ')[1])));
/** Vectors that tell texts apart. */
const embed: Answer = async (job) =>
  Float32Array.from(job.texts.flatMap((t) => [t.length / 3, t.codePointAt(t.length - 1) ?? 0, -0.1]));

describe.each(Object.keys(members))('%s', (name) => {
  const open: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });
  const ends = async (): Promise<Ends> => {
    const pair = await members[name]();
    open.push(async () => {
      for (const end of new Set(Object.values(pair))) await end.close();
    });
    return pair;
  };
  const employ = (
    queue: JobQueue,
    answer: Answer,
    key: string = teacher.key,
  ): { stop(): Promise<void>; ended: Promise<void> } => {
    const controller = new AbortController();
    const ended = queue.work(key, answer, controller.signal);
    ended.catch(() => {});
    const stop = async (): Promise<void> => {
      controller.abort();
      await ended.catch(() => {});
    };
    open.push(stop);
    return { stop, ended };
  };

  test('every job comes back with its own scores, to the bit, from several workers', async () => {
    const { asking, working } = await ends();
    const by = [0, 0];
    for (const w of by.keys())
      employ(working, async (job) => {
        by[w]++;
        await new Promise((done) => setTimeout(done, 5));
        return say(job);
      });
    const jobs = Array.from({ length: 24 }, (_, i) => newJob(1 + (i % 5)));
    const answers = await Promise.all(jobs.map((job) => asking.ask(job)));
    for (const [i, job] of jobs.entries()) expect(answers[i]).toEqual(await say(job));
    expect(by[0] + by[1]).toBe(24);
    expect(Math.min(...by)).toBeGreaterThan(0);
  });

  test('a wrong count and what is not finite are not answers, and are not kept', async () => {
    const { asking, working } = await ends();
    for (const [wrong, message] of [
      [[1, 2, 3], /gave 3 scores for 2 pairs/],
      [[1], /gave 1 scores for 2 pairs/],
      [[1, Number.NaN], /score of "query \d+" with "document 1" is NaN/],
      [[Number.POSITIVE_INFINITY, 1], /with "document 0" is Infinity/],
    ] as [number[], RegExp][]) {
      const job = newJob(2);
      let answer: Answer = async () => Float32Array.from(wrong);
      const { stop } = employ(working, (asked) => answer(asked));
      await expect(asking.ask(job)).rejects.toThrow(message);
      // The same question again is answered by whoever can.
      answer = say;
      expect(await asking.ask(job)).toEqual(await say(job));
      await stop();
    }
  });

  test('non-finite scores, where requested, and texts of every kind pass unchanged', async () => {
    const { asking, working } = await ends();
    const texts = [
      { query: '', document: '\ud800 lone, \u0000, \u202e, 日本' },
      { query: 'x'.repeat(100_000), document: '' },
    ];
    const job = jobOf({ ...teacher, key: `texts ${name}` }, texts, true);
    let seen: Job | undefined;
    const odd: Answer = async (asked) => {
      seen = asked;
      return Float32Array.of(Number.NaN, Number.NEGATIVE_INFINITY);
    };
    employ(working, odd, job.teacher.key);
    expect([...(await asking.ask(job))]).toEqual([Number.NaN, Number.NEGATIVE_INFINITY]);
    expect(seen).toEqual(job);
  });

  test('texts are embedded by the workers that score: each vector comes back to the bit, whatever the width', async () => {
    const { asking, working } = await ends();
    for (let w = 0; w < 2; w++) employ(working, (job) => ('embed' in job ? embed(job) : say(job)));
    const named = { ...teacher, kind: 'dual-encoder', queryTokens: 16, dtype: 'int8' } as const;
    const jobs = Array.from({ length: 12 }, (_, i) =>
      embedJobOf(
        named,
        [`text ${name} ${made++}`, '', '日本 \ud800'].slice(0, 1 + (i % 3)),
        i % 2 ? 'query' : 'document',
      ),
    );
    const mixed = [...jobs, newJob(), newJob()];
    const answers = await Promise.all(mixed.map((job) => asking.ask(job)));
    for (const [i, job] of mixed.entries()) expect(answers[i]).toEqual(await ('embed' in job ? embed(job) : say(job)));
    // The same texts as queries and as documents are two jobs.
    expect(embedJobOf(named, ['a'], 'query').id).not.toBe(embedJobOf(named, ['a'], 'document').id);
  });

  test('numbers that are no vectors of the texts, and those that are not finite, are not answers', async () => {
    const { asking, working } = await ends();
    for (const [wrong, message] of [
      [[1, 2, 3], /gave 3 numbers as vectors of 2 texts/],
      [[], /gave 0 numbers as vectors of 2 texts/],
      [[1, 2, 3, Number.NaN], /vector of "second" is NaN in dimension 1/],
    ] as [number[], RegExp][]) {
      const job = embedJobOf(teacher, [`first ${made++}`, 'second'], 'document');
      let answer: Answer = async () => Float32Array.from(wrong);
      const { stop } = employ(working, (asked) => answer(asked));
      const failed = asking.ask(job);
      await expect(failed).rejects.toThrow(message);
      await expect(failed).rejects.toThrow(/2 texts could not be embedded .*"first \d+"/);
      answer = embed;
      expect(await asking.ask(job)).toEqual(await embed(job));
      await stop();
    }
    const skipped = embedJobOf(teacher, [`third ${made++}`], 'document', true);
    employ(working, async () => Float32Array.of(Number.NaN, 1));
    expect([...(await asking.ask(skipped))]).toEqual([Number.NaN, 1]);
  });

  test('a job requested twice at once and again later is done once, until it is forgotten', async () => {
    const { asking, working } = await ends();
    let times = 0;
    employ(working, (job) => {
      times++;
      return say(job);
    });
    const job = newJob();
    await Promise.all([asking.ask(job), asking.ask(job)]);
    // Whoever comes after a killed asker finds the answer there.
    const later = name === 'in process' ? asking : (await ends()).asking;
    expect(await later.ask(job)).toEqual(await say(job));
    expect(times).toBe(1);
    await later.forget(job);
    await later.ask(job);
    expect(times).toBe(2);
  });

  test('a job put before there is a worker waits; how many there are is known', async () => {
    const { asking, working } = await ends();
    const before = await asking.workers(teacher.key);
    const answer = asking.ask(newJob());
    const { stop } = employ(working, say);
    await answer;
    expect(await asking.workers(teacher.key)).toBe((before as number) + 1);
    await stop();
    await expect.poll(() => asking.workers(teacher.key)).toBe(before);
  });

  test('a job that fails is tried again, within bounds, and its error says which and why', async () => {
    const { asking, working } = await ends();
    const [poisoned, shaky, good] = [newJob(), newJob(), newJob()];
    const tries = new Map<string, number>();
    employ(working, (job) => {
      const n = (tries.get(job.id) ?? 0) + 1;
      tries.set(job.id, n);
      if (job.id === poisoned.id || (job.id === shaky.id && n < ATTEMPTS)) throw new Error('the model broke');
      return say(job);
    });
    const failed = asking.ask(poisoned);
    failed.catch(() => {});
    expect(await asking.ask(shaky)).toEqual(await say(shaky));
    expect(await asking.ask(good)).toEqual(await say(good));
    await expect(failed).rejects.toMatchObject({ code: 'queue.job-failed', exitCode: 3 });
    await expect(failed).rejects.toThrow(/3 pairs could not be scored .*tried 3 times.*the model broke.*query \d+/);
    expect(Object.fromEntries(tries)).toEqual({ [poisoned.id]: ATTEMPTS, [shaky.id]: ATTEMPTS, [good.id]: 1 });
    // Once fixed, it is asked for again.
    tries.set(poisoned.id, -10);
    const again = asking.ask(poisoned);
    again.catch(() => {});
    await expect(again).rejects.toMatchObject({ code: 'queue.job-failed' });
    expect(tries.get(poisoned.id)).toBe(-10 + ATTEMPTS);
  });

  test('two teachers share a server: the pairs of each reach its own workers alone', async () => {
    const { asking, working } = await ends();
    const keys = ['a', 'b'].map((k) => `teacher ${k} ${name}`);
    const texts = [{ query: 'the same query', document: 'the same document' }];
    const jobs = keys.map((key) => jobOf({ ...teacher, key }, texts));
    const met: string[][] = [[], []];
    const answerOf =
      (i: number): Answer =>
      async (job) => {
        met[i].push(job.teacher.key);
        return Float32Array.of(i + 1);
      };
    // The second has pairs and no worker: those of the first do not take them.
    const [first, second] = jobs.map((job) => asking.ask(job));
    employ(working, answerOf(0), keys[0]);
    expect([...(await first)]).toEqual([1]);
    const busy = async () => (await working.teachers()).map((t) => t.key).filter((key) => keys.includes(key));
    await expect.poll(busy).toEqual([keys[1]]);
    expect((await working.teachers()).find((t) => t.key === keys[1])).toEqual({ ...teacher, key: keys[1] });
    expect([await asking.workers(keys[0]), await asking.workers(keys[1])]).toEqual([1, 0]);
    employ(working, answerOf(1), keys[1]);
    expect([...(await second)]).toEqual([2]);
    expect(met).toEqual([[keys[0]], [keys[1]]]);
    await expect.poll(busy).toEqual([]);
  });

  test('a worker that is not the one for a job leaves, and the job is none the worse for it', async () => {
    const { asking, working } = await ends();
    const job = newJob();
    const answer = asking.ask(job);
    for (let i = 0; i <= ATTEMPTS; i++) {
      const { ended } = employ(working, () => {
        throw new Unfit({ code: 'worker.other-model', subject: 'another model' });
      });
      await expect(ended).rejects.toMatchObject({ code: 'worker.other-model', exitCode: 2 });
    }
    employ(working, say);
    expect(await answer).toEqual(await say(job));
  });

  test('who stops waiting gets the reason, and the job stays', async () => {
    const { asking, working } = await ends();
    const controller = new AbortController();
    const job = newJob();
    const given = asking.ask(job, controller.signal);
    given.catch(() => {});
    await new Promise((done) => setTimeout(done, 50));
    controller.abort(new Error('enough'));
    await expect(given).rejects.toThrow('enough');
    await expect(asking.ask(newJob(), controller.signal)).rejects.toThrow('enough');
    employ(working, say);
    expect(await asking.ask(job)).toEqual(await say(job));
  });
});

test('an address is told what is possible, or that nobody answers', async () => {
  await expect(openQueue('sqs://user:secret@queue')).rejects.toThrow(/'sqs:\/\/queue'.*redis: rediss: valkey:/);
  await expect(openQueue('nonsense')).rejects.toMatchObject({ code: 'queue.address', exitCode: 2 });
  const nobody = openQueue('redis://user:secret@127.0.0.1:1/2');
  await expect(nobody).rejects.toMatchObject({ code: 'queue.unreachable', exitCode: 2 });
  await expect(nobody).rejects.toThrow(/no queue server answers at redis:\/\/127.0.0.1:1\/2/);
});
