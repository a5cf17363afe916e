/** @file Scores pairs and embeds texts through a queue into the cache: in ranges, each written once, even if several workers answered it. */
import { setMaxListeners } from 'node:events';
import { hashAll } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import type { OnNonFinite, ScoreCache } from '../cache/score-cache.ts';
import type { Pair, Teacher } from '../teacher.ts';
import { type EmbedJob, embedJobOf, type Job, type JobQueue, jobOf, type TeacherName } from './queue.ts';

/** Pairs or texts of a range, and bytes of text after which it ends. */
const ITEMS = 256;
const BYTES = 1 << 20;
/** Ranges in the queue at a time: enough for a hundred workers, and at most so many MiB on its server. */
const WINDOW = 256;
/** Milliseconds between two looks at who is there. */
const LOOK_EVERY = 2000;

export interface DistributeOptions {
  queue: JobQueue;
  cache: ScoreCache;
  teacher: TeacherName;
  /** How the cache lists the teacher. */
  as: Pick<Teacher, 'name' | 'kind' | 'tokenizer'>;
  onNonFinite?: OnNonFinite;
  /** Pairs or texts of a range. */
  range?: number;
}

/**
 * Scores the pairs that the cache lacks.
 * @returns pairs scored, and ranges that they came in
 * @throws FaultError for the first range that failed for good, once the others in the queue have come back
 */
export async function distribute(
  pairs: readonly Pair[],
  options: DistributeOptions,
  watch: RunControl = {},
): Promise<{ pairs: number; ranges: number }> {
  const { queue, cache, teacher, onNonFinite } = options;
  const different = distinct(pairs, ({ query, document }) => `${query.length} ${query}${document}`);
  const size = (p: Pair): number => Buffer.byteLength(p.document) + Buffer.byteLength(p.query);
  const counts = { pairs: 0, ranges: 0 };
  const answered = new Map<Pair, Asked>();
  const remote: Teacher = {
    ...options.as,
    key: teacher.key,
    async score(missing, { signal } = {}) {
      const job = jobOf(teacher, missing, onNonFinite === 'skip');
      const scores = await queue.ask(job, signal);
      answered.set(missing[0], { teacher, id: job.id });
      counts.pairs += missing.length;
      counts.ranges++;
      return scores;
    },
    async dispose() {},
  };
  const cached = cache.wrap(remote, onNonFinite);
  await inRanges(cutIntoRanges(different, size, options.range ?? ITEMS), {
    queue,
    key: teacher.key,
    stage: 'score',
    unit: 'pairs',
    missing: (range) => cache.missingScores(teacher.key, range),
    ask: (range, { signal }) => cached.score(range, { signal }),
    answered: (range) => taken(answered, range),
    watch,
  });
  return counts;
}

/**
 * Embeds the texts that the cache lacks, those of similar length together.
 * @returns texts embedded, and ranges that they came in
 * @throws FaultError as `distribute`
 */
export async function distributeTexts(
  texts: Texts,
  kind: EmbedJob['embed'],
  options: DistributeOptions,
  watch: RunControl = {},
): Promise<{ texts: number; ranges: number }> {
  const { queue, cache, teacher, onNonFinite } = options;
  const all = Array.from({ length: texts.length }, (_, i) => i);
  const different = distinct(all, (i) => hashAll([texts.text(i)]));
  const lengths = Uint32Array.from(all, (i) => texts.text(i).length);
  // A worker pads the texts of a range to each other.
  different.sort((a, b) => lengths[a] - lengths[b] || a - b);
  const counts = { texts: 0, ranges: 0 };
  const answered = new Map<string, Asked>();
  const remote: Teacher = {
    ...options.as,
    key: teacher.key,
    score: () => Promise.reject(new Error('texts are embedded here')),
    async embed(given, _, { signal } = {}) {
      const missing = given as readonly string[];
      const job = embedJobOf(teacher, missing, kind, onNonFinite === 'skip');
      const data = await queue.ask(job, signal);
      answered.set(missing[0], { teacher, id: job.id });
      counts.texts += missing.length;
      counts.ranges++;
      return { dimensions: data.length / missing.length, data };
    },
    async dispose() {},
  };
  const embed = cache.wrap(remote, onNonFinite).embed as NonNullable<Teacher['embed']>;
  const textsOf = (range: readonly number[]): string[] => range.map((i) => texts.text(i));
  const size = (i: number): number => Buffer.byteLength(texts.text(i));
  await inRanges(cutIntoRanges(different, size, options.range ?? ITEMS), {
    queue,
    key: teacher.key,
    stage: kind === 'query' ? 'embed queries' : 'embed documents',
    unit: 'texts',
    missing: (range) =>
      cache.missingEmbeddings(teacher.key, kind, { length: range.length, text: (k) => texts.text(range[k]) }),
    ask: (range, { signal }) => embed(textsOf(range), kind, { signal }),
    answered: (range) => taken(answered, textsOf(range)),
    watch,
  });
  return counts;
}

