/**
 * @file An index of a million documents with 384 dimensions: time and memory to open it, and a search, in a process of its own.
 *
 *     npm run bench -- open [documents] [--codec int8] [--vectors FILE.f32] [--folder DIR]
 *
 * Vectors are those of `npm run bench -- vectors` where a file of them is given, else random; a document is 200 characters.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Random } from '../../math/random.ts';
import type { CodecName } from '../../retrieval/codecs/index.ts';
import { scanThreads } from '../../retrieval/codecs/scan-threads.ts';
import { IndexStore } from '../../retrieval/store/store.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    codec: { type: 'string', default: 'int8' },
    vectors: { type: 'string' },
    folder: { type: 'string' },
    measure: { type: 'boolean', default: false },
  },
});
const [D, BATCH] = [384, 8192];
const count = Number(positionals[0] ?? 1_000_000);
const folder = values.folder ?? join(tmpdir(), `onnx-distill-open-${values.codec}-${count}`);
const megabytes = (bytes: number): number => Math.round(bytes / 1e6);
/** Now, and the most there was, in kB as Linux says it. */
const memory = () => ({
  rss_mb: megabytes(process.memoryUsage().rss),
  peak_mb: Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1000),
});

if (values.measure) await measure();
else {
  if (!existsSync(join(folder, 'index.json'))) await make();
  // In a process of its own: the memory is that of opening alone.
  spawnSync(
    process.execPath,
    [process.argv[1], String(count), '--codec', values.codec, '--folder', folder, '--measure'],
    {
      stdio: 'inherit',
    },
  );
}

async function make(): Promise<void> {
  const store = await IndexStore.create(folder, { dimensions: D, settings: { codec: values.codec as CodecName } });
  const random = Random.of(0, 'open');
  const file = values.vectors === undefined ? undefined : await open(values.vectors);
  const words = 'a document has words of several lengths and says what a package is good for '.repeat(4);
  const started = performance.now();
  for (let at = 0; at < count; at += BATCH) {
    const n = Math.min(BATCH, count - at);
    const vectors = new Float32Array(n * D);
    if (file) await file.read(new Uint8Array(vectors.buffer), 0, vectors.byteLength, at * D * 4);
    else for (let i = 0; i < vectors.length; i++) vectors[i] = random.normal() / Math.sqrt(D);
    const documents = Array.from({ length: n }, (_, i) => {
      const from = random.integer(80);
      return { id: `document-${at + i}`, text: `${at + i} ${words.slice(from, from + 190)}` };
    });
    await store.add(documents, vectors);
  }
  await store.compact();
  store.close();
  await file?.close();
  console.log(JSON.stringify({ made: count, seconds: Math.round((performance.now() - started) / 1000) }));
}

async function measure(): Promise<void> {
  const before = memory();
  const cpu = process.cpuUsage();
  const started = performance.now();
  const store = await IndexStore.open(folder);
  const seconds = Number(((performance.now() - started) / 1000).toFixed(2));
  const { user, system } = process.cpuUsage(cpu);
  const opened = { cpu_seconds: Number(((user + system) / 1e6).toFixed(2)), ...memory() };
  const query = Float32Array.from({ length: D }, (_, k) => Math.sin(k));
  const times = Array.from({ length: 20 }, () => {
    const from = performance.now();
    store.search(query, 10);
    return performance.now() - from;
  }).sort((a, b) => a - b);
  const search = {
    ms: Number(times[10].toFixed(1)),
    first_ms: Number(times[19].toFixed(1)),
    threads: scanThreads.most,
  };
  console.log(
    JSON.stringify({
      documents: store.size,
      codes_mb: megabytes(store.bytes),
      seconds,
      before,
      opened,
      search,
      after: memory(),
    }),
  );
}
