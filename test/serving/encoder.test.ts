/** @file Encoders and re-rankers opened for programs give what training and evaluation use. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { hasCuda } from '../../engine/runtime/cuda.ts';
import { encoderSearcher } from '../../evaluation/systems/retrieve.ts';
import { freshModel } from '../../models/new-model.ts';
import { indexDocuments } from '../../search/index-documents.ts';
import { dtypeFiles, readProvenance } from '../../serving/encoder/checkpoint.ts';
import { openFileEncoder } from '../../serving/encoder/file-encoder.ts';
import { openEncoder, openReranker } from '../../serving/index.ts';
import { rerankerOf } from '../../serving/reranker.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import { documents, makeWorld, queries } from '../cli/world.ts';

let world: string;
const at = (name: string): string => join(world, name);
const texts = [...documents.slice(0, 8).map((d) => d.text.repeat(3)), 'open', ''];

beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

/** A copy of the dual-encoder with what a run would have written of itself. */
function checkpoint(name: string, config: object): string {
  cpSync(at('dual'), at(name), { recursive: true });
  writeFileSync(join(at(name), 'distill.json'), JSON.stringify({ config }));
  return at(name);
}

describe('openEncoder', () => {
  test.skipIf(hasCuda())(
    'documents that were embedded in fp16 are embedded in float32 here, and a note says so',
    async () => {
      const embedder = { model: at('dual') };
      const found: Float32Array[] = [];
      const notes: string[] = [];
      for (const dtype of ['fp32', 'fp16']) {
        const folder = checkpoint(`documents-${dtype}`, {
          student: { towers: 'query' },
          embedder: { ...embedder, dtype },
        });
        const encoder = await openEncoder(folder);
        const onProgress = ({ note }: { note?: string }): void => void (note && notes.push(note));
        for (let k = 0; k < 2; k++) found.push(await encoder.embedDocuments(texts, { onProgress }));
        await encoder.dispose();
      }
      expect(found[2]).toEqual(found[0]);
      expect(notes).toEqual([
        `the run embedded documents by ${at('dual')} in fp16, which is for cuda; here it computes in float32, whose vectors differ by rounding`,
      ]);
    },
  );

  test.skipIf(hasCuda())(
    'a device that cannot be had is refused with the reason, and nothing falls back to the CPU',
    async () => {
      await expect(openEncoder(at('dual'), { provider: 'cuda' })).rejects.toThrow(
        /^the CUDA provider is not installed: .+libonnxruntime_providers_cuda\.so does not exist; install it as docs\/running\.md says/,
      );
      await expect(
        indexDocuments({ checkpoint: at('dual'), data: at('data'), output: at('on-cuda'), provider: 'cuda' }),
      ).rejects.toThrow('the CUDA provider is not installed');
      expect(existsSync(at('on-cuda'))).toBe(false);
      await expect(
        evaluate({ student: at('dual'), data: at('data'), provider: 'cuda', cache: at('cuda-cache') }),
      ).rejects.toThrow('the CUDA provider is not installed');
    },
  );

  test('a compact file computes on the CPU whatever device is named, and says so', async () => {
    const folder = checkpoint('compact', {});
    cpSync(join(folder, 'onnx/model.onnx'), join(folder, 'onnx/model_int8.onnx'));
    const encoder = await openEncoder(folder, { dtype: 'int8', provider: 'cuda' });
    expect(encoder.notes.at(-1)).toMatch(
      /model_int8\.onnx computes on the CPU, which compact files are made for, and not on cuda$/,
    );
    expect(await encoder.embedQueries(['open'])).toHaveLength(16);
    const fastest = await openEncoder(folder, { dtype: 'int8', provider: 'auto' });
    expect(fastest.notes.join()).not.toContain('computes on the CPU');
    for (const open of [encoder, fastest]) await open.dispose();
  });

  test('an index by a compact file says that it computed on the CPU', async () => {
    const folder = checkpoint('compact-index', {});
    cpSync(join(folder, 'onnx/model.onnx'), join(folder, 'onnx/model_int8.onnx'));
    const notes: string[] = [];
    const watch = { onProgress: ({ note }: { note?: string }) => note !== undefined && notes.push(note) };
    const options = { checkpoint: folder, data: at('data'), output: at('compact-out'), dtype: 'int8' };
    await indexDocuments({ ...options, provider: 'cuda' }, watch);
    expect(notes.join()).toContain('model_int8.onnx computes on the CPU');
  });

  test('an evaluation says what a file of candidates names that the data lacks', async () => {
    const [q] = queries;
    const file = at('candidates.run');
    writeFileSync(file, `other Q0 d1 1 3 x\n${q._id} Q0 ${documents[0]._id} 1 3 x\n${q._id} Q0 none 2 2 x\n`);
    const notes: string[] = [];
    const onProgress = ({ note }: { note?: string }) => note !== undefined && notes.push(note);
    const options = { student: at('dual'), data: at('data'), split: 'train', cost: false, cache: at('run-cache') };
    await evaluate({ ...options, teacher: at('cross'), candidates: file }, { onProgress });
    expect(notes).toContain(`${file}: 1 queries and 1 documents of the others are not in the data and are left out`);
  });

  test('where an index was computed is no part of it', async () => {
    const options = { checkpoint: at('dual'), data: at('data'), output: at('anywhere') };
    await indexDocuments({ ...options, provider: 'auto' });
    expect(readFileSync(join(at('anywhere'), 'search.json'), 'utf8')).not.toContain('provider');
    expect((await indexDocuments(options)).added).toBe(0);
  });

  test('embeds both sides as evaluation does, cut at the limits of the run', async () => {
    const folder = checkpoint('limited', { student: { queryTokens: 5, documentTokens: 9 } });
    const made = await readProvenance(folder);
    expect(made).toMatchObject({ queryTokens: 5, documentTokens: 9 });
    const encoder = await openEncoder(folder);
    const [{ file }] = await dtypeFiles(folder);
    const inner = await openFileEncoder(file);
    const evaluated = encoderSearcher(inner, made);
    const table = { ids: [], length: texts.length, text: (i: number) => texts[i] };
    expect(await encoder.embedQueries(texts)).toEqual((await evaluated.queries(table, {})).data);
    const asDocuments = await encoder.embedDocuments(texts);
    const documents = evaluated.documents as typeof evaluated.queries;
    expect(asDocuments).toEqual((await documents(table, {})).data);
    expect(encoder.dimensions).toBe(16);
    expect(asDocuments).toHaveLength(16 * texts.length);
    // Limits are read: the sides differ.
    expect(asDocuments).not.toEqual(await encoder.embedQueries(texts));
    await encoder.dispose();
    await inner.dispose();
  });

  test('prompts of the folder are added to queries and documents, and are part of the keys', async () => {
    const folder = checkpoint('prompted', { student: { queryTokens: 12, documentTokens: 24 } });
    const plain = await openEncoder(folder);
    const prompts = { query: 'open: ', document: 'list file: ' };
    writeFileSync(join(folder, 'config_sentence_transformers.json'), JSON.stringify({ prompts }));
    const encoder = await openEncoder(folder);
    const limits = { queryTokens: 12, documentTokens: 24 };
    const teacher = await dualEncoder(folder, limits);
    expect(await encoder.embedQueries(texts)).toEqual((await teacher.embed(texts, 'query')).data);
    expect(await encoder.embedDocuments(texts)).toEqual((await teacher.embed(texts, 'document')).data);
    expect(await encoder.embedQueries(['print'])).toEqual(await plain.embedQueries(['open: print']));
    expect(await encoder.embedDocuments(['print'])).toEqual(await plain.embedDocuments(['list file: print']));
    expect(encoder.key).not.toBe(plain.key);
    expect(await encoder.documentsKey()).not.toBe(await plain.documentsKey());
    for (const open of [plain, encoder, teacher]) await open.dispose();
  });

  test('keys follow weights, limits and side', async () => {
    const folder = checkpoint('keys', { student: { queryTokens: 5, documentTokens: 9 } });
    const keys = async (options = {}): Promise<string[]> => {
      const encoder = await openEncoder(folder, options);
      const found = [encoder.key, await encoder.documentsKey()];
      await encoder.dispose();
      return found;
    };
    const [query, document] = await keys();
    expect(await keys()).toEqual([query, document]);
    expect(await keys({ queryTokens: 6 })).toEqual([expect.not.stringContaining(query), document]);
    expect(await keys({ documentTokens: 10 })).toEqual([query, expect.not.stringContaining(document)]);
    await freshModel(at('other'), { length: 8, text: (i) => texts[i] }, { hidden: 16, heads: 2, layers: 1, seed: 9 });
    const other = await openEncoder(at('other'));
    expect(other.key).not.toBe(query);
    await other.dispose();
  });

  test('a student of queries has the inherited encoder embed documents', async () => {
    const folder = checkpoint('queries', {
      student: { towers: 'query', queryTokens: 5, documentTokens: 9 },
      embedder: { model: at('dual'), queryTokens: 7, documentTokens: 12 },
    });
    const encoder = await openEncoder(folder);
    const teacher = await dualEncoder(at('dual'), { queryTokens: 7, documentTokens: 12 });
    expect(await encoder.embedDocuments(texts)).toEqual((await teacher.embed(texts, 'document')).data);
    expect(await encoder.documentsKey()).toBe(teacher.key);
    await teacher.dispose();
    await encoder.dispose();
  });

  test('a static file, by dtype, by path, or as the only model of its folder', async () => {
    const folder = at('static');
    mkdirSync(folder);
    for (const name of ['tokenizer.json', 'tokenizer_config.json', 'config.json'])
      cpSync(join(at('dual'), name), join(folder, name));
    const tokenizer = await TextTokenizer.load(folder);
    const V = tokenizer.vocabularySize;
    const { model } = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')) as {
      model: { vocab: Record<string, number> };
    };
    const pieces = Object.keys(model.vocab);
    const rows = Int8Array.from({ length: V * 4 }, (_, i) => ((i * 37) % 200) - 100);
    const scales = new Float32Array(V).fill(0.01);
    const words = {
      lowercase: true,
      stripAccents: true,
      maxTokens: 16,
      prefix: '##',
      special: [],
      before: [],
      after: [],
    };
    writeFileSync(
      join(folder, 'static.safetensors'),
      encodeSafetensors(
        new Map([
          ['rows', { dtype: 'int8' as const, dims: [V, 4], data: rows }],
          ['scales', { dtype: 'float32' as const, dims: [V], data: scales }],
        ]),
        {
          format: 'onnx-distill-static-1',
          unknown: '[UNK]',
          tokenizer: JSON.stringify(words),
          pieces: pieces.join('\n'),
        },
      ),
    );
    const found: Float32Array[] = [];
    for (const [path, options] of [
      [folder, {}],
      [folder, { dtype: 'static-int8' }],
      [join(folder, 'static.safetensors'), {}],
    ] as const) {
      const encoder = await openEncoder(path, options);
      expect(encoder.dimensions).toBe(4);
      found.push(await encoder.embedQueries(['open file']));
      await encoder.dispose();
    }
    expect(Math.hypot(...found[0])).toBeCloseTo(1, 5);
    expect(found[1]).toEqual(found[0]);
    expect(found[2]).toEqual(found[0]);
    writeFileSync(join(folder, 'static.safetensors'), 'nothing');
    await expect(openEncoder(folder)).rejects.toThrow('is not a static encoder of onnx-distill, or is incomplete');
  });

  test('what is not there is refused', async () => {
    await expect(openEncoder(at('nowhere'))).rejects.toThrow(`there is no model folder ${at('nowhere')}`);
    await expect(openEncoder(at('dual'), { dtype: 'q4' })).rejects.toThrow("has no model file of dtype 'q4'");
    await expect(openEncoder(at('dual'), { dtype: 'static-int8' })).rejects.toThrow('has no static.safetensors');
    await expect(openEncoder(join(at('dual'), 'onnx/model.onnx'), { dtype: 'fp32' })).rejects.toThrow('is one file');
  });
});

