/**
 * @file What encodings of vectors cost in quality, and how fast searches are, on real vectors.
 *
 *     npm run bench -- vectors table [--model DIR --data DIR] [--only pq]    nDCG@10 and recall of every encoding, next to exact search
 *     npm run bench -- vectors speed [--count 1000000]           scans next to a copy of the same bytes, bins next to a heap
 *     npm run bench -- vectors tune [--count 1000000] [--recall 0.95]    settings found on token states, measured on others
 *
 * Vectors are kept in --folder for the next time. `table` takes the embeddings of a data set; the others take states of the
 * tokens of data/debian's documents by a small model: a million vectors, all of them real.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { renderTuned } from '../../cli/verbs/search/index-verb.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';
import { codecs } from '../../retrieval/codecs/index.ts';
import { place } from '../../retrieval/codecs/kernel.ts';
import { scanThreads } from '../../retrieval/codecs/scan-threads.ts';
import { openExactSearch } from '../../retrieval/exact-search.ts';
import { binsFor, topK, topKByBins } from '../../retrieval/top-k.ts';
import { exactOf, TuningBench } from '../../retrieval/tuning/bench.ts';
import { tuneIndex } from '../../retrieval/tuning/tune.ts';
import { type IndexSettings, searchParts } from '../../retrieval/vector-index.ts';
import { SHARED } from '../peers/peers.ts';
import { embeddings, tokenStates } from './vector-sets.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: join(SHARED, 'models/debian-dual-encoder') },
    data: { type: 'string', default: join(SHARED, 'data/debian') },
    folder: { type: 'string', default: join(tmpdir(), 'onnx-distill-vectors') },
    count: { type: 'string', default: '1000000' },
    recall: { type: 'string', default: '0.95' },
    only: { type: 'string', default: '' },
    query: { type: 'string' },
    document: { type: 'string' },
  },
});
const { model, data, folder } = values;
const limit = (text: string | undefined) => (text === undefined ? undefined : Number(text));

const jobs = { table, speed, tune };
const job = jobs[positionals[0] as keyof typeof jobs];
if (job) await job();
else {
  console.error(`usage: npm run bench -- vectors ${Object.keys(jobs).join(', ')}`);
  process.exitCode = 2;
}

/** Of every encoding: bytes that a search scans, nDCG@10 over the test and dev queries, recall of the exact ten, time. */
async function table(): Promise<void> {
  const { dataset, positions, dimensions, documents, queries } = await embeddings(model, data, folder, {
    queryTokens: limit(values.query),
    documentTokens: limit(values.document),
  });
  const vectors = { data: documents, dimensions };
  const n = documents.length / dimensions;
  const rows = Int32Array.from({ length: positions.length }, (_, i) => i);
  const truth = await exactOf(queries, vectors, 10);
  const bench = new TuningBench(vectors, 0);
  const judged = new Map(['test', 'dev'].flatMap((split) => [...dataset.qrels(split)]));
  console.log(`${n} documents, ${rows.length} queries, ${dimensions} dimensions`);
  const int8 = (count: number) => ({ rescore: { codec: 'int8', count } }) as const;
  const all: IndexSettings[] = [
    { codec: 'float32' },
    { codec: 'float16' },
    { codec: 'int8' },
    { codec: 'int4' },
    { codec: 'binary' },
    ...[50, 100, 200].map((count): IndexSettings => ({ codec: 'binary', ...int8(count) })),
    ...[96, 128].map((d): IndexSettings => ({ codec: 'int8', dimensions: d, ...int8(100) })),
    ...(['pq48', 'pq32', 'pq16'] as const).flatMap((codec): IndexSettings[] => [
      { codec },
      { codec, ...int8(50) },
      { codec, ...int8(100) },
    ]),
  ];
  for (const settings of all.filter(({ codec }) => codec === 'float32' || codec.startsWith(values.only))) {
    const point = await bench.measure(settings, queries, truth, rows);
    const { part, learned } = await bench.prepare(settings);
    const run = new Map(
      positions.map((at, i) => {
        const query = queries.subarray(i * dimensions, (i + 1) * dimensions);
        const { indices, scores } = searchParts(query, [part], settings, learned, 10);
        return [
          dataset.queries.ids[at],
          { ids: Array.from(indices, (d) => dataset.documents.ids[d]), scores },
        ] as const;
      }),
    );
    const ndcg = evaluateRun(run, judged, ['ndcg@10']).means['ndcg@10'];
    console.log(
      JSON.stringify({ ...settings, scanned: part.codes.length / n, ndcg, recall: point.recall, ms: point.ms }),
    );
    bench.keep([settings]);
  }
}

