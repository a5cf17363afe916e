/**
 * @file Memory of training rows: files of rows of three new texts each (query, positive, negative) are read in processes of their
 * own. What a row takes beyond the texts' own bytes is the difference to the next smaller file.
 *
 *     npm run bench -- rows [rows ...]        1,000, 100,000 and 300,000 by default
 */
import { spawnSync } from 'node:child_process';
import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { openDataset } from '../../data/open.ts';
import { peakMegabytes } from '../peers/step.ts';

const WORDS = ['photo', 'editor', 'that', 'crops', 'and', 'resizes', 'pictures', 'from', 'the', 'command', 'line'];

/** A text of words that no other row has. */
function text(row: number, part: number, words: number): string {
  const some = Array.from(
    { length: words },
    (_, i) => WORDS[(row * 7 + part * 3 + i * (1 + (row % 5))) % WORDS.length],
  );
  return `${some.join(' ')} ${row}-${part}`;
}

function* lines(rows: number): Generator<string> {
  for (let row = 0; row < rows; row++)
    yield `${JSON.stringify({ query: text(row, 0, 8), positive: text(row, 1, 32), negative: text(row, 2, 32) })}\n`;
}

/** What is resident now, without garbage. */
function resident(): { rss: number; heap: number; buffers: number } {
  for (let i = 0; i < 4; i++) globalThis.gc?.();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { rss, heap: heapUsed, buffers: arrayBuffers };
}

interface Read {
  rows: number;
  seconds: number;
  texts: number;
  rss: number;
  heap: number;
  buffers: number;
  peak: number;
}

async function read(file: string, rows: number): Promise<Read> {
  const started = performance.now();
  const dataset = await openDataset(file);
  const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
  const now = resident();
  const peak = peakMegabytes() * 2 ** 20;
  let texts = 0;
  for (const table of [dataset.queries, dataset.documents])
    for (let i = 0; i < table.length; i++) texts += Buffer.byteLength(table.text(i));
  return { rows, seconds, texts, ...now, peak };
}

if (import.meta.filename === process.argv[1]) {
  const [first, ...rest] = process.argv.slice(2);
  if (first === 'read') console.log(JSON.stringify(await read(rest[0], Number(rest[1]))));
  else {
    const counts = process.argv.slice(2).map(Number);
    const folder = mkdtempSync(join(tmpdir(), 'onnx-distill-rows-'));
    let before: Read | undefined;
    try {
      for (const rows of counts.length ? counts : [1000, 100_000, 300_000]) {
        const file = join(folder, `${rows}.jsonl`);
        await pipeline(Readable.from(lines(rows)), createWriteStream(file));
        const args = ['--expose-gc', import.meta.filename, 'read', file, String(rows)];
        const { stdout, status } = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
        rmSync(file);
        if (status) {
          process.exitCode = 1;
          continue;
        }
        const now = JSON.parse(String(stdout)) as Read;
        // Of two sizes, so that what the program itself takes is left out.
        const base = before;
        const aRow = (key: 'rss' | 'peak' | 'heap' | 'buffers'): number | undefined =>
          base && Math.round((now[key] - base[key] - (now.texts - base.texts)) / (now.rows - base.rows));
        const [rss, peak] = [aRow('rss'), aRow('peak')];
        const megabytes = (n: number): number => Math.round(n / 2 ** 20);
        console.log(
          JSON.stringify({
            rows,
            seconds: now.seconds,
            texts_mb: megabytes(now.texts),
            heap_mb: megabytes(now.heap),
            buffers_mb: megabytes(now.buffers),
            rss_mb: megabytes(now.rss),
            peak_mb: megabytes(now.peak),
            text_bytes_a_row: Math.round(now.texts / rows),
            ...(rss !== undefined && { more_bytes_a_row: rss, more_bytes_a_row_at_the_peak: peak }),
          }),
        );
        before = now;
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}
