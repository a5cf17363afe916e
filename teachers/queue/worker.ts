/** @file Scores jobs of a queue until the signal aborts. */
import type { RunControl } from '../../common/progress.ts';
import { type Computing, computeOn } from '../../engine/runtime/provider.ts';
import { openModel } from '../open-model.ts';
import type { Teacher } from '../teacher.ts';
import { Unfit } from './errors.ts';
import { openQueue, type QueueOptions } from './index.ts';
import { pairsOfJob, type ScoreQueue, scoreJobSchema, type TeacherName } from './queue.ts';

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
}

/**
 * Takes jobs until the signal aborts.
 * @param queue its address
 * @throws InputError where the queue cannot be opened, or the model here is not the one that is asked for: that job goes back
 */
export async function runWorker(
  queue: string,
  options: WorkerOptions = {},
  watch: RunControl = {},
): Promise<WorkerReport> {
  const opened = await openQueue(queue, options);
  try {
    return await workOn(opened, options, watch);
  } finally {
    await opened.close();
  }
}

async function workOn(queue: ScoreQueue, options: WorkerOptions, watch: RunControl): Promise<WorkerReport> {
  const report: WorkerReport = { jobs: 0, pairs: 0 };
  let teacher: Teacher | undefined;
  const tell = (note?: string): void =>
    watch.onProgress?.({ stage: 'work', done: report.pairs, unit: 'pairs', ...(note && { note }) });
  tell(`waiting for pairs from ${queue.name}`);
  try {
    await queue.work(async (asked) => {
      const job = scoreJobSchema.parse(asked);
      if (teacher?.key !== job.teacher.key) {
        await teacher?.dispose();
        teacher = undefined;
        teacher = await openFor(job.teacher, options);
        tell(`scoring with ${teacher.name}`);
      }
      const scores = await teacher.score(pairsOfJob(job));
      report.jobs++;
      report.pairs += scores.length;
      tell();
      return scores;
    }, watch.signal ?? new AbortController().signal);
    return report;
  } finally {
    await teacher?.dispose();
  }
}

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
      remedy: 'copy it here and name its folder with --model; the pairs stay in the queue for other workers',
      cause,
    });
  });
  if (own.key === asked.key) return own;
  await own.dispose();
  throw new Unfit({
    code: 'worker.other-model',
    subject: `${model} is another model than the one that is asked for`,
    expected: `the key ${asked.key.slice(0, 12)}… of model, tokenizer and truncation`,
    received: `${own.key.slice(0, 12)}…`,
    remedy: `copy ${asked.model} from the machine that runs distill score and name it with --model; the pairs stay in the queue. Two teachers share a server in databases of their own: redis://HOST:PORT/1`,
  });
}
