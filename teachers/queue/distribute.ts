/** @file Scores pairs through a queue into the cache: in ranges, each written once, even if several workers scored it. */
import { setMaxListeners } from 'node:events';
import type { RunControl } from '../../common/progress.ts';
import type { OnNonFinite, ScoreCache } from '../cache/score-cache.ts';
import type { Pair, Teacher } from '../teacher.ts';
import { jobOf, type ScoreJob, type ScoreQueue, type TeacherName } from './queue.ts';

/** Pairs of a range, and bytes of text after which it ends. */
const PAIRS = 256;
const BYTES = 1 << 20;
/** Ranges in the queue at a time: enough for a hundred workers, and at most so many MiB on its server. */
const WINDOW = 256;
/** Milliseconds between two looks at who is there. */
const LOOK_EVERY = 2000;

export interface DistributeOptions {
  queue: ScoreQueue;
  cache: ScoreCache;
  teacher: TeacherName;
  /** How the cache lists the teacher. */
  as: Pick<Teacher, 'name' | 'kind' | 'tokenizer'>;
  onNonFinite?: OnNonFinite;
  /** Pairs of a range. */
  pairs?: number;
}

/**
 * Scores what the cache lacks.
 * @returns pairs scored, and ranges that they came in
 * @throws FaultError for the first range that failed for good, once the others in the queue have come back
 */
export async function distribute(
  pairs: readonly Pair[],
  options: DistributeOptions,
  watch: RunControl = {},
): Promise<{ pairs: number; ranges: number }> {
  const { queue, cache, teacher } = options;
  const scored = { pairs: 0, ranges: 0 };
  /** The job of each range, by the first pair in it. */
  const jobs = new WeakMap<Pair, Pick<ScoreJob, 'teacher' | 'id'>>();
  const remote: Teacher = {
    ...options.as,
    key: teacher.key,
    async score(missing, { signal } = {}) {
      const job = jobOf(teacher, missing, options.onNonFinite === 'skip');
      jobs.set(missing[0], { teacher, id: job.id });
      const scores = await queue.ask(job, signal);
      scored.pairs += missing.length;
      scored.ranges++;
      return scores;
    },
    async dispose() {},
  };
  const cached = cache.wrap(remote, options.onNonFinite);

  const different = distinct(pairs);
  const ranges = cutIntoRanges(different, options.pairs ?? PAIRS)
    .map((range) => ({ range, missing: cache.missingScores(teacher.key, range) }))
    .filter(({ missing }) => missing > 0);
  const total = different.length;
  let done = total - ranges.reduce((sum, { missing }) => sum + missing, 0);
  const unit = 'pairs';
  if (done)
    watch.onProgress?.({ stage: 'score', done, total, unit, note: `${done} of ${total} pairs were in the cache` });

  const look = attendance(queue, teacher.key, watch, () => ({ stage: 'score', done, total, unit }));
  const next = ranges.values();
  let failure: unknown;
  const lane = async (): Promise<void> => {
    for (const { range, missing } of next) {
      try {
        await cached.score(range, { signal: watch.signal });
        // The scores are on disk: only now may the queue let go of them.
        const job = range.map((pair) => jobs.get(pair)).find((asked) => asked !== undefined);
        if (job) await queue.forget(job);
      } catch (error) {
        failure ??= error;
      }
      if (failure) return;
      done += missing;
      watch.onProgress?.({ stage: 'score', done, total, unit, workers: look.workers });
    }
  };
  // Every range in the queue listens to it.
  if (watch.signal) setMaxListeners(0, watch.signal);
  try {
    await Promise.all(Array.from({ length: Math.min(WINDOW, ranges.length) }, lane));
  } finally {
    look.stop();
  }
  if (failure) throw failure;
  return scored;
}

/** Pairs of the same texts once. */
function distinct(pairs: readonly Pair[]): Pair[] {
  const seen = new Set<string>();
  return pairs.filter(({ query, document }) => {
    const text = `${query.length} ${query}${document}`;
    if (seen.has(text)) return false;
    seen.add(text);
    return true;
  });
}

/** The same pairs give the same ranges, so that a run begun again asks for the jobs that an earlier one left. */
function cutIntoRanges(pairs: readonly Pair[], most: number): Pair[][] {
  const ranges: Pair[][] = [];
  let bytes = 0;
  for (const pair of pairs) {
    const size = Buffer.byteLength(pair.document) + Buffer.byteLength(pair.query);
    const last = ranges.at(-1);
    if (last && last.length < most && bytes + size <= BYTES) {
      last.push(pair);
      bytes += size;
    } else {
      ranges.push([pair]);
      bytes = size;
    }
  }
  return ranges;
}

/** Watches the number of workers, and reports when there is none. */
function attendance(
  queue: ScoreQueue,
  key: string,
  watch: RunControl,
  now: () => { stage: string; done: number; total: number; unit: string },
): { workers: number | undefined; stop(): void } {
  const seen: { workers: number | undefined; stop(): void } = { workers: undefined, stop: () => clearInterval(timer) };
  let said = '';
  const look = async (): Promise<void> => {
    const workers = await queue.workers(key);
    seen.workers = workers;
    const trouble =
      workers === 0
        ? `there is no worker for ${queue.name} with this teacher: start \`distill worker --queue\` with its address, on this machine or others`
        : '';
    if (trouble && trouble !== said) watch.onProgress?.({ ...now(), note: trouble });
    said = trouble;
    watch.onProgress?.({ ...now(), workers });
  };
  const timer = setInterval(() => void look().catch(() => {}), LOOK_EVERY);
  void look().catch(() => {});
  return seen;
}
