/** @file One suite for every teacher: its score of a pair depends on the pair alone, and on how texts are cut. */
import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as huggingface from '@huggingface/transformers';
import * as xenova from '@xenova/transformers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TextTable, TextTableBuilder } from '../../data/dataset.ts';
import type { PairLimits } from '../../data/tokenizer.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { encodeGraph, loadGraph, onnxType } from '../../engine/io/onnx-file.ts';
import { Random } from '../../math/random.ts';
import { freshModel } from '../../models/new-model.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import { generative } from '../../teachers/generative.ts';
import { scoreFile } from '../../teachers/score-file.ts';
import { type HttpTeacherOptions, httpTeacher } from '../../teachers/services/http-teacher.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';
import { transformersTeacher } from '../../teachers/transformers-js.ts';
import { vectorsEmbedder } from '../../teachers/vectors/vectors-embedder.ts';
import { embeddingOf, type Service, startService } from './service.ts';

const dir = mkdtempSync(join(tmpdir(), 'teachers-'));
const words = 'open file list process network packet editor text image audio video server client mail print scan'.split(
  ' ',
);
const random = Random.of(1, 'teachers');
const draw = (n: number): string => Array.from({ length: n }, () => words[random.integer(words.length)]).join(' ');

/** Texts of all lengths: an empty one, one far beyond the model's positions, and repeated ones. */
const queryTexts = [...Array.from({ length: 6 }, (_, i) => draw(i + 1)), '', draw(300)];
const documentTexts = [
  ...Array.from({ length: 6 }, (_, i) => draw(5 * i + 2)),
  '',
  draw(900),
  'ünïcode \ud800 [SEP] 日本',
];

function table(texts: string[], prefix: string): TextTable {
  const builder = new TextTableBuilder();
  for (const [i, text] of texts.entries()) builder.add(`${prefix}${i}`, text);
  return builder.build();
}
const tables = { queries: table(queryTexts, 'q'), documents: table(documentTexts, 'd') };
const pairs: Pair[] = queryTexts.flatMap((query, q) =>
  documentTexts.map((document, d) => ({ queryId: `q${q}`, documentId: `d${d}`, query, document })),
);

const cross = join(dir, 'cross');
const dual = join(dir, 'dual');
const scores = join(dir, 'scores.tsv');
const generativeFolder = join(import.meta.dirname, '../fixtures/generative/qwen3');
let cache: ScoreCache;

beforeAll(async () => {
  const options = { hidden: 16, layers: 2, heads: 2, maxLength: 64, vocabulary: 200 };
  const texts = { length: documentTexts.length, text: (i: number) => documentTexts[i].toWellFormed() };
  await freshModel(cross, texts, { ...options, kind: 'cross-encoder' });
  await freshModel(dual, texts, options);
  await variant('unmasked', (graph) => {
    const [ids, mask] = ['input_ids', 'attention_mask'].map(
      (name) => graph.inputs.find((v) => v.name === name) as Value,
    );
    const ones = new Expr(graph, ids).mul(constant(graph, 'int64', [], [0])).add(constant(graph, 'int64', [], [1]));
    graph.replace(mask, ones.value);
    graph.removeInput(mask);
  });
  await variant('fixed', (graph) => {
    for (const v of graph.inputs) v.dims = [3, 64];
  });
  await variant('half', halfLogits);
  await variant('small-types', (graph) => {
    halfLogits(graph);
    for (const v of [...graph.inputs]) {
      const readers = [...v.readers];
      const cast = new Expr(graph, v).op('Cast', [], { to: onnxType('int64') }).value;
      for (const n of readers) n.replaceInput(v, cast);
      v.dtype = 'int32';
    }
  });
  writeFileSync(scores, pairs.map((p, i) => `${p.queryId}\t${p.documentId}\t${Math.sin(i)}\n`).join(''));
  writeFileSync(join(dir, 'documents.jsonl'), vectorLines(documentTexts, 'd'));
  writeFileSync(join(dir, 'queries.jsonl'), vectorLines(queryTexts, 'q'));
  hosted = await startService();
  cache = await ScoreCache.open(join(dir, 'cache'));
  for (const env of [huggingface.env, xenova.env]) {
    env.localModelPath = dir;
    env.allowRemoteModels = false;
  }
});
/** The cross-encoder in another form. */
async function variant(name: string, change: (graph: Graph) => void): Promise<void> {
  cpSync(cross, join(dir, name), { recursive: true });
  const graph = await loadGraph(join(cross, 'onnx/model.onnx'));
  change(graph);
  graph.sort();
  writeFileSync(join(dir, name, 'onnx/model.onnx'), encodeGraph(graph));
}

