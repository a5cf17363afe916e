import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { writeWhole } from '../../common/files.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { readSafetensors } from '../../engine/io/safetensors.ts';
import { Session } from '../../engine/runtime/session.ts';
import { floatToHalf, halfToFloat } from '../../math/half.ts';
import { symmetricEigen } from '../../math/linear-algebra.ts';
import { Encoder } from '../../models/encoder.ts';
import type { Head } from '../../models/modules/head.ts';
import { freshModel } from '../../models/new-model.ts';
import { loadStudent } from '../../students/encoder-student.ts';
import { compact } from '../../students/export/compress.ts';
import { type ExportDType, exportDTypes } from '../../students/export/dtypes.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { quantizeBlocks } from '../../students/export/q4.ts';
import { transposed } from '../../students/export/simplify.ts';
import { factorise } from '../../students/export/tables.ts';
import { huggingFaceWeights } from '../../students/export/torch-names.ts';
import { cutVocabulary, type TokenizerJson } from '../../students/export/vocabulary.ts';
import { texts } from '../loads/tools.ts';
import { pythonWith } from '../python.ts';
import { shared } from '../shared.ts';

const python = pythonWith('onnx');
const folder = mkdtempSync(join(tmpdir(), 'export-'));
const source = join(folder, 'source');

beforeAll(() =>
  freshModel(source, { length: texts.length, text: (i) => texts[i] }, { vocabulary: 300, hidden: 64, maxLength: 48 }),
);

const cosines = (a: Float32Array, b: Float32Array, width: number): number[] =>
  Array.from({ length: a.length / width }, (_, r) => {
    const dot = (x: Float32Array, y: Float32Array): number => {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += x[r * width + i] * y[r * width + i];
      return sum;
    };
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  });

async function embeddings(path: string): Promise<Float32Array> {
  const encoder = await Encoder.load(path);
  const vectors = await encoder.encode(texts);
  await encoder.dispose();
  return vectors;
}

/** One pooling, scaled to unit length. */
const plain: Head = { pooling: ['mean'], includePrompt: true, modules: [{ kind: 'normalize' }] };

test('half precision: every bit pattern comes back, and halfway goes to the even one', () => {
  for (let bits = 0; bits < 0x7c00; bits++) expect(floatToHalf(halfToFloat(bits))).toBe(bits);
  expect(floatToHalf(-halfToFloat(0x3555))).toBe(0xb555);
  expect(floatToHalf((halfToFloat(0x3c00) + halfToFloat(0x3c01)) / 2)).toBe(0x3c00);
  expect(floatToHalf((halfToFloat(0x3c01) + halfToFloat(0x3c02)) / 2)).toBe(0x3c02);
  expect(floatToHalf(1e9)).toBe(0x7bff);
});

test('q4 blocks: multiples of a block scale come back exactly, and one side reaches eight steps', () => {
  const values = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? ((i % 16) - 8) * 0.5 : 0));
  const { packed, scales, blocks } = quantizeBlocks({ dtype: 'float32', dims: [1, 64], data: values });
  expect(blocks).toBe(2);
  const back = Array.from({ length: 64 }, (_, i) => {
    const byte = packed[i >> 1];
    return ((i % 2 ? byte >> 4 : byte & 15) - 8) * scales[i >> 5] + 0; // no -0
  });
  expect(back).toEqual([...values]);
});

test('eigenvectors of a symmetric matrix are orthonormal and rebuild it', () => {
  const n = 5;
  const a = Float64Array.from({ length: n * n }, (_, k) => Math.cos(Math.floor(k / n) * (k % n)));
  const { values, vectors } = symmetricEigen({ n, data: a });
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      let [sum, dot] = [0, 0];
      for (let k = 0; k < n; k++) {
        sum += vectors[i * n + k] * values[k] * vectors[j * n + k];
        dot += vectors[k * n + i] * vectors[k * n + j];
      }
      expect(sum).toBeCloseTo(a[i * n + j], 9);
      expect(dot).toBeCloseTo(i === j ? 1 : 0, 9);
    }
});

