/**
 * @file Files come from strangers: whatever is done to a file's bytes, a reader ends in our error or in a result, soon and
 * within bounded memory. FUZZ_CASES sets how many damaged files each reader meets (100000 overnight).
 */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { tableFromArrays, tableToIPC } from 'apache-arrow';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { InputError } from '../../common/errors.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { openBeir } from '../../data/beir.ts';
import { readRows } from '../../data/files/rows.ts';
import { readScores } from '../../data/scores.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { parseGraph } from '../../engine/io/onnx-file.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import { readRun } from '../../evaluation/metrics/run-file.ts';
import { ReplyCache } from '../../generation/reply-cache.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { inverseDocumentFrequency, readLexicalChannel } from '../../retrieval/lexical-channel.ts';
import { StaticEncoder } from '../../static/index.ts';
import { readNpy } from '../../teachers/vectors/npy.ts';
import { readVectors } from '../../teachers/vectors/read-vectors.ts';
import { jsonl, makeWorld, write } from '../cli/world.ts';

const CASES = Number(process.env.FUZZ_CASES ?? 60);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
/** One read: seconds, and megabytes that the process may grow by while a reader meets all its cases. */
const LONGEST = 5;
const LARGEST_GROWTH = 600;

let folder: string;
let world: string;

/** A reader with a whole file that it takes. */
interface Reader {
  sample(): Uint8Array;
  read(bytes: Uint8Array): Promise<unknown> | unknown;
  /** Times that a case takes as long as others: so much fewer there are. */
  slow?: number;
}

/** Reads through a file of that name in a folder of its own. */
const throughFile = (name: string, read: (file: string) => Promise<unknown> | unknown) => (bytes: Uint8Array) => {
  const file = join(folder, name);
  writeFileSync(file, bytes);
  return read(file);
};

const allRows = async (file: string): Promise<number> => {
  let n = 0;
  for await (const row of readRows(file)) n += Object.keys(row.values).length;
  return n;
};

const rows = Array.from({ length: 20 }, (_, i) => ({ query: `what is thing ${i}`, positive: `a thing, "${i}"`, n: i }));
const csv = ['query,positive', ...rows.map((r) => `${r.query},"${r.positive.replaceAll('"', '""')}"`)].join('\n');

/** A BEIR folder in which one file is the damaged one. */
const inBeir = (name: string) => (bytes: Uint8Array) => {
  const data = mkdtempSync(join(folder, 'beir-'));
  write(data, {
    'corpus.jsonl': jsonl([
      { _id: 'd1', title: 'a', text: 'b c' },
      { _id: 'd2', text: 'd e' },
    ]),
    'queries.jsonl': jsonl([{ _id: 'q1', text: 'b' }]),
    'qrels/test.tsv': 'query-id\tcorpus-id\tscore\nq1\td1\t1\n',
    [name]: bytes,
  });
  return openBeir(data);
};

const inModel = (name: string) => (bytes: Uint8Array) => {
  const model = mkdtempSync(join(folder, 'model-'));
  write(model, { 'model.onnx': '', 'config.json': '{}', [name]: bytes });
  return readModelFolder(model);
};

/** Three vectors of two numbers, as numpy.save writes them. */
function npy(): Uint8Array {
  const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }".padEnd(117);
  const numbers = Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00\x76\x00', 'latin1'), Buffer.from(`${header}\n`), numbers]);
}