/** A job whose answer has come. */
type Asked = Pick<Job, 'teacher' | 'id'>;

/** The answered job of a range, by the first item in it that was asked for. */
function taken<K>(answered: Map<K, Asked>, range: readonly K[]): Asked | undefined {
  const first = range.find((item) => answered.has(item));
  const job = first === undefined ? undefined : answered.get(first);
  if (first !== undefined) answered.delete(first);
  return job;
}

/** What is done with ranges. */
interface Work<T> {
  queue: JobQueue;
  /** The teacher's. */
  key: string;
  stage: string;
  unit: string;
  /** How many of a range the cache lacks. */
  missing(range: readonly T[]): number;
  /** Has a range answered and written. */
  ask(range: readonly T[], watch: RunControl): Promise<unknown>;
  /** The job whose answer came for a range. */
  answered(range: readonly T[]): Asked | undefined;
  watch: RunControl;
}

/** Has every range answered of which something is missing, `WINDOW` at a time. */
async function inRanges<T>(all: readonly (readonly T[])[], work: Work<T>): Promise<void> {
  const { queue, key, stage, unit, watch } = work;
  const ranges = all.map((range) => ({ range, missing: work.missing(range) })).filter(({ missing }) => missing > 0);
  const total = all.reduce((sum, range) => sum + range.length, 0);
  let done = total - ranges.reduce((sum, { missing }) => sum + missing, 0);
  if (done) watch.onProgress?.({ stage, done, total, unit, note: `${done} of ${total} ${unit} were in the cache` });

  const look = attendance(queue, key, watch, () => ({ stage, done, total, unit }));
  const next = ranges.values();
  let failure: unknown;
  const lane = async (): Promise<void> => {
    for (const { range, missing } of next) {
      const failed = await work.ask(range, watch).then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      failure ??= failed?.error;
      // Only now may the queue let go of it: the answer is on disk, or the cache refuses it and would do so again.
      const job = work.answered(range);
      if (job) await queue.forget(job).catch((error) => (failure ??= error));
      if (failure) return;
      done += missing;
      watch.onProgress?.({ stage, done, total, unit, workers: look.workers });
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
}

/** Items of the same text once. */
function distinct<T>(items: readonly T[], textOf: (item: T) => string): T[] {
  const seen = new Set<string>();
  return items.filter((item) => {
    const text = textOf(item);
    if (seen.has(text)) return false;
    seen.add(text);
    return true;
  });
}

/** The same items give the same ranges, so that a run begun again asks for the jobs that an earlier one left. */
function cutIntoRanges<T>(items: readonly T[], sizeOf: (item: T) => number, most: number): T[][] {
  const ranges: T[][] = [];
  let bytes = 0;
  for (const item of items) {
    const size = sizeOf(item);
    const last = ranges.at(-1);
    if (last && last.length < most && bytes + size <= BYTES) {
      last.push(item);
      bytes += size;
    } else {
      ranges.push([item]);
      bytes = size;
    }
  }
  return ranges;
}

/** Watches the number of workers, and reports when there is none. */
function attendance(
  queue: JobQueue,
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