describe('files', () => {
  const dimensions = 16;
  const out = join(folder, 'all');
  beforeAll(async () => {
    await exportFolder(source, out, { dtypes: exportDTypes });
    await exportFolder(source, join(folder, 'cut'), { dtypes: exportDTypes, dimensions });
  });

  test.each([
    ['model', 0.999999],
    ['model_fp16', 0.9999],
    ['model_quantized', 0.995],
    ['model_q4', 0.97],
  ])('%s gives the embeddings of the checkpoint, also cut to some dimensions', async (name, least) => {
    const before = await embeddings(source);
    const after = await embeddings(join(out, 'onnx', `${name}.onnx`));
    expect(Math.min(...cosines(before, after, 64))).toBeGreaterThan(least);
    const cut = await embeddings(join(folder, 'cut', 'onnx', `${name}.onnx`));
    const prefix = new Float32Array(texts.length * dimensions);
    for (let r = 0; r < texts.length; r++) prefix.set(before.subarray(r * 64, r * 64 + dimensions), r * dimensions);
    expect(Math.min(...cosines(prefix, cut, dimensions))).toBeGreaterThan(2 * least - 1);
    for (let r = 0; r < texts.length; r++)
      expect(Math.hypot(...cut.subarray(r * dimensions, (r + 1) * dimensions))).toBeCloseTo(1, 4);
  });

  test('sizes fall, the second name of int8 is the same file, and the same input gives the same bytes', async () => {
    const size = (name: string): number => statSync(join(out, 'onnx', name)).size;
    expect(size('model_fp16.onnx')).toBeLessThan(0.56 * size('model.onnx'));
    expect(size('model_quantized.onnx')).toBeLessThan(0.33 * size('model.onnx'));
    expect(size('model_q4.onnx')).toBeLessThan(0.25 * size('model.onnx'));
    expect(statSync(join(out, 'onnx', 'model_int8.onnx')).ino).toBe(
      statSync(join(out, 'onnx', 'model_quantized.onnx')).ino,
    );
    const graph = await loadGraph(join(source, 'onnx', 'model.onnx'));
    for (const dtype of exportDTypes) {
      const options = { dtype, head: plain, width: 64, separator: 3 } as const;
      const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
      expect(hash(await compact(graph, options))).toBe(hash(await compact(graph, options)));
    }
  });

  test('every operator of int8 that does the work is an integer one', async () => {
    const graph = await loadGraph(join(out, 'onnx', 'model_quantized.onnx'));
    const ops = graph.nodes.map((n) => n.op);
    expect(ops.filter((op) => op === 'MatMulInteger')).toHaveLength(12);
    // Queries, keys and values read the same activations, which are rounded once.
    expect(ops.filter((op) => op === 'DynamicQuantizeLinear')).toHaveLength(8);
    const large = graph.constants.filter((v) => (v.constant as Tensor).data.length > 4096);
    expect(new Set(large.map((v) => v.dtype))).toEqual(new Set(['int8']));
  });

  test('weights under Hugging Face names equal those that the checkpoint has', async () => {
    const weights = await readSafetensors(join(out, 'model.safetensors'));
    const graph = await loadGraph(join(source, 'onnx', 'model.onnx'));
    for (const v of graph.constants.filter((c) => /weight|bias/.test(c.name)))
      expect(weights.get(v.name), v.name).toEqual(v.constant);
  });

  test.skipIf(!python)('the ONNX checker finds nothing in any of them', () => {
    const files = exportDTypes.flatMap((d) => [out, join(folder, 'cut')].map((f) => join(f, 'onnx', fileOf(d))));
    const script = 'import onnx, sys\nfor f in sys.argv[1:]: onnx.checker.check_model(onnx.load(f), full_check=True)';
    execFileSync(python as string, ['-c', script, ...files], { stdio: 'pipe' });
  });
});

const quantizer = pythonWith('onnxruntime.quantization', 'onnx');

test.skipIf(!quantizer || !shared)(
  'int8 compared with quantize_dynamic: no larger, and nearer to the checkpoint',
  async () => {
    const from = join(folder, 'two-layers');
    const student = await loadStudent(join(shared ?? '', 'models/minilm-l6'), { layers: [0, 5] });
    await writeWhole(join(from, 'source.onnx'), encodeGraph(student.graph));
    const options = { dtype: 'int8', head: student.head, width: 384, separator: 102 } as const;
    await writeWhole(join(from, 'ours.onnx'), await compact(student.graph, options));
    const script = `from onnxruntime.quantization import quantize_dynamic, QuantType
import sys
for name, channels in (('tensor', False), ('channel', True)):
    quantize_dynamic(sys.argv[1] + '/source.onnx', f'{sys.argv[1]}/{name}.onnx', weight_type=QuantType.QInt8, per_channel=channels)`;
    execFileSync(quantizer as string, ['-c', script, from], { stdio: 'pipe' });
    const cosine = async (name: string): Promise<number> => {
      const read = async (file: string): Promise<Float32Array> => {
        const { tokenizer, head } = student;
        const own = { tokenizer, head, maxLength: 64, hash: file, name: file };
        const encoder = await Encoder.of(await loadGraph(join(from, file)), own);
        const vectors = await encoder.encode(texts);
        await encoder.dispose();
        return vectors;
      };
      const all = cosines(await read('source.onnx'), await read(name), 384);
      return all.reduce((a, b) => a + b) / all.length;
    };
    const ours = await cosine('ours.onnx');
    expect(ours).toBeGreaterThan(0.995);
    for (const name of ['tensor.onnx', 'channel.onnx']) {
      expect(statSync(join(from, 'ours.onnx')).size, name).toBeLessThanOrEqual(statSync(join(from, name)).size);
      expect(ours, name).toBeGreaterThan(await cosine(name));
    }
  },
);