function halfLogits(graph: Graph): void {
  const [logits] = graph.outputs;
  const { value } = new Expr(graph, logits).op('Cast', [], { to: onnxType('float16') });
  logits.name = 'before';
  graph.setOutputs();
  [value.dtype, value.dims] = ['float16', ['batch', 1]];
  graph.output(value, 'logits');
  value.name = 'logits';
}

afterAll(async () => {
  for (const t of kept.values()) await (await t).dispose();
  await cache.close();
  hosted.close();
});

/**
 * @xenova/transformers copies tensors field by field, which works with the ONNX Runtime it asks for (1.14) and not with a newer
 * one forced upon it.
 */
const { version } = createRequire(createRequire(import.meta.url).resolve('@xenova/transformers'))(
  'onnxruntime-node/package.json',
) as { version: string };
const xenovaRuns = version.startsWith('1.14.');
if (!xenovaRuns) console.log(`skipped: @xenova/transformers as teacher, which does not run on ONNX Runtime ${version}`);

let hosted: Service;
const service = (options: Omit<HttpTeacherOptions, 'url'>): Member => ({
  open: async () => httpTeacher({ ...options, url: hosted.url }),
  neverCuts: 'the service cuts',
});
/** Vectors by id, as another program wrote them. */
const vectorLines = (texts: string[], prefix: string): string =>
  texts.map((t, i) => `${JSON.stringify({ id: `${prefix}${i}`, embedding: embeddingOf(t) })}\n`).join('');

interface Member {
  /** Whether it knows texts by their ids alone. */
  byId?: boolean;
  open(limits?: PairLimits): Promise<Teacher>;
  /** How near its scores are to those of the same model in float32, where it computes them in less. */
  near?: number;
  /** Why it knows of no truncation. */
  neverCuts?: string;
}

