/**
 * @file A corpus of a million documents made from real ones is read, partly scored, indexed by BM25, embedded and searched, with the memory of
 * each stage. The encoder is tiny and untrained: only time and memory are measured, not quality.
 *
 *     npm run bench -- million [documents] [--data ../shared/data/debian] [--teacher DIR] [--pairs 64] [--folder DIR]
 *         [--only bm25]
 *
 * Each document is the title of one real document and 24 consecutive words each of two others, so nearly all differ; the folder
 * keeps the corpus for later runs.
 */
import { createWriteStream, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { openDataset } from '../../data/open.ts';
import { bm25Index } from '../../evaluation/bm25-run.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { search } from '../../retrieval/exact-search.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { SHARED } from '../peers/peers.ts';
import { peakMegabytes } from '../peers/step.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: 'string', default: join(SHARED, 'data/debian') },
    teacher: { type: 'string', default: join(SHARED, 'models/debian-cross-encoder') },
    pairs: { type: 'string', default: '64' },
    queries: { type: 'string', default: '256' },
    folder: { type: 'string' },
    only: { type: 'string' },
  },
});
const wanted = Number(positionals[0] ?? 1_000_000);
const folder = values.folder ?? join(tmpdir(), `onnx-distill-million-${wanted}`);
const [WORDS, WIDTH, TOKENS] = [24, 32, 48];

const megabytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
async function stage<T>(name: string, work: () => Promise<T>, more: (result: T) => object = () => ({})): Promise<T> {
  const [started, before] = [performance.now(), process.cpuUsage()];
  const result = await work();
  const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
  const { user, system } = process.cpuUsage(before);
  const memory = { rss_mb: megabytes(process.memoryUsage().rss), peak_rss_mb: peakMegabytes() };
  console.log(
    JSON.stringify({
      stage: name,
      seconds,
      cpu_seconds: Number(((user + system) / 1e6).toFixed(1)),
      ...memory,
      ...more(result),
    }),
  );
  return result;
}

if (!existsSync(join(folder, 'qrels'))) await stage('make', () => make(values.data, folder));
const dataset = await stage(
  'read',
  () => openDataset(folder),
  ({ documents, queries }) => ({
    documents: documents.length,
    texts_mb: megabytes((documents.bytes ?? 0) + (queries.bytes ?? 0)),
  }),
);

if (existsSync(values.teacher) && Number(values.pairs))
  await stage(
    'score in part',
    async () => {
      const cache = await ScoreCache.open(join(folder, 'cache'));
      const teacher = await crossEncoder(values.teacher, { maxLength: 128 });
      const random = Random.of(0, 'pairs');
      const pairs = Array.from({ length: Number(values.pairs) }, () => {
        const [q, d] = [random.integer(dataset.queries.length), random.integer(dataset.documents.length)];
        return { queryId: '', documentId: '', query: dataset.queries.text(q), document: dataset.documents.text(d) };
      });
      await cache.wrap(teacher).score(pairs);
      await teacher.dispose();
      await cache.close();
      return pairs.length;
    },
    (pairs) => ({ pairs }),
  );

const index = await stage('BM25 index', () => bm25Index(dataset.documents));
const asked = Array.from({ length: Math.min(Number(values.queries), dataset.queries.length) }, (_, i) => i);
await stage(
  'BM25 candidates',
  async () => asked.map((q) => index.search(dataset.queries.text(q), 16)),
  (found) => ({ queries: found.length }),
);
if (values.only === 'bm25') process.exit();

const model = join(folder, 'encoder');
const shape = { vocabulary: 8192, hidden: WIDTH, layers: 1, heads: 2, maxLength: 64 };
if (!existsSync(model))
  await freshModel(model, { length: Math.min(20_000, dataset.documents.length), text: dataset.documents.text }, shape);
const encoder = await Encoder.load(model);
let said = performance.now();
const embeddings = await stage(
  'embed',
  () =>
    encoder.encode(dataset.documents, {
      maxLength: TOKENS,
      onProgress({ done, total }) {
        if (performance.now() - said < 30_000) return;
        said = performance.now();
        console.error(`embed ${done}/${total}, ${megabytes(process.memoryUsage().rss)} MB`);
      },
    }),
  (e) => ({ dimensions: encoder.dimensions, embeddings_mb: megabytes(e.byteLength) }),
);
const count = Math.min(Number(values.queries), dataset.queries.length);
const queries = await encoder.encode({ length: count, text: dataset.queries.text }, { maxLength: TOKENS });
await stage(
  'search',
  () => search(queries, embeddings, encoder.dimensions, 100),
  () => ({ queries: count }),
);
await encoder.dispose();

/** Writes the corpus line by line. */
async function make(from: string, to: string): Promise<number> {
  const real = await openDataset(from);
  const { documents } = real;
  const random = Random.of(0, 'million');
  const words = Array.from({ length: documents.length }, (_, i) => documents.text(i).split(/\s+/));
  const passage = (): string => {
    const own = words[random.integer(words.length)];
    const at = random.integer(Math.max(1, own.length - WORDS));
    return own.slice(at, at + WORDS).join(' ');
  };
  function* lines(): Generator<string> {
    for (let i = 0; i < wanted; i++) {
      const title = documents.title?.(random.integer(documents.length)) ?? '';
      yield `${JSON.stringify({ _id: `made-${i}`, title, text: `${passage()} ${passage()}` })}\n`;
    }
  }
  mkdirSync(to, { recursive: true });
  await pipeline(Readable.from(lines()), createWriteStream(join(to, 'corpus.jsonl')));
  const asked = Array.from({ length: Math.min(1000, real.queries.length) }, (_, i) => real.queries.text(i));
  writeFileSync(
    join(to, 'queries.jsonl'),
    asked.map((text, i) => `${JSON.stringify({ _id: `q${i}`, text })}\n`).join(''),
  );
  // Written last: a folder without it is made again.
  mkdirSync(join(to, 'qrels'));
  writeFileSync(join(to, 'qrels', 'test.tsv'), 'query-id\tcorpus-id\tscore\nq0\tmade-0\t1\n');
  return wanted;
}