const fileOf = (d: ExportDType): string =>
  ({ fp32: 'model.onnx', fp16: 'model_fp16.onnx', int8: 'model_quantized.onnx', q4: 'model_q4.onnx' })[d];

test('text cut off without its last special token gets it back, and padding stays padding', async () => {
  const graph = await loadGraph(join(source, 'onnx', 'model.onnx'));
  const options = { dtype: 'fp32', head: plain, width: 64, separator: 3 } as const;
  const session = await Session.load(await compact(graph, options));
  const run = async (ids: number[][], mask: number[][]): Promise<Float32Array> => {
    const dims = [ids.length, ids[0].length];
    const result = await session.run({
      input_ids: tensor('int64', dims, ids.flat()),
      attention_mask: tensor('int64', dims, mask.flat()),
      token_type_ids: tensor('int64', dims, new Array(dims[0] * dims[1]).fill(0)),
    });
    return result.sentence_embedding.data as Float32Array;
  };
  const cut = await run([[2, 40, 41, 42]], [[1, 1, 1, 1]]);
  const whole = await run([[2, 40, 41, 3]], [[1, 1, 1, 1]]);
  const padded = await run([[2, 40, 41, 42, 0, 0]], [[1, 1, 1, 1, 0, 0]]);
  expect(Math.min(...cosines(cut, whole, 64))).toBeGreaterThan(1 - 1e-6);
  expect(Math.min(...cosines(cut, padded, 64))).toBeGreaterThan(1 - 1e-6);
  await session.release();
});

test('a factorised table of nearly full rank keeps the embeddings, and says what it keeps', async () => {
  const out = join(folder, 'thin');
  const { tableShare } = await exportFolder(source, out, { dtypes: ['fp32'], tableRank: 60 });
  expect(tableShare).toBeGreaterThan(0.95);
  expect(tableShare).toBeLessThan(1);
  const [before, after] = [await embeddings(source), await embeddings(out)];
  expect(Math.min(...cosines(before, after, 64))).toBeGreaterThan(0.9);
  const graph = new Graph(17);
  const table = Float32Array.from({ length: 12 }, (_, i) => ((i % 3) + 1) * (Math.floor(i / 3) - 1.5)); // rank 1
  const ids = new Expr(graph, graph.input('input_ids', 'int64', ['b', 's']));
  graph.output(constant(graph, 'float32', [4, 3], table).gather(ids).value, 'last_hidden_state');
  expect(factorise(graph, 1)).toBeCloseTo(1, 9);
  await expect(exportFolder(source, out, { dtypes: ['fp32'], tableRank: 64 })).rejects.toMatchObject({
    code: 'export.table-rank',
  });
});