const members: Record<string, Member> = {
  'cross-encoder': { open: (limits) => crossEncoder(cross, limits) },
  'dual-encoder': { open: (limits) => dualEncoder(dual, { documentTokens: limits?.maxLength }) },
  'score file': { open: () => scoreFile([scores], tables), neverCuts: 'it reads no text' },
  'cross-encoder without a mask': { open: (limits) => crossEncoder(join(dir, 'unmasked'), limits) },
  'cross-encoder of a fixed shape': { open: (limits) => crossEncoder(join(dir, 'fixed'), limits) },
  'cross-encoder of int32 and float16': {
    open: (limits) => crossEncoder(join(dir, 'small-types'), limits),
    near: 5e-3,
  },
  generative: { open: (limits) => generative(generativeFolder, { maxLength: limits && 10 * (limits.maxLength ?? 0) }) },
  'text-embeddings-inference, reranker': service({ format: 'tei' }),
  'text-embeddings-inference, embeddings': service({ format: 'tei', task: 'embed' }),
  'Cohere, reranker': service({ format: 'cohere', model: 'a' }),
  'Jina, reranker': service({ format: 'jina', model: 'a' }),
  'OpenAI, embeddings': service({ format: 'openai-embeddings', model: 'a' }),
  'files of vectors': {
    open: () =>
      vectorsEmbedder({ files: join(dir, 'documents.jsonl'), queries: { files: join(dir, 'queries.jsonl') } }),
    neverCuts: 'it reads no text',
    byId: true,
  },
  'cross-encoder behind the cache': { open: async (limits) => cache.wrap(await crossEncoder(cross, limits)) },
  '@huggingface/transformers, classifier': {
    open: async (limits) =>
      transformersTeacher(
        {
          tokenizer: await huggingface.AutoTokenizer.from_pretrained('cross'),
          model: await huggingface.AutoModelForSequenceClassification.from_pretrained('cross', { dtype: 'fp32' }),
        },
        limits,
      ),
  },
  '@huggingface/transformers, classifier of float16': {
    open: async (limits) =>
      transformersTeacher(
        {
          tokenizer: await huggingface.AutoTokenizer.from_pretrained('small-types'),
          model: await huggingface.AutoModelForSequenceClassification.from_pretrained('half', { dtype: 'fp32' }),
        },
        limits,
      ),
    near: 5e-3,
  },
  '@xenova/transformers, classifier': {
    open: async (limits) =>
      transformersTeacher(
        {
          tokenizer: await xenova.AutoTokenizer.from_pretrained('cross'),
          model: await xenova.AutoModelForSequenceClassification.from_pretrained('cross', { quantized: false }),
        },
        limits,
      ),
  },
  '@huggingface/transformers, feature extraction': {
    open: async (limits) =>
      transformersTeacher(await huggingface.pipeline('feature-extraction', 'dual', { dtype: 'fp32' }), {
        documentTokens: limits?.maxLength,
      }),
  },
  '@xenova/transformers, feature extraction': {
    open: async (limits) =>
      transformersTeacher(await xenova.pipeline('feature-extraction', 'dual', { quantized: false }), {
        documentTokens: limits?.maxLength,
      }),
  },
};

const names = Object.keys(members).filter((n) => xenovaRuns || !n.startsWith('@xenova'));

const kept = new Map<string, Promise<Teacher>>();

function open(name: string, limits?: PairLimits, again = ''): Promise<Teacher> {
  const key = `${name} ${limits?.maxLength} ${again}`;
  const known = kept.get(key) ?? members[name].open(limits);
  kept.set(key, known);
  return known;
}

const close = (a: ArrayLike<number>, b: ArrayLike<number>, near = 1e-5): void => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i] - b[i])).toBeLessThan(near);
};

