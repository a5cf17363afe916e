/**
 * @file An index of a million documents with 384 dimensions and the postings of BM25: time and memory to open it, and a search, in
 * a process of its own; with the postings, without them, and with postings that are made from the texts.
 *
 *     npm run bench -- open [documents] [--codec int8] [--vectors FILE.f32] [--dimensions 384] [--folder DIR]
 *
 * With --dimensions 0 the index has postings alone: only BM25 is measured, each query a first time and again.
 * Vectors are those of `npm run bench -- vectors` where a file of them is given, else random. A document is 30 words of a vocabulary
 * of 100,000 by Zipf's law, some 200 characters.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Random } from '../../math/random.ts';
import { analyzer } from '../../retrieval/analyzer.ts';
import type { CodecName } from '../../retrieval/codecs/index.ts';
import { scanThreads } from '../../retrieval/codecs/scan-threads.ts';
import { hybridHits } from '../../retrieval/store/hybrid-hits.ts';
import type { Postings } from '../../retrieval/store/postings.ts';
import { IndexStore } from '../../retrieval/store/store.ts';
import { countTerms, StoredBm25 } from '../../retrieval/store/term-search.ts';

const ways = ['vectors', 'postings', 'rebuilt'] as const;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    codec: { type: 'string', default: 'int8' },
    vectors: { type: 'string' },
    dimensions: { type: 'string', default: '384' },
    folder: { type: 'string' },
    measure: { type: 'string' },
  },
});
const [BATCH, WORDS, VOCABULARY] = [8192, 30, 100_000];
const D = Number(values.dimensions);
const BM25 = { k1: 0.9, b: 0.4, analyzer: { kind: 'words', stemmer: 'english' } } as const;
const TERMS = 'words';
const own = analyzer(BM25.analyzer);
const count = Number(positionals[0] ?? 1_000_000);
const folder = values.folder ?? join(tmpdir(), `onnx-distill-open-${values.codec}-${count}`);
const megabytes = (bytes: number): number => Math.round(bytes / 1e6);
/** Now, and the most there was, in kB as Linux says it. */
const memory = () => ({
  rss_mb: megabytes(process.memoryUsage().rss),
  peak_mb: Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1000),
});
const bytesOf = ({ tables: { counts, widths } }: Postings): number =>
  counts.reduce((n, c, i) => n + c * (4 + widths[i]), 0);
const random = Random.of(0, 'open');
/** A word by Zipf's law: the rank is exponential in a uniform number. */
const word = (): string => `w${Math.floor(VOCABULARY ** random.uniform()).toString(26)}x`;
const text = (words: number): string => Array.from({ length: words }, word).join(' ');

if (values.measure !== undefined) await measure(values.measure);
else {
  if (!existsSync(join(folder, 'index.json'))) await make();
  // Each in a process of its own: the memory is that of opening alone.
  for (const way of D ? ways : ways.slice(1, 2)) {
    const own = ['--codec', values.codec, '--dimensions', values.dimensions, '--folder', folder, '--measure', way];
    const argv = [process.argv[1], String(count), ...own];
    spawnSync(process.execPath, argv, { stdio: 'inherit' });
  }
}

async function make(): Promise<void> {
  const settings = { codec: values.codec as CodecName };
  const store = await IndexStore.create(folder, { dimensions: D, settings, terms: TERMS });
  const file = values.vectors === undefined ? undefined : await open(values.vectors);
  const started = performance.now();
  for (let at = 0; at < count; at += BATCH) {
    const n = Math.min(BATCH, count - at);
    const vectors = new Float32Array(n * D);
    if (file) await file.read(new Uint8Array(vectors.buffer), 0, vectors.byteLength, at * D * 4);
    else for (let i = 0; i < vectors.length; i++) vectors[i] = random.uniform() - 0.5;
    const documents = Array.from({ length: n }, (_, i) => ({ id: `document-${at + i}`, text: text(WORDS) }));
    await store.add(
      documents,
      vectors,
      documents.map((d) => countTerms(own, d.text)),
    );
  }
  await store.compact();
  store.close();
  await file?.close();
  console.log(JSON.stringify({ made: count, seconds: Math.round((performance.now() - started) / 1000) }));
}

async function measure(way: string): Promise<void> {
  const before = memory();
  const cpu = process.cpuUsage();
  const started = performance.now();
  const terms = { vectors: undefined, postings: TERMS, rebuilt: 'others' }[way];
  const store = await IndexStore.open(folder, { terms });
  if (way === 'rebuilt') await store.restoreTerms('others', (d) => countTerms(own, d.text as string), { save: false });
  const seconds = Number(((performance.now() - started) / 1000).toFixed(2));
  const { user, system } = process.cpuUsage(cpu);
  const opened = { cpu_seconds: Number(((user + system) / 1e6).toFixed(2)), ...memory() };
  const vector = Float32Array.from({ length: D }, (_, k) => Math.sin(k));
  const lexical = terms === undefined ? undefined : new StoredBm25(store, BM25);
  const queries = Array.from({ length: 40 }, () => text(4));
  const times = (search: (query: string) => unknown) => {
    const ms = queries.map((query) => {
      const from = performance.now();
      search(query);
      return performance.now() - from;
    });
    const sorted = ms.toSorted((a, b) => a - b);
    return {
      first_ms: Number(ms[0].toFixed(1)),
      ms: Number(sorted[20].toFixed(1)),
      p95_ms: Number(sorted[38].toFixed(1)),
    };
  };
  const weight = { lambda: 0.3, scale: 8 };
  console.log(
    JSON.stringify({
      way,
      documents: store.size,
      codes_mb: megabytes(store.bytes),
      ...(lexical && { postings_mb: megabytes(store.terms.parts.reduce((n, p) => n + bytesOf(p), 0)) }),
      seconds,
      before,
      opened,
      ...(D && { search: { threads: scanThreads.most, vectors: times(() => store.search(vector, 10)) } }),
      ...(lexical && {
        bm25: times((query) => lexical.search(query, 10)),
        again: times((query) => lexical.search(query, 10)),
      }),
      ...(lexical &&
        D && {
          both: times((query) => hybridHits(store, lexical, weight, { vector, text: query, k: 10 })),
        }),
      after: memory(),
    }),
  );
}