describe('openReranker', () => {
  test("gives the teacher's logits in the order of the documents", async () => {
    const reranker = await openReranker(at('cross'));
    const teacher = await crossEncoder(at('cross'));
    const bodies = documents.slice(0, 9).map((d) => d.text);
    const pairs = bodies.map((document) => ({ queryId: '', documentId: '', query: queries[0].text, document }));
    const found = await reranker.score(queries[0].text, bodies);
    expect(found).toEqual(await teacher.score(pairs));
    expect(new Set(found).size).toBeGreaterThan(4);
    expect(reranker.key).toBe(teacher.key);
    expect(await reranker.score('open', [])).toHaveLength(0);
    await reranker.dispose();
    await teacher.dispose();
  });

  test('a logit that is not finite is a fault that names both texts', async () => {
    const score = async () => Float32Array.of(1, Number.NaN);
    const broken = rerankerOf({ name: 'broken', kind: 'test', key: 'k', score, dispose: async () => {} });
    await expect(broken.score('open', ['file', 'scan\nprint'])).rejects.toThrow(
      "broken gives NaN for the query 'open' with the document 'scan\\nprint'; it cannot be ranked",
    );
  });

  test('an encoder is not a re-ranker', async () => {
    await expect(openReranker(at('dual'))).rejects.toThrow('outputs');
  });
});