describe.each(names)('%s', (name) => {
  test('one finite score a pair, whatever its order and company: alone, shuffled, twice', async () => {
    const teacher = await open(name);
    const all = await teacher.score(pairs);
    expect(all).toBeInstanceOf(Float32Array);
    expect(all.every(Number.isFinite)).toBe(true);
    expect(new Set(all).size).toBeGreaterThan(pairs.length / 2);
    const order = Random.of(2, name).shuffle(pairs.map((_, i) => i));
    close(
      await teacher.score(order.map((i) => pairs[i])),
      order.map((i) => all[i]),
    );
    close(await teacher.score([...pairs, ...pairs]), [...all, ...all]);
    for (const i of order.slice(0, 8)) close(await teacher.score([pairs[i]]), [all[i]]);
    expect((await teacher.score([])).length).toBe(0);
  });

  test('embeddings, where it has them, are one row a text and agree with its scores', async ({ skip }) => {
    const teacher = await open(name);
    if (!teacher.embed) return skip('it has no embeddings');
    const q = await teacher.embed(tables.queries, 'query');
    const d = await teacher.embed(tables.documents, 'document');
    expect(q.data.length).toBe(queryTexts.length * q.dimensions);
    const dots = pairs.map(({ queryId, documentId }) => {
      const [i, j] = [queryId, documentId].map((id) => Number(id.slice(1)) * q.dimensions);
      return q.data.subarray(i, i + q.dimensions).reduce((s, x, k) => s + x * d.data[j + k], 0);
    });
    close(await teacher.score(pairs), dots);
    if (members[name].byId) return;
    const again = await teacher.embed([queryTexts[3]], 'query');
    close(again.data, q.data.subarray(3 * q.dimensions, 4 * q.dimensions));
  });

  test('an aborted signal ends the work with its reason', async () => {
    const teacher = await open(name);
    const fresh = pairs.map((p) => ({ ...p, query: `${p.query} never asked before by ${name}` }));
    await expect(teacher.score(fresh, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });

  test('progress ends at all pairs', async () => {
    const teacher = await open(name);
    let last = { done: 0, total: 0 as number | undefined };
    await teacher.score(
      pairs.map((p) => ({ ...p, document: `${p.document} as told to ${name}` })),
      { onProgress: (p) => (last = { done: p.done, total: p.total }) },
    );
    expect(last.done).toBe(last.total);
    expect(last.done).toBeGreaterThan(0);
  });

  test('the key is the same for the same teacher and another where texts are cut otherwise', async ({ skip }) => {
    const keys = [await open(name), await open(name, undefined, 'again')].map((t) => t.key);
    expect(keys[0]).toBe(keys[1]);
    const { neverCuts } = members[name];
    if (neverCuts) return skip(neverCuts);
    const cut = await open(name, { maxLength: 12 });
    expect(cut.key).not.toBe(keys[0]);
    const long = [pairs[documentTexts.length + 5]];
    expect((await cut.score(long))[0]).not.toBe((await (await open(name)).score(long))[0]);
  });
});

test('the same model says the same through every door', async () => {
  for (const [first, ...others] of [
    names.filter((n) => /cross-encoder|classifier/.test(n)),
    names.filter((n) => /dual-encoder|feature/.test(n)),
  ])
    for (const limits of [undefined, { maxLength: 20 }]) {
      const expected = await (await open(first, limits)).score(pairs);
      for (const name of others) close(await (await open(name, limits)).score(pairs), expected, members[name].near);
    }
});

test('different models have different keys', async () => {
  // The cache changes no key; the same model in two libraries may have one.
  const keys = await Promise.all(names.filter((n) => !/cache|xenova/.test(n)).map(async (n) => (await open(n)).key));
  expect(new Set(keys).size).toBe(keys.length);
});

test('a score file says which pair it lacks, or counts them', async () => {
  const asked = [{ ...pairs[0], documentId: 'd999' }, pairs[1], { ...pairs[0], queryId: 'other' }];
  await expect((await scoreFile([scores], tables)).score(asked)).rejects.toThrow(
    `${scores} has no score of the query 'q0' with the document 'd999' nor of 1 other pairs; add them, use 'candidates.source: given', or give a model as teacher`,
  );
  const notes: string[] = [];
  const lenient = await scoreFile([scores], tables, { onMissing: 'skip' });
  const found = await lenient.score(asked, { onProgress: (p) => p.note && notes.push(p.note) });
  expect([...found].map(Number.isNaN)).toEqual([true, false, true]);
  expect(notes).toEqual([`2 of 3 pairs have no score in ${scores}`]);
});

test('a score file of more queries than the data has serves those it has, and says so', async () => {
  const file = join(dir, 'more.tsv');
  writeFileSync(file, 'query-id\tcorpus-id\tscore\nelse\td0\t1\nq0\td0\t2\nelse\tdx\t1\nother\td0\t1\n');
  const teacher = await scoreFile([file], tables);
  expect([...(await teacher.score([{ ...pairs[0], queryId: 'q0', documentId: 'd0' }]))]).toEqual([2]);
  expect(teacher.notes).toEqual([`${file}: 2 of 3 queries are not in the data and are left out, e.g. 'else' (line 2)`]);
  writeFileSync(file, 'q0\td0\t2\nq0\tdx\t1\n');
  await expect(scoreFile([file], tables)).rejects.toThrow(
    `${file} line 2 names the document 'dx', which is not in the data; use the scores of this data set`,
  );
  writeFileSync(file, 'else\td0\t2\nother\td0\t1\n');
  await expect(scoreFile([file], tables)).rejects.toThrow(
    `none of the 2 queries of ${file} is in the data, e.g. 'else' (line 1); use the scores of this data set`,
  );
});