const readers: Record<string, Reader> = {
  'ONNX file': { sample: () => readFileSync(join(world, 'dual/onnx/model.onnx')), read: (b) => parseGraph(b) },
  safetensors: {
    sample: () =>
      encodeSafetensors(
        new Map<string, Tensor>([
          ['a', tensor('float32', [3, 4], new Float32Array(12))],
          ['b', tensor('int64', [2], [1, 2])],
        ]),
        { key: 'value' },
      ),
    read: (b) => parseSafetensors(b),
  },
  'tokenizer.json': {
    sample: () => readFileSync(join(world, 'dual/tokenizer.json')),
    async read(bytes) {
      const model = mkdtempSync(join(folder, 'tokenizer-'));
      write(model, { 'tokenizer.json': bytes, 'tokenizer_config.json': '{}' });
      const tokenizer = await TextTokenizer.load(model);
      return tokenizer.encode('open the file \ud83d\ude00');
    },
  },
  'config.json': {
    sample: () => Buffer.from('{"model_type":"bert","hidden_size":16,"max_position_embeddings":64}'),
    read: inModel('config.json'),
  },
  'modules.json': {
    sample: () => Buffer.from('[{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"}]'),
    read: inModel('modules.json'),
  },
  '1_Pooling/config.json': {
    sample: () => Buffer.from('{"word_embedding_dimension":16,"pooling_mode_cls_token":true}'),
    read: inModel('1_Pooling/config.json'),
  },
  Parquet: { sample: () => readFileSync('test/fixtures/rows.parquet'), read: throughFile('a.parquet', allRows) },
  Arrow: {
    sample: () => tableToIPC(tableFromArrays({ query: ['a', 'b'], positive: ['c', 'd'] }), 'stream'),
    read: throughFile('a.arrow', allRows),
    // Each starts a thread.
    slow: 6,
  },
  'JSON of rows': { sample: () => Buffer.from(JSON.stringify({ rows })), read: throughFile('a.json', allRows) },
  npy: { sample: npy, read: throughFile('a.npy', (f) => readNpy(f)) },
  'ids of vectors': {
    sample: () => Buffer.from('["d1", 2, "d3"]'),
    read: throughFile('b.ids.json', (f) => {
      const vectors = join(folder, 'b.npy');
      writeFileSync(vectors, npy());
      return readVectors(vectors, f);
    }),
  },
  'vectors in safetensors': {
    sample: () =>
      encodeSafetensors(new Map([['embedding', tensor('float32', [3, 2], Float32Array.of(1, 2, 3, 4, 5, 6))]])),
    read: throughFile('a.safetensors', (f) => readVectors(f)),
  },
  'lexical.json': {
    sample: () =>
      Buffer.from(
        '{"format":"onnx-distill-lexical-1","lambda":0.1,"scale":2,"k1":0.9,"b":0.4,"documents":3,"averageLength":4,"analyzer":{"kind":"words"},"frequencies":{"a":1,"b":2}}',
      ),
    read: throughFile('lexical.json', async () => {
      const channel = await readLexicalChannel(folder);
      return channel && inverseDocumentFrequency(channel, 'a');
    }),
  },
  "a language model's replies": {
    sample: () => Buffer.from(jsonl([{ key: 'a', text: 'b', tokens: 1 }])),
    read: throughFile('written-queries.jsonl', (f) => ReplyCache.open(f)),
  },
  CSV: { sample: () => Buffer.from(csv), read: throughFile('a.csv', allRows) },
  TSV: {
    sample: () => Buffer.from(['query\tpositive', ...rows.map((r) => `${r.query}\t${r.positive}`)].join('\n')),
    read: throughFile('a.tsv', allRows),
  },
  JSONL: { sample: () => Buffer.from(jsonl(rows)), read: throughFile('a.jsonl', allRows) },
  'gzipped JSONL': { sample: () => gzipSync(jsonl(rows)), read: throughFile('a.jsonl.gz', allRows) },
  'corpus.jsonl': {
    sample: () => Buffer.from(jsonl(rows.map((r) => ({ _id: `d${r.n}`, text: r.positive })))),
    read: inBeir('corpus.jsonl'),
  },
  qrels: {
    sample: () => Buffer.from('query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n'),
    read: inBeir('qrels/test.tsv'),
  },
  'teacher scores': {
    sample: () => Buffer.from('query-id\tcorpus-id\tscore\nq1\td1\t1.5\nq1\td2\t-3\n'),
    async read(bytes) {
      const data = await inBeir('extra')(new Uint8Array());
      return throughFile('scores.tsv', (f) => readScores(f, data.queries, data.documents))(bytes);
    },
  },
  'run file': {
    sample: () => Buffer.from(rows.map((r) => `q${r.n % 3} Q0 d${r.n} 1 ${1 / (r.n + 1)} tag\n`).join('')),
    read: throughFile('a.trec', (f) => readRun(f)),
  },
  'static encoder': {
    sample: () =>
      encodeSafetensors(
        new Map<string, Tensor>([
          ['rows', tensor('int8', [6, 4], new Int8Array(24).fill(3))],
          ['scales', tensor('float32', [6], new Float32Array(6).fill(0.1))],
        ]),
        {
          format: 'onnx-distill-static-1',
          pieces: '[UNK]\n[CLS]\n[SEP]\nopen\nfile\n##s',
          unknown: '[UNK]',
          tokenizer:
            '{"lowercase":true,"stripAccents":true,"maxTokens":8,"prefix":"##","special":["[CLS]"],"before":[1],"after":[2]}',
        },
      ),
    read(bytes) {
      try {
        return new StaticEncoder(bytes).embed(`open files ${'x'.repeat(100_000)}`);
      } catch (cause) {
        // Its one message; it imports nothing, so its errors are plain.
        if (!/not a static encoder of onnx-distill/.test((cause as Error).message)) throw cause;
        throw new InputError({ code: 'static', subject: (cause as Error).message });
      }
    },
  },
  'YAML config': {
    sample: () => readFileSync(join(world, 'distill.yaml')),
    read: throughFile('a.yaml', (f) => readConfig(f)),
  },
};

