/**
 * @file Measures the cost of a model: size, load time, latency of one text, throughput, memory; in a separate process where
 * possible.
 */
import { fork } from 'node:child_process';
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FaultError } from '../../common/errors.ts';
import { readModelFile } from '../../engine/io/model-file.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { quantile } from '../../math/resampling.ts';
import { Encoder } from '../../models/encoder.ts';
import { isUnread } from '../../models/encoder-session.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { parameterCount } from '../../students/student.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import type { CostFigures } from '../report/figures.ts';

/** The job of a measurement; plain data that can be sent to another process. */
export type CostJob = { name: string; folder: string } & (
  | { kind: 'encoder'; file?: string; texts: string[]; maxLength?: number }
  | { kind: 'cross-encoder'; lists: { query: string; documents: string[] }[] }
);

/** Characters of a text that are sent to the process that times a model: more than a tokenizer reads of a text that it cuts. */
const READ = 1 << 20;

/** The part of a text that a model reads, as a string of its own: a part of another one would hold the whole. */
export const beginningOf = (text: string): string =>
  text.length > READ ? Buffer.from(text.slice(0, READ), 'utf16le').toString('utf16le') : text;

/** Texts encoded one at a time as warm-up, and texts in the batches for throughput. */
const WARM = 10;
const BATCHED = 512;

/** Measures in a new process, so that memory is that of the model alone; in this process if the code is not compiled. */
export async function measureCost(job: CostJob, signal?: AbortSignal): Promise<CostFigures> {
  const here = fileURLToPath(import.meta.url);
  if (here.endsWith('.ts')) return timeModel(job);
  const child = fork(here, ['--measure-cost'], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], signal });
  return new Promise((resolve, reject) => {
    child.on('message', (found) => {
      resolve(found as CostFigures);
      child.disconnect();
    });
    child.on('error', reject);
    child.on('exit', (code) =>
      reject(
        new FaultError({
          code: 'cost.failed',
          subject: `the process that times ${job.name} ended with status ${code}`,
          remedy: 'free memory and run the same command again',
        }),
      ),
    );
    child.send(job);
  });
}

/** Loads and times a model in this process. */
export async function timeModel(job: CostJob): Promise<CostFigures> {
  const file = (job.kind === 'encoder' ? job.file : undefined) ?? (await readModelFolder(job.folder)).model;
  const started = performance.now();
  if (job.kind === 'cross-encoder') {
    const teacher = await crossEncoder(job.folder);
    const loadMilliseconds = performance.now() - started;
    const ask = ({ query, documents }: { query: string; documents: string[] }) =>
      teacher.score(documents.map((document, i) => ({ queryId: '', documentId: String(i), query, document })));
    try {
      // Warm-up with a short list: a full one can take seconds.
      if (job.lists.length) await ask({ ...job.lists[0], documents: job.lists[0].documents.slice(0, 8) });
      const times = await timeEach(job.lists, ask);
      const pairs = job.lists.reduce((n, l) => n + l.documents.length, 0) / Math.max(1, job.lists.length);
      return { ...(await figures(job, file, loadMilliseconds, times)), role: 'teacher', pairs };
    } finally {
      await teacher.dispose();
    }
  }
  const encoder = await Encoder.load(file);
  const loadMilliseconds = performance.now() - started;
  const { texts, maxLength } = job;
  try {
    const encode = (text: string) => encoder.encode([text], { maxLength, role: 'query' });
    for (const text of texts.slice(0, WARM)) await encode(text);
    const times = await timeEach(texts, encode);
    const many = Array.from(
      { length: Math.min(BATCHED, Math.max(64, texts.length)) },
      (_, i) => texts[i % texts.length],
    );
    // Texts are made distinct, since equal texts are encoded once.
    const distinct = many.map((text, i) => (i < texts.length ? text : `${text} ${i}`));
    const before = performance.now();
    await encoder.encode(distinct, { maxLength, role: 'query' });
    const textsPerSecond = (1000 * distinct.length) / (performance.now() - before);
    return { ...(await figures(job, file, loadMilliseconds, times)), role: 'student', textsPerSecond };
  } finally {
    await encoder.dispose();
  }
}

/** Number of queries timed one at a time. */
export const TIMED_QUERIES = 60;

/** Median time of single calls in milliseconds, without the warm-up calls. */
export async function medianMilliseconds<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<number> {
  const times = await timeEach(items, work);
  const counted = times.slice(Math.min(10, items.length >> 1)).sort((a, b) => a - b);
  return counted[counted.length >> 1] ?? Number.NaN;
}

async function timeEach<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (const item of items) {
    const before = performance.now();
    await work(item);
    times.push(performance.now() - before);
  }
  return times;
}

/** A model for inference only need not be readable as a graph. */
async function parametersOf(kind: CostJob['kind'], file: string): Promise<number> {
  if (kind === 'cross-encoder') return (await readModelFile(file)).parameters;
  try {
    return parameterCount(await loadGraph(file));
  } catch (error) {
    if (!isUnread(error)) throw error;
    return (await readModelFile(file)).parameters;
  }
}

/** The peak is read before the graph is loaded again to count its weights. */
async function figures(
  job: CostJob,
  file: string,
  loadMilliseconds: number,
  times: number[],
): Promise<Omit<CostFigures, 'role'>> {
  const peakBytes = process.argv.includes('--measure-cost') ? process.resourceUsage().maxRSS * 1024 : undefined;
  return {
    name: job.name,
    bytes: statSync(file).size,
    parameters: await parametersOf(job.kind, file),
    p50: quantile(times, 0.5),
    p95: quantile(times, 0.95),
    timed: times.length,
    loadMilliseconds,
    peakBytes,
  };
}

if (
  process.argv.includes('--measure-cost') &&
  basename(process.argv[1] ?? '') === basename(fileURLToPath(import.meta.url))
)
  process.once('message', (job) => {
    timeModel(job as CostJob).then(
      (found) => process.send?.(found),
      (error) => {
        console.error(error);
        process.exit(3);
      },
    );
  });
