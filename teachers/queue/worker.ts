/** @file Works on the jobs of a queue, pairs to score and texts to embed, until the signal aborts. */
import { setTimeout } from 'node:timers/promises';
import { InputError } from '../../common/errors.ts';
import type { RunControl } from '../../common/progress.ts';
import { type Computing, computeOn } from '../../engine/runtime/provider.ts';
import { checkDType } from '../compact.ts';
import { modelKey, openModel } from '../open-model.ts';
import type { Teacher } from '../teacher.ts';
import { Unfit } from './errors.ts';
import { openQueue, type QueueOptions } from './index.ts';
import { answerWith, type Job, type JobQueue, type TeacherName } from './queue.ts';

/** Milliseconds between two looks at which teachers have jobs. */
const LOOK_EVERY = 1000;

type Provider = Computing['provider'];

/** Which queue a worker serves with which teacher. */
export interface WorkerOptions extends QueueOptions {
  /** Where the teacher's model is on this machine; by default where the jobs say, or the hub name that they give. */
  model?: string;
  threads?: number;
  /** Where it computes; the fastest that is there by default. */
  provider?: Provider;
}

/** What a worker did. */
export interface WorkerReport {
  jobs: number;
  pairs: number;
  texts: number;
}

/**
 * Takes jobs until the signal aborts. Several teachers may share the queue: jobs that the model here does not answer for are
 * left to other workers, and a note says so.
 * @param queue its address
 * @throws InputError where the queue or the model that the options name cannot be opened
 */
export async function runWorker(
  queue: string,
  options: WorkerOptions = {},
  watch: RunControl = {},
): Promise<WorkerReport> {
  const onNote = (note: string): void => watch.onProgress?.({ stage: 'work', done: 0, unit: 'pairs', note });
  const opened = await openQueue(queue, { onNote, ...options });
  try {
    return await workOn(opened, options, watch);
  } finally {
    await opened.close();
  }
}

/** Takes the jobs of every teacher that the model here answers for; those of others are left to their workers. */
async function workOn(queue: JobQueue, options: WorkerOptions, watch: RunControl): Promise<WorkerReport> {
  const report: WorkerReport = { jobs: 0, pairs: 0, texts: 0 };
  let unit: 'pairs' | 'texts' = 'pairs';
  const tell = (note?: string): void =>
    watch.onProgress?.({ stage: 'work', done: report[unit], unit, ...(note && { note }) });
  tell(`waiting for pairs and texts from ${queue.name}`);
  const ended = new AbortController();
  const signal = watch.signal ? AbortSignal.any([watch.signal, ended.signal]) : ended.signal;
  // One range is worked on at a time, whosever it is.
  let turn: Promise<unknown> = Promise.resolve();
  const opened = new Map<string, Teacher>();
  const seen = new Set<string>();
  const serving: Promise<void>[] = [];
  let failure: unknown;
  const answer = async (asked: TeacherName, job: Job): Promise<Float32Array> => {
    if (job.teacher.key !== asked.key) throw new Error('the job is of another teacher than its queue');
    let teacher = opened.get(asked.key);
    if (!teacher) {
      teacher = await openFor(asked, options);
      opened.set(asked.key, teacher);
      tell(`working with ${teacher.name}`);
    }
    const onProgress = ({ note }: { note?: string }): void => void (note && tell(note));
    const numbers = await answerWith(teacher, job, { onProgress });
    unit = 'embed' in job ? 'texts' : 'pairs';
    report.jobs++;
    report[unit] += 'embed' in job ? job.texts.length : numbers.length;
    tell();
    return numbers;
  };
  const serve = async (asked: TeacherName): Promise<void> => {
    const inTurn = (job: Job): Promise<Float32Array> => {
      const mine = turn.then(() => answer(asked, job));
      turn = mine.catch(() => {});
      return mine;
    };
    await queue.work(asked.key, inTurn, signal).catch((error) => {
      failure ??= error;
      ended.abort();
    });
  };
  try {
    while (!signal.aborted) {
      for (const asked of await queue.teachers()) {
        if (seen.has(asked.key)) continue;
        seen.add(asked.key);
        const why = await unfit(asked, options);
        if (why === undefined) serving.push(serve(asked));
        else tell(`left to other workers: ${why}`);
      }
      await setTimeout(LOOK_EVERY, undefined, { signal }).catch(() => {});
    }
    await Promise.all(serving);
    if (failure) throw failure;
    return report;
  } finally {
    ended.abort();
    await Promise.allSettled(serving);
    for (const teacher of opened.values()) await teacher.dispose();
  }
}

/**
 * Why the model here does not answer for a teacher, by its files and where it would compute; undefined where it does.
 * @throws InputError where the model that the options name cannot be opened
 */
async function unfit(
  asked: TeacherName,
  { model, threads, provider = 'auto' }: WorkerOptions,
): Promise<string | undefined> {
  let key: string;
  try {
    if (asked.dtype === 'fp16') checkDType(asked.dtype, await computeOn({ provider, threads }), asked.model);
  } catch (cause) {
    return (cause as Error).message;
  }
  try {
    key = await modelKey({ ...asked, model: model ?? asked.model });
  } catch (cause) {
    const absent = new InputError({
      code: 'worker.no-model',
      subject: `the teacher ${asked.model} that is asked for cannot be opened on this machine (${(cause as Error).message})`,
      remedy: 'copy it here and name its folder with --model; the jobs stay in the queue for other workers',
      cause,
    });
    if (model !== undefined) throw absent;
    return absent.message;
  }
  return key === asked.key ? undefined : otherModel(asked, model ?? asked.model, key).message;
}

const otherModel = (asked: TeacherName, model: string, key: string): Unfit =>
  new Unfit({
    code: 'worker.other-model',
    subject: `${model} is another model than the one that is asked for`,
    expected: `the key ${asked.key.slice(0, 12)}… of model, tokenizer and truncation`,
    received: `${key.slice(0, 12)}…`,
    remedy: `copy ${asked.model} from the machine that asks and name it with --model; the jobs stay in the queue`,
  });

/** @throws Unfit where the model cannot be opened here or is another than the one asked for */
async function openFor(
  asked: TeacherName,
  { model = asked.model, threads, provider = 'auto' }: WorkerOptions,
): Promise<Teacher> {
  const session = await computeOn({ provider, threads });
  const own = await openModel({ ...asked, model }, session).catch((cause: Error) => {
    throw new Unfit({
      code: 'worker.no-model',
      subject: `the teacher ${asked.model} that is asked for cannot be opened on this machine (${cause.message})`,
      remedy: 'copy it here and name its folder with --model; the jobs stay in the queue for other workers',
      cause,
    });
  });
  if (own.key === asked.key) return own;
  await own.dispose();
  throw otherModel(asked, model, own.key);
}