describe('vocabulary', () => {
  test('a cut one gives the same pieces, and the model the same embeddings', async () => {
    const whole = await TextTokenizer.load(source);
    const used = new Set(texts.slice(0, 4).flatMap((t) => whole.plain(t)));
    const out = join(folder, 'pieces');
    const { kept } = await exportFolder(source, out, { dtypes: ['fp32'], used, reserve: 5 });
    const cut = await TextTokenizer.load(out);
    expect(cut.vocabularySize).toBe(kept?.length);
    expect(cut.vocabularySize).toBeLessThan(whole.vocabularySize);
    for (const text of texts.slice(0, 4))
      expect([...cut.encode(text).ids].map((id) => kept?.[id])).toEqual([...whole.encode(text).ids]);
    const encoder = await Encoder.load(out);
    const after = await encoder.encode(texts.slice(0, 4));
    const before = (await embeddings(source)).slice(0, after.length);
    expect(Math.min(...cosines(before, after, 64))).toBeGreaterThan(1 - 1e-6);
    await encoder.dispose();
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
    expect(config.vocab_size).toBe(kept?.length);
    expect(readFileSync(join(out, 'vocab.txt'), 'utf8').trimEnd().split('\n')).toHaveLength(kept?.length ?? 0);
  });

  test('merges that kept pieces come from stay, with what they merge, and others go', () => {
    const vocab = Object.fromEntries(['<s>', '<pad>', 'a', 'b', 'c', 'ab', 'bc', 'abc', 'ca'].map((p, i) => [p, i]));
    const json: TokenizerJson = {
      added_tokens: [
        { id: 0, content: '<s>' },
        { id: 1, content: '<pad>' },
      ],
      post_processor: { type: 'RobertaProcessing', sep: ['<s>', 0], cls: ['<s>', 0] },
      model: { type: 'BPE', vocab, merges: ['a b', ['b', 'c'], 'c a', 'ab c', ['a', 'bc']] },
    };
    const { tokenizer, kept } = cutVocabulary(json, new Set([7]), 0, 1);
    expect([...kept]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(tokenizer.model.merges).toEqual(['a b', ['b', 'c'], 'ab c', ['a', 'bc']]);
  });

  test('Unigram pieces keep their scores, and ids everywhere are the new ones', () => {
    const json: TokenizerJson = {
      added_tokens: [
        { id: 0, content: '<s>' },
        { id: 4, content: '<mask>' },
      ],
      padding: { pad_id: 0 },
      post_processor: { type: 'TemplateProcessing', special_tokens: { '<mask>': { ids: [4] } } },
      model: {
        type: 'Unigram',
        unk_id: 0,
        vocab: [
          ['<s>', 0],
          ['▁ab', -1],
          ['▁cd', -2],
          ['e', -3],
          ['<mask>', 0],
        ],
      },
    };
    const { tokenizer, kept } = cutVocabulary(json, new Set([2]), 0, 0);
    expect([...kept]).toEqual([0, 2, 3, 4]);
    expect(tokenizer.model.vocab).toEqual([
      ['<s>', 0],
      ['▁cd', -2],
      ['e', -3],
      ['<mask>', 0],
    ]);
    expect(tokenizer.post_processor?.special_tokens?.['<mask>'].ids).toEqual([3]);
  });

  test('a family that is not known is refused by name', () => {
    expect(() => cutVocabulary({ model: { type: 'WordLevel', vocab: {} } }, new Set(), 0, 0)).toThrow(/WordLevel/);
  });
});

describe.skipIf(!shared)('families of the zoo', () => {
  const zoo = join(shared ?? '', 'zoo');
  test.each(['bert-script', 'bert-dynamo', 'distilbert-dynamo', 'mpnet-script'])('%s in every dtype', async (name) => {
    const graph = await loadGraph(join(zoo, name, 'model.onnx'));
    const { inputs } = JSON.parse(readFileSync(join(zoo, name, 'case.json'), 'utf8'));
    const rows: number[][] = inputs.input_ids;
    const feeds = Object.fromEntries(
      graph.inputs.map((v) => [
        v.name,
        tensor('int64', [rows.length, rows[0].length], (inputs[v.name] as number[][]).flat()),
      ]),
    );
    let first: Float32Array | undefined;
    for (const [dtype, least] of [
      ['fp32', 0.99999],
      ['fp16', 0.999],
      ['int8', 0.98],
      ['q4', 0.9],
    ] as const) {
      const session = await Session.load(await compact(graph, { dtype, head: plain, width: 32 }));
      const { sentence_embedding: e } = await session.run(feeds);
      first ??= e.data as Float32Array;
      expect(Math.min(...cosines(first, e.data as Float32Array, 32)), `${name} ${dtype}`).toBeGreaterThan(least);
      await session.release();
    }
    const named = huggingFaceWeights(graph, name.split('-')[0]);
    if (!('weights' in named)) throw new Error(named.problem);
    const matrices = [...named.weights].filter(([, t]) => t.dims.length === 2 && t.dims.includes(64));
    expect(matrices.map(([, t]) => t.dims)).toContainEqual([64, 32]);
  });
});

test('a transposed matrix has its element at the mirrored place', () => {
  expect([...transposed({ dtype: 'float32', dims: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }).data]).toEqual([
    1, 4, 2, 5, 3, 6,
  ]);
});
