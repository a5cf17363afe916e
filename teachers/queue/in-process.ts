/** @file The queue within one process: what scores where there is no server, and what others are held against. */
import { type Deferred, deferred, until } from '../../common/promises.ts';
import { jobFailed, Unfit } from './errors.ts';
import { type Answer, ATTEMPTS, checkedScores, type ScoreJob, type ScoreQueue } from './queue.ts';

interface Entry {
  job: ScoreJob;
  attempts: number;
  /** Settled once, for as many as ask. */
  scores: Deferred<Float32Array>;
}

export class InProcessQueue implements ScoreQueue {
  readonly name = 'the queue of this process';
  private readonly entries = new Map<string, Entry>();
  private readonly waiting: Entry[] = [];
  /** Workers without a job. */
  private readonly idle: Deferred<void>[] = [];
  private taking = 0;

  async ask(job: ScoreJob, signal?: AbortSignal): Promise<Float32Array> {
    signal?.throwIfAborted();
    const known = this.entries.get(job.id);
    const entry = known ?? { job, attempts: 0, scores: deferred<Float32Array>() };
    if (!known) {
      this.entries.set(job.id, entry);
      this.put(entry);
    }
    return until(entry.scores.promise, signal);
  }

  async forget(id: string): Promise<void> {
    this.entries.delete(id);
  }

  async workers(): Promise<number> {
    return this.taking;
  }

  async work(answer: Answer, signal: AbortSignal): Promise<void> {
    this.taking++;
    const stop = (): void => this.wake();
    signal.addEventListener('abort', stop);
    try {
      while (!signal.aborted) {
        const entry = this.waiting.shift();
        if (entry) await this.attempt(entry, answer);
        else {
          const rest = deferred<void>();
          this.idle.push(rest);
          await rest.promise;
        }
      }
    } finally {
      this.taking--;
      signal.removeEventListener('abort', stop);
    }
  }

  async close(): Promise<void> {}

  private async attempt(entry: Entry, answer: Answer): Promise<void> {
    try {
      entry.scores.resolve(checkedScores(entry.job, await answer(entry.job)));
    } catch (error) {
      if (error instanceof Unfit) {
        this.put(entry);
        throw error;
      }
      if (++entry.attempts < ATTEMPTS) return this.put(entry);
      // Whoever asks again has it tried again.
      this.entries.delete(entry.job.id);
      entry.scores.reject(jobFailed(entry.job, `tried ${ATTEMPTS} times, at last: ${(error as Error).message}`));
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
