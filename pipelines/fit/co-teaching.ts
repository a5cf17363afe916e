/** @file Two students of one lesson that choose for each other what to learn from. One works at a time; the first is the run's. */
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, hashParts, writeWhole } from '../../common/files.ts';
import type { StateKey } from '../../training/training-state.ts';
import type { Lesson, Trained } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';
import { trainingFolder } from './trained-weights.ts';

/** What a student tells the other, and is told. */
export interface Peer {
  /** Hands over each query's loss as it is before a step, and waits for the other's. */
  exchange(step: number, losses: Float64Array): Promise<Float64Array>;
}

type Train = (job: Job, lesson: Lesson, name: string, peer: Peer) => Promise<Trained>;

/**
 * Trains a lesson twice, in batches of two seeds, and gives the first student.
 *
 * What is exchanged is kept beside the training state until both are done: stopped between two renewals, one of them may have
 * read already what the other still waits for.
 *
 * @param key of the training, of which what is kept belongs
 */
export async function trainTogether(
  job: Job,
  lesson: Lesson,
  key: StateKey,
  name: string,
  train: Train,
): Promise<Trained> {
  const second = name ? `${name}-peer` : 'peer';
  const folder = trainingFolder(job.config.output, second);
  const stop = new AbortController();
  const signal = job.watch.signal ? AbortSignal.any([job.watch.signal, stop.signal]) : stop.signal;
  const turn = new Turn(signal);
  const belongs = hashParts(canonicalJson(key)).slice(0, 16);
  const file = (who: 0 | 1, step: number): string => join(folder, `losses-${who}-${step}-${belongs}.f64`);
  const peerOf = (who: 0 | 1): Peer => ({
    async exchange(step, losses) {
      await writeWhole(file(who, step), new Uint8Array(losses.buffer, losses.byteOffset, losses.byteLength));
      const others = file(who ? 0 : 1, step);
      while (!existsSync(others)) await turn.passOn();
      return new Float64Array(new Uint8Array(await readFile(others)).buffer);
    },
  });
  const inTurn = async (work: () => Promise<Trained>): Promise<Trained> => {
    await turn.take();
    try {
      return await work();
    } finally {
      turn.pass();
    }
  };

  const { config, watch } = job;
  // Copied before either begins: weighings change in place what is each student's own.
  const { documents, scores, weights, reliability } = lesson.examples;
  const copy = {
    ...lesson.examples,
    documents: documents.slice(),
    scores: scores.slice(),
    weights: weights.slice(),
    reliability: reliability?.slice(),
  };
  const own = { ...watch, signal };
  const first = inTurn(() => train({ ...job, watch: own }, lesson, name, peerOf(0)));
  // The other says nothing: it does what the first does, beside it.
  const quiet: Job = {
    ...job,
    config: { ...config, seed: config.seed + 1 },
    watch: { ...own, onProgress: undefined },
    note: () => {},
    warn: () => {},
  };
  const beside = inTurn(() => train(quiet, { ...lesson, examples: copy }, second, peerOf(1)));
  try {
    // Where the other fails, the first waits for nothing.
    const trained = await Promise.race([first, beside.then(() => first)]);
    stop.abort();
    await Promise.allSettled([beside]);
    await rm(folder, { recursive: true, force: true });
    return trained;
  } finally {
    stop.abort();
    await Promise.allSettled([first, beside]);
  }
}

/** Whose turn it is: one of two works, the other waits. */
class Turn {
  private taken = false;
  private readonly waiting: (() => void)[] = [];
  private readonly signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.signal = signal;
    signal.addEventListener('abort', () => {
      for (const go of this.waiting.splice(0)) go();
    });
  }

  /** @throws the signal's reason where the wait is given up */
  async take(): Promise<void> {
    if (this.taken) await new Promise<void>((go) => this.waiting.push(go));
    this.taken = true;
    this.signal.throwIfAborted();
  }

  pass(): void {
    this.taken = false;
    this.waiting.shift()?.();
  }

  /** Lets the other work until it passes on or is done. */
  async passOn(): Promise<void> {
    const back = new Promise<void>((go) => this.waiting.push(go));
    const other = this.waiting.length > 1 ? this.waiting.shift() : undefined;
    if (!other) throw new Error('there is no one to wait for');
    this.taken = false;
    other();
    await back;
    this.taken = true;
    this.signal.throwIfAborted();
  }
}
