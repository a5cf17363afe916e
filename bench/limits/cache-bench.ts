/**
 * @file The score cache: size on disk, rates of writing and reading, and peak memory, which should not grow with its size.
 *
 *     npm run bench -- cache [scores] [--folder DIR]
 *
 * The teacher answers instantly, so that keys, checksums, transactions and disk are measured.
 * Ten million scores by default; they are written in calls of 100,000 pairs, then read in the same calls, then verified.
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { survey, verify } from '../../teachers/cache/maintenance.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';

const CALL = 100_000;
const { values, positionals } = parseArgs({ allowPositionals: true, options: { folder: { type: 'string' } } });
const wanted = Number(positionals[0] ?? 10_000_000);
const folder = values.folder ?? mkdtempSync(join(tmpdir(), 'cache-bench-'));

const teacher: Teacher = {
  name: 'answers at once',
  kind: 'bench',
  key: 'bench',
  score: async (pairs) => Float32Array.from(pairs, (_, i) => i),
  dispose: async () => {},
};
/** 100 documents per query, each as long as a paragraph. */
const text = 'lists the files that processes hold open, with the sockets and pipes among them; '.repeat(4);
const pairsFrom = (from: number): Pair[] =>
  Array.from({ length: Math.min(CALL, wanted - from) }, (_, k) => {
    const i = from + k;
    const query = `how do I see what holds file ${Math.floor(i / 100)}`;
    return { queryId: '', documentId: '', query, document: `${i} ${text}` };
  });
const megabytes = (bytes: number): number => Math.round(bytes / 1e6);
/** Resident memory of the process, including pages of the store that the system caches and can reclaim. */
const rss = (): number => megabytes(process.resourceUsage().maxRSS * 1024);
/** Anonymous memory of the process, without pages of files; the resident set where the system does not report it. */
function own(): number {
  try {
    const kilobytes = /RssAnon:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return megabytes(Number(kilobytes) * 1024);
  } catch {
    return megabytes(process.memoryUsage.rss());
  }
}
let peak = 0;

async function through(name: string, cache: ScoreCache): Promise<void> {
  const wrapped = cache.wrap(teacher);
  const started = performance.now();
  let last = started;
  for (let from = 0; from < wanted; from += CALL) {
    await wrapped.score(pairsFrom(from));
    peak = Math.max(peak, own());
    if (performance.now() - last > 10_000) {
      last = performance.now();
      console.error(`${name} ${from + CALL}/${wanted}, ${own()} MB`);
    }
  }
  const seconds = (performance.now() - started) / 1000;
  say(name, {
    seconds: Number(seconds.toFixed(1)),
    scoresPerSecond: Math.round(wanted / seconds),
  });
}

const say = (what: string, figures: object): void =>
  console.log(JSON.stringify({ what, scores: wanted, ...figures, peakOwnMB: peak, peakRssMB: rss() }));

try {
  const cache = await ScoreCache.open(folder);
  await through('write', cache);
  await cache.close();
  const again = await ScoreCache.open(folder);
  const before = again.asked;
  await through('read', again);
  if (again.asked !== before) throw new Error(`${again.asked - before} scores were not cached`);
  await again.close();
  const bytes = statSync(join(folder, 'data.mdb')).size;
  say('size', { megabytes: megabytes(bytes), bytesPerScore: Math.round((10 * bytes) / wanted) / 10 });
  const started = performance.now();
  const { damaged } = await verify(folder);
  const seconds = (performance.now() - started) / 1000;
  say('verify', { damaged: damaged.length, seconds: Number(seconds.toFixed(1)) });
  const [tally] = (await survey(folder)).tallies;
  if (tally?.scores !== wanted) throw new Error(`the store holds ${tally?.scores} scores`);
} finally {
  if (!values.folder) rmSync(folder, { recursive: true, force: true });
}
