/**
 * @file Whether an Arrow file can be read at all. apache-arrow believes the counts in a file's metadata: a damaged one fills the
 * memory and ends the process. So a thread of little memory, which may end alone, reads the file's structure first.
 */
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';

export const DAMAGED = 'its metadata is damaged';
const HEAP_MEGABYTES = 256;
/** Milliseconds for a file, and for each of its bytes: a slow disk reads 2 MB a second. */
const PATIENCE = 60_000;
const PATIENCE_A_BYTE = 1 / 2000;

const READ = `
const { parentPort, workerData } = require('node:worker_threads');
const { RecordBatchReader } = require(workerData.library);
(async () => {
  const reader = await RecordBatchReader.from(require('node:fs').createReadStream(workerData.file));
  await reader.open();
  for await (const batch of reader) void batch.numRows;
})().then(() => parentPort.postMessage(''), (error) =>
  parentPort.postMessage(error instanceof TypeError || error instanceof RangeError ? workerData.damaged : String(error.message || error)));
`;

/** Files that were read to their end, by size and time. */
const whole = new Map<string, string>();

/** @throws Error that says why a file is not read */
export async function checkArrow(file: string): Promise<void> {
  const { size, mtimeMs } = await stat(file);
  const state = `${size} ${mtimeMs}`;
  if (whole.get(file) === state) return;
  const library = createRequire(import.meta.url).resolve('apache-arrow');
  const worker = new Worker(READ, {
    eval: true,
    workerData: { file, library, damaged: DAMAGED },
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MEGABYTES },
    stderr: true,
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    const why = await new Promise<string>((done) => {
      worker.once('message', done);
      worker.once('error', () => done(DAMAGED));
      worker.once('exit', () => done(DAMAGED));
      timer = setTimeout(() => done('it does not come to an end'), PATIENCE + PATIENCE_A_BYTE * size);
    });
    if (why) throw new Error(why);
    whole.set(file, state);
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
