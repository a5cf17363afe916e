/** @file One teacher's jobs on a Redis or Valkey server: a BullMQ queue of its own, so that workers of others never see them. */
import { hostname } from 'node:os';
import type { Job as Carried, Queue, QueueEvents } from 'bullmq';
import type { Redis } from 'ioredis';
import { type Deferred, deferred, until } from '../../common/promises.ts';
import { jobFailed, Unfit } from './errors.ts';
import {
  type Answer,
  ATTEMPTS,
  answerOf,
  answerText,
  checkedAnswer,
  checkedJob,
  DEATHS,
  isEmbedding,
  type Job,
} from './queue.ts';

/** Seconds that answers stay which nobody forgot: whoever asked was killed and may come back. */
export const KEEP = 7 * 24 * 3600;
/** Milliseconds between two looks at jobs whose end no event told, and before a failed job is tried again. */
const LOOK_EVERY = 5000;
const RETRY_AFTER = 300;

/** What is loaded of the optional packages. */
export interface Modules {
  Queue: typeof import('bullmq').Queue;
  QueueEvents: typeof import('bullmq').QueueEvents;
  Worker: typeof import('bullmq').Worker;
  WaitingError: typeof import('bullmq').WaitingError;
  Redis: typeof import('ioredis').Redis;
}

export interface LaneOptions {
  /** The name of the queue on the server. */
  name: string;
  modules: Modules;
  client: Redis;
  /** Milliseconds after which the job of a silent worker goes to another. */
  lease: number;
  /** Tells workers that the teacher has jobs; before each job that is put. */
  announce(job: Job): Promise<void>;
  /** Is told of entries that could not be read. */
  onNote(note: string): void;
}

interface Outstanding {
  job: Job;
  answer: Deferred<Float32Array>;
}

export class BullLane {
  private readonly options: LaneOptions;
  private queue: Queue | undefined;
  private events: QueueEvents | undefined;
  private look: NodeJS.Timeout | undefined;
  private readonly outstanding = new Map<string, Outstanding>();

  constructor(options: LaneOptions) {
    this.options = options;
  }

  async ask(job: Job, signal?: AbortSignal): Promise<Float32Array> {
    signal?.throwIfAborted();
    const known = this.outstanding.get(job.id);
    const entry = known ?? { job, answer: deferred<Float32Array>() };
    try {
      if (!known) {
        this.outstanding.set(job.id, entry);
        await this.listen();
        const earlier = await this.read(job.id);
        if (earlier && (await earlier.isFailed())) await earlier.remove();
        await this.settle(entry);
      }
      return await until(entry.answer.promise, signal);
    } finally {
      this.outstanding.delete(job.id);
    }
  }

  async forget(id: string): Promise<void> {
    await this.opened.remove(id);
  }

  async workers(): Promise<number | undefined> {
    if (this.options.client.status !== 'ready') return undefined;
    // Some hosted servers do not say who is connected.
    return this.opened.getWorkersCount().catch(() => undefined);
  }

  /** Whether jobs wait here or are worked on. */
  async busy(): Promise<boolean> {
    const counts = await this.opened.getJobCounts('waiting', 'active', 'delayed', 'prioritized');
    return Object.values(counts).some((n) => n > 0);
  }

  async work(answer: Answer, signal: AbortSignal): Promise<void> {
    const { Worker, WaitingError } = this.options.modules;
    const ended = deferred<void>();
    const worker = new Worker(
      this.options.name,
      async (job: Carried, token?: string) => {
        try {
          const asked = checkedJob(job.data);
          return answerText(asked, checkedAnswer(asked, await answer(asked)));
        } catch (error) {
          if (!(error instanceof Unfit)) throw new Error(`${hostname()}: ${(error as Error).message}`);
          await job.moveToWait(token);
          ended.reject(error);
          // Closing before the job is let go keeps this worker from taking the next.
          void worker.close();
          throw new WaitingError();
        }
      },
      {
        connection: this.options.client,
        lockDuration: this.options.lease,
        stalledInterval: this.options.lease,
        maxStalledCount: DEATHS,
        drainDelay: 1,
      },
    );
    // A lock lost to another worker, a server away for a while: BullMQ goes on by itself.
    worker.on('error', () => {});
    try {
      await until(ended.promise, signal).catch((error) => {
        if (!signal.aborted) throw error;
      });
    } finally {
      await worker.close();
    }
  }

  async close(): Promise<void> {
    clearInterval(this.look);
    await this.events?.close();
    await this.queue?.close();
  }

  /** A job's entry; one that is no JSON is removed, so that it can be put again by whoever asks. */
  private async read(id: string): Promise<Carried | undefined> {
    try {
      return (await this.opened.getJob(id)) ?? undefined;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      await this.opened.remove(id);
      this.options.onNote(`the entry of a job in ${this.options.name} was damaged (${error.message}): it is put again`);
      return undefined;
    }
  }

  private get opened(): Queue {
    this.queue ??= new this.options.modules.Queue(this.options.name, { connection: this.options.client });
    return this.queue;
  }

  /** Events tell at once what ended; a look now and then finds what they missed, such as a server that lost its memory. */
  private async listen(): Promise<void> {
    if (!this.events) {
      this.events = new this.options.modules.QueueEvents(this.options.name, { connection: this.options.client });
      this.events.on('error', () => {});
      for (const ended of ['completed', 'failed'] as const)
        this.events.on(ended, ({ jobId }: { jobId: string }) => {
          const entry = this.outstanding.get(jobId);
          if (entry) this.settle(entry).catch((error) => entry.answer.reject(error));
        });
      this.look = setInterval(() => {
        if (this.options.client.status === 'ready')
          for (const entry of this.outstanding.values())
            this.settle(entry).catch((error) => entry.answer.reject(error));
      }, LOOK_EVERY);
    }
    await this.events.waitUntilReady();
  }

  /** Puts the job where the server does not know it; settles it where it has ended. */
  private async settle({ job, answer }: Outstanding): Promise<void> {
    // The state first: a job that was read before it ended has no answer, even if one follows a moment later.
    const state = await this.opened.getJobState(job.id);
    const found = await this.read(job.id);
    if (!found) {
      // Forgotten meanwhile by whoever asked.
      if (!this.outstanding.has(job.id)) return;
      await this.options.announce(job);
      await this.opened.add(isEmbedding(job) ? 'embed' : 'score', job, {
        jobId: job.id,
        attempts: ATTEMPTS,
        backoff: { type: 'fixed', delay: RETRY_AFTER },
        removeOnComplete: { age: KEEP },
        removeOnFail: { age: KEEP },
      });
      return;
    }
    if (state === 'completed') {
      try {
        answer.resolve(answerOf(job, found.returnvalue));
      } catch (error) {
        // An answer of an earlier version, or another program's: not kept, so that it is made anew when asked for again.
        await found.remove().catch(() => {});
        answer.reject(jobFailed(job, (error as Error).message));
      }
    } else if (state === 'failed') {
      const silent = /stalled/.test(found.failedReason);
      const why = silent
        ? `its workers died or fell silent more than ${DEATHS} times`
        : `tried ${found.attemptsMade} times, at last on ${found.failedReason}`;
      answer.reject(jobFailed(job, why));
    }
  }
}