/** What is done to a file: bits flipped, bytes cut out, repeated, overwritten by extreme ones, the end cut off. */
const damage = (size: number): fc.Arbitrary<(bytes: Uint8Array) => Uint8Array> => {
  const at = fc.nat(Math.max(0, size - 1));
  return fc.oneof(
    at.map((n) => (b: Uint8Array) => b.slice(0, n)),
    fc.array(fc.tuple(at, fc.nat(7)), { minLength: 1, maxLength: 8 }).map((flips) => (b: Uint8Array) => {
      const out = b.slice();
      for (const [i, bit] of flips) if (i < out.length) out[i] ^= 1 << bit;
      return out;
    }),
    fc.tuple(at, fc.nat(64)).map(
      ([i, n]) =>
        (b: Uint8Array) =>
          Buffer.concat([b.subarray(0, i), b.subarray(i + n)]),
    ),
    fc.tuple(at, fc.nat(64), fc.integer({ min: 2, max: 200 })).map(
      ([i, n, times]) =>
        (b: Uint8Array) =>
          Buffer.concat([b.subarray(0, i), ...Array<Uint8Array>(times).fill(b.subarray(i, i + n)), b.subarray(i)]),
    ),
    fc
      .tuple(at, fc.constantFrom(0, 0x7f, 0x80, 0xff), fc.integer({ min: 1, max: 10 }))
      .map(([i, v, n]) => (b: Uint8Array) => {
        const out = b.slice();
        out.fill(v, i, i + n);
        return out;
      }),
    fc
      .tuple(
        at,
        fc.constantFrom('{', '[[[[', '"', '\\u0000', '__proto__', '-1', '1e999', 'null', '&a *a', '\ud800', '\n'),
      )
      .map(
        ([i, text]) =>
          (b: Uint8Array) =>
            Buffer.concat([b.subarray(0, i), Buffer.from(text), b.subarray(i)]),
      ),
    fc.uint8Array({ maxLength: 300 }).map((b) => () => b),
  );
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
  world = await makeWorld();
});

describe('a damaged file ends in a message of ours or in a result', () => {
  test.each(Object.keys(readers))('%s', { timeout: 60_000 + CASES * 100 }, async (name) => {
    const { sample, read, slow = 1 } = readers[name];
    const whole = new Uint8Array(sample());
    await read(whole);
    const before = process.memoryUsage().rss;
    await fc.assert(
      fc.asyncProperty(damage(whole.length), async (change) => {
        const started = performance.now();
        try {
          await read(change(whole));
        } catch (error) {
          if (!(error instanceof InputError)) throw error;
          // A library's own message stands in brackets; the rest is the toolkit's text.
          expect(error.message.replace(/\(.*\)/s, '')).not.toMatch(/undefined|\[object/);
        }
        expect(performance.now() - started).toBeLessThan(LONGEST * 1000);
        expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
      }),
      { numRuns: Math.ceil(CASES / slow), seed: SEED },
    );
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(LARGEST_GROWTH);
  });
});
