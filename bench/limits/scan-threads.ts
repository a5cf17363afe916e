/**
 * @file From which size on a scan is faster on several threads: codes of growing size, scanned on one thread and on all in turn.
 *
 *     npm run bench -- threads [--runs 60] [--most 2]
 *
 * Best and median of the runs, in milliseconds. A scan of an index uses threads from `scanThreads.fromBytes` on.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { Random } from '../../math/random.ts';
import { type CodecName, codecs } from '../../retrieval/codecs/index.ts';
import { place } from '../../retrieval/codecs/kernel.ts';
import { scanThreads } from '../../retrieval/codecs/scan-threads.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '60' },
    most: { type: 'string', default: String(Math.min(8, availableParallelism())) },
  },
});
const D = 384;
const [runs, most] = [Number(values.runs), Number(values.most)];
const decided = scanThreads.fromBytes;
const random = Random.of(0, 'threads');
const query = Float32Array.from({ length: D }, () => random.uniform() - 0.5);
const rounded = (ms: number): number => Number(ms.toFixed(3));

console.log(JSON.stringify({ threads: most, from_bytes: decided, runs }));
for (const codec of ['int8', 'float32', 'float16'] as CodecName[]) {
  const few = Float32Array.from({ length: 512 * D }, () => random.uniform() - 0.5);
  const own = codecs[codec];
  const pattern = own.encode({ data: few, dimensions: D }, {});
  for (let bytes = 1 << 18; bytes <= 1 << 25; bytes *= 2) {
    const width = pattern.length / 512;
    const rows = Math.floor(bytes / width);
    const codes = new Uint8Array(rows * width);
    for (let at = 0; at < codes.length; at += pattern.length)
      codes.set(pattern.subarray(0, Math.min(pattern.length, codes.length - at)), at);
    const ways = [1, most].map((threads) => {
      Object.assign(scanThreads, { most: threads, fromBytes: threads === 1 ? Number.POSITIVE_INFINITY : 0 });
      return { threads, codes: place(codes.slice()), ms: [] as number[] };
    });
    const out = new Float32Array(rows);
    const score = own.scorer(query, {});
    for (let run = 0; run < runs + 5; run++)
      for (const way of ways) {
        Object.assign(scanThreads, { most, fromBytes: way.threads === 1 ? Number.POSITIVE_INFINITY : 0 });
        const from = performance.now();
        score(way.codes, 0, rows, out);
        // The first ones start threads and compile.
        if (run >= 5) way.ms.push(performance.now() - from);
      }
    const [one, all] = ways.map(({ ms }) => ms.toSorted((a, b) => a - b));
    console.log(
      JSON.stringify({
        codec,
        mb: rounded((rows * width) / 1e6),
        one: { best: rounded(one[0]), median: rounded(one[one.length >> 1]) },
        all: { best: rounded(all[0]), median: rounded(all[all.length >> 1]) },
        faster: { best: rounded(one[0] / all[0]), median: rounded(one[one.length >> 1] / all[all.length >> 1]) },
      }),
    );
  }
}
process.exit();
