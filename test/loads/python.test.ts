/** Python's sentence-transformers, onnxruntime and tokenizers, from a folder alone. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { pythonWith, runPython } from '../python.ts';
import {
  cosines,
  DIMENSIONS,
  type Exported,
  exportEverything,
  largestDifference,
  MAX_LENGTH,
  prefixes,
  texts,
} from './tools.ts';

const plain = pythonWith('onnx', 'onnxruntime', 'tokenizers');
const sentence = pythonWith('sentence_transformers');
const optimum = pythonWith('sentence_transformers', 'optimum.onnxruntime');

let made: Exported;
beforeAll(async () => {
  if (!plain && !sentence) return;
  made = await exportEverything();
  writeFileSync(join(made.root, 'texts.json'), JSON.stringify(texts));
});

/** Runs a script that prints JSON last; `folder` and `texts` are set. */
const run = (python: string, folder: string, script: string): unknown =>
  runPython(python, folder, join(made.root, 'texts.json'), script);

const flat = (rows: unknown): number[] => (rows as number[][]).flat();
const files = ['model', 'model_fp16', 'model_quantized', 'model_int8', 'model_q4'];
const least: Record<string, number> = { model_fp16: 0.9999, model_quantized: 0.99, model_int8: 0.99, model_q4: 0.93 };

describe.skipIf(!plain)('onnxruntime and tokenizers', () => {
  test.each(files)('%s: one call from token ids to sentence_embedding; the checker finds nothing', (name) => {
    for (const [folder, width] of [
      [made.whole, made.width],
      [made.cut, DIMENSIONS],
    ] as const) {
      const rows = run(
        plain as string,
        folder,
        `import onnx, onnxruntime, numpy, tokenizers
file = f'{folder}/onnx/${name}.onnx'
model = onnx.load(file); onnx.checker.check_model(model, full_check=True)
assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == ['batch_size', 'sequence_length']
tokenizer = tokenizers.Tokenizer.from_file(f'{folder}/tokenizer.json')
tokenizer.enable_padding(pad_id=tokenizer.token_to_id('[PAD]'))
found = tokenizer.encode_batch(texts)
feed = {'input_ids': [e.ids for e in found], 'attention_mask': [e.attention_mask for e in found], 'token_type_ids': [e.type_ids for e in found]}
session = onnxruntime.InferenceSession(file)
[vectors] = session.run(['sentence_embedding'], {k: numpy.array(v, numpy.int64) for k, v in feed.items()})
print(json.dumps(vectors.tolist()))`,
      );
      const expected = prefixes(made.embeddings, made.width, width);
      if (name === 'model') expect(largestDifference(flat(rows), expected)).toBeLessThan(1e-4);
      else {
        const bound = width === DIMENSIONS ? 2 * least[name] - 1 : least[name];
        expect(Math.min(...cosines(flat(rows), expected, width))).toBeGreaterThan(bound);
      }
    }
  });

  test('the tokenizer alone gives our tokens, cut at the same length', async () => {
    const ids = run(
      plain as string,
      made.whole,
      `import tokenizers
tokenizer = tokenizers.Tokenizer.from_file(f'{folder}/tokenizer.json'); tokenizer.no_padding()
print(json.dumps([tokenizer.encode(t).ids for t in texts]))`,
    );
    const tokenizer = await TextTokenizer.load(made.whole);
    expect(ids).toEqual(texts.map((t) => [...tokenizer.encode(t, MAX_LENGTH).ids]));
  });
});

describe.skipIf(!sentence)('sentence-transformers', () => {
  test('from model.safetensors, to 1e-5', { timeout: 300_000 }, () => {
    const rows = run(
      sentence as string,
      made.whole,
      `from sentence_transformers import SentenceTransformer
print(json.dumps(SentenceTransformer(folder, device='cpu').encode(texts).tolist()))`,
    );
    expect(largestDifference(flat(rows), made.embeddings)).toBeLessThan(1e-5);
  });

  test.skipIf(!optimum)('backend onnx', { timeout: 300_000 }, () => {
    const rows = run(
      optimum as string,
      made.root,
      `from sentence_transformers import SentenceTransformer
kwargs = {'file_name': 'model.onnx', 'provider': 'CPUExecutionProvider'}
load = lambda name: SentenceTransformer(f'{folder}/{name}', backend='onnx', device='cpu', model_kwargs=kwargs)
print(json.dumps([load(name).encode(texts).tolist() for name in ('whole', 'cut')]))`,
    ) as number[][][];
    expect(largestDifference(flat(rows[0]), made.embeddings)).toBeLessThan(1e-4);
    expect(largestDifference(flat(rows[1]), prefixes(made.embeddings, made.width, DIMENSIONS))).toBeLessThan(1e-4);
  });
});
