/** @file The queue within one process: works without a server, and is the reference for other engines. */
import { type Deferred, deferred, until } from '../../common/promises.ts';
import { jobFailed, Unfit } from './errors.ts';
import { type Answer, ATTEMPTS, checkedAnswer, type Job, type JobQueue, type TeacherName } from './queue.ts';

interface Entry {
  job: Job;
  attempts: number;
  /** Settled once, for as many as ask. */
  answer: Deferred<Float32Array>;
}

export class InProcessQueue implements JobQueue {
  readonly name = 'the queue of this process';
  private readonly entries = new Map<string, Entry>();
  private waiting: Entry[] = [];
  /** Workers without a job. */
  private readonly idle: Deferred<void>[] = [];
  /** Workers by the teacher's key. */
  private readonly taking = new Map<string, number>();
  private readonly active = new Set<Entry>();

  async ask(job: Job, signal?: AbortSignal): Promise<Float32Array> {
    signal?.throwIfAborted();
    const known = this.entries.get(job.id);
    const entry = known ?? { job, attempts: 0, answer: deferred<Float32Array>() };
    if (!known) {
      this.entries.set(job.id, entry);
      this.put(entry);
    }
    return until(entry.answer.promise, signal);
  }

  async forget({ id }: Pick<Job, 'id'>): Promise<void> {
    this.entries.delete(id);
  }

  async teachers(): Promise<TeacherName[]> {
    const busy = [...this.waiting, ...this.active].map(({ job }) => [job.teacher.key, job.teacher] as const);
    return [...new Map(busy).values()];
  }

  async workers(key: string): Promise<number> {
    return this.taking.get(key) ?? 0;
  }

  async work(key: string, answer: Answer, signal: AbortSignal): Promise<void> {
    const count = (by: number): unknown => this.taking.set(key, (this.taking.get(key) ?? 0) + by);
    count(1);
    const stop = (): void => this.wake();
    signal.addEventListener('abort', stop);
    try {
      while (!signal.aborted) {
        const entry = this.waiting.find(({ job }) => job.teacher.key === key);
        if (entry) await this.attempt(entry, answer);
        else {
          const rest = deferred<void>();
          this.idle.push(rest);
          await rest.promise;
        }
      }
    } finally {
      count(-1);
      signal.removeEventListener('abort', stop);
    }
  }

  async close(): Promise<void> {}

  private async attempt(entry: Entry, answer: Answer): Promise<void> {
    this.waiting = this.waiting.filter((e) => e !== entry);
    this.active.add(entry);
    try {
      entry.answer.resolve(checkedAnswer(entry.job, await answer(entry.job)));
    } catch (error) {
      if (error instanceof Unfit) {
        this.put(entry);
        throw error;
      }
      if (++entry.attempts < ATTEMPTS) return this.put(entry);
      // Whoever asks again has it tried again.
      this.entries.delete(entry.job.id);
      entry.answer.reject(jobFailed(entry.job, `tried ${ATTEMPTS} times, at last: ${(error as Error).message}`));
    } finally {
      this.active.delete(entry);
    }
  }

  private put(entry: Entry): void {
    this.waiting.push(entry);
    this.wake();
  }

  private wake(): void {
    for (const rest of this.idle.splice(0)) rest.resolve();
  }
}