/** Bytes read in a second by scans, next to a copy; and what bins take next to a heap. */
async function speed(): Promise<void> {
  const { documents, queries, dimensions: D, n } = await tokens();
  const seconds = async (work: () => unknown, times = 9): Promise<number> => {
    const taken: number[] = [];
    for (let i = 0; i < times; i++) {
      const before = performance.now();
      await work();
      taken.push((performance.now() - before) / 1000);
    }
    return Math.min(...taken);
  };
  const say = (name: string, bytes: number, s: number): void =>
    console.log(
      `${name.padEnd(40)} ${(1000 * s).toFixed(2).padStart(9)} ms ${(bytes / s / 1e9).toFixed(1).padStart(6)} GB/s`,
    );
  const target = new Float32Array(documents.length);
  say('copy of the float32 vectors (read alone)', documents.byteLength, await seconds(() => target.set(documents)));
  const exact = await openExactSearch(documents, D, 10);
  const one = queries.subarray(0, D);
  say('exact search, ONNX Runtime', documents.byteLength, await seconds(() => exact.find(one)));
  await exact.release();
  for (const name of ['float32', 'float16', 'int8', 'binary'] as const) {
    const codes = codecs[name].encode({ data: documents, dimensions: D }, {});
    const scores = new Float32Array(n);
    const scan = codecs[name].scorer(one, {});
    say(`scan of ${name}, plain loop`, codes.length, await seconds(() => scan(codes, 0, n, scores), 3));
    const { fromBytes } = scanThreads;
    const there = place(codes);
    scanThreads.fromBytes = Number.POSITIVE_INFINITY;
    say(`scan of ${name}, kernel, one thread`, codes.length, await seconds(() => scan(there, 0, n, scores)));
    scanThreads.fromBytes = fromBytes;
    say(
      `scan of ${name}, kernel, ${scanThreads.most} threads`,
      codes.length,
      await seconds(() => scan(there, 0, n, scores)),
    );
    const copy = new Uint8Array(codes.length);
    say('copy of the same bytes', codes.length, await seconds(() => copy.set(codes)));
    if (name === 'int8')
      for (const k of [10, 100, 1000]) {
        const bins = binsFor(0.95, k);
        const [heap, binned] = [await seconds(() => topK(scores, k)), await seconds(() => topKByBins(scores, k, bins))];
        console.log(
          `the best ${k}: heap ${(1000 * heap).toFixed(2)} ms, ${bins} bins ${(1000 * binned).toFixed(2)} ms`,
        );
      }
  }
}

/** Settings for a recall, found on half of the queries and measured on the other half. */
async function tune(): Promise<void> {
  const { documents, queries, dimensions } = await tokens();
  let said = 0;
  const found = await tuneIndex(
    { data: documents, dimensions },
    queries,
    { recall: Number(values.recall) },
    {
      onProgress({ stage, done }) {
        if (performance.now() - said < 10_000) return;
        said = performance.now();
        console.error(stage, done);
      },
    },
  );
  console.log(renderTuned(found));
  const point = ({ settings, recall, error, ms, p95 }: (typeof found)['heldOut']) =>
    JSON.stringify({ ...settings, recall, error, ms, p95 });
  console.log(`tuning ${point(found.tuning)}\nheld out ${point(found.heldOut)}`);
  for (const { name, point: p } of found.tried) console.log(`given up at ${p.queries} queries: ${name} ${point(p)}`);
}

async function tokens() {
  const count = Number(values.count);
  return { ...(await tokenStates(model, data, folder, { count, asked: 1000 })), n: count };
}
