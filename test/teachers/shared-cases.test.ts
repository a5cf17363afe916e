/** @file Re-rankers as people have them, from ../shared/cases: each scores as ONNX Runtime and Hugging Face's tokenizers do. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';
import type { Pair } from '../../teachers/teacher.ts';
import { shared } from '../shared.ts';

const cases = join(shared ?? '', 'cases');
const dir = mkdtempSync(join(tmpdir(), 'cases-'));
afterAll(() => rmSync(dir, { recursive: true }));
let pairs: Pair[] = [];
beforeAll(() => {
  if (!shared) return;
  const texts = JSON.parse(readFileSync(join(cases, 'pairs.json'), 'utf8')) as [string, string][];
  pairs = texts.map(([query, document], i) => ({ query, document, queryId: `q${i}`, documentId: `d${i}` }));
});

/** Scores of ../pairs.json by Python's onnxruntime, a pair at a time, with Hugging Face's tokenizers. */
const right: Record<string, number[]> = {
  'deberta-if/teacher': [0.06143269, 0.10055865, 0.06242634, 0.05823205],
  'teachers-that-onnx-runtime-runs/function': [-0.044285, -0.019416, -0.014574, -0.01931],
  'teachers-that-onnx-runtime-runs/int4': [-0.059783, -0.033094, -0.020827, -0.038947],
  'cross-encoder-inputs/pos': [0.334628, 0.334473, 0.344622, 0.343379],
  'cross-encoder-inputs/int32': [0.334628, 0.334474, 0.344622, 0.343379],
  'cross-encoder-inputs/fixed': [0.337545, 0.334474, 0.342557, 0.341939],
  'no-attention-mask/teacher': [0.3316048, 0.3325965, 0.3400615, 0.3406146],
  'two-labels-order/teacher': [2.068814, 2.077606, 2.056748, 2.068914],
  'roberta-positions/cross': [0.249133, 0.274682, 0.281192, 0.227792],
  'roberta-token-types/types1': [0.24913299, 0.2746817, 0.2811924, 0.22779223],
  'roberta-token-types/types2': [0.08834875, 0.09153521, 0.10701855, 0.10208946],
  'fp16-logits/teacher': [4.592917, -2.999917, 2.825985, -1.591111],
  'fp16-logits/teacher16': [4.59375, -3.001953, 2.824219, -1.586914],
  'over-2-gib/base': [0.334628, 0.334474, 0.344622, 0.343379],
};
/** The half floats of that model, in another order of sums. */
const tolerance = (name: string): number => (name.endsWith('teacher16') ? 4e-3 : 1e-5);

describe.skipIf(!shared)('cases', () => {
  test.for(Object.keys(right))('%s', async (name, { skip }) => {
    const tokenizer = await TextTokenizer.load(join(cases, name));
    if (name.startsWith('roberta-token-types') && tokenizer.encodePair('a', 'b').typeIds.some(Boolean))
      return skip("the tokenizer does not give RoBERTa's segments");
    const teacher = await crossEncoder(join(cases, name));
    const together = await teacher.score(pairs);
    for (const [i, score] of together.entries()) expect(Math.abs(score - right[name][i])).toBeLessThan(tolerance(name));
    const alone = await Promise.all(pairs.map(async (p) => (await teacher.score([p]))[0]));
    for (const [i, score] of alone.entries()) expect(Math.abs(score - together[i])).toBeLessThan(tolerance(name));
    await teacher.dispose();
  });

  /** A cache as huggingface_hub leaves it: files of a snapshot are links to blobs. */
  function hubCache(blobs: string): string {
    const from = join(cases, 'hf-cache-external-data/hub/models--org--tiny-ce/snapshots', 'a'.repeat(40));
    const snapshot = join(dir, blobs, 'models--org--tiny-ce/snapshots/revision');
    cpSync(from, snapshot, { recursive: true, mode: 0 });
    const store = blobs === 'hub' ? join(dir, blobs, 'models--org--tiny-ce/blobs') : join(dir, 'elsewhere');
    mkdirSync(store, { recursive: true });
    for (const file of ['model.onnx', 'model.onnx_data']) {
      const link = join(snapshot, 'onnx', file);
      cpSync(link, join(store, file));
      rmSync(link, { force: true });
      symlinkSync(relative(join(snapshot, 'onnx'), join(store, file)), link);
    }
    return snapshot;
  }

  test("links of Hugging Face's cache are followed within the cache, by teachers and students, and not out of it", async () => {
    const inside = hubCache('hub');
    const teacher = await crossEncoder(inside);
    const found = await teacher.score(pairs);
    for (const [i, score] of found.entries())
      expect(Math.abs(score - [0.334628, 0.334474, 0.344622, 0.343379][i])).toBeLessThan(1e-5);
    await teacher.dispose();
    expect((await loadGraph(join(inside, 'onnx/model.onnx'))).outputs[0].name).toBe('logits');
    const outside = hubCache('other');
    const model = join(outside, 'onnx/model.onnx');
    for (const open of [() => crossEncoder(outside), () => crossEncoderKey(outside), () => loadGraph(model)])
      await expect(open()).rejects.toThrow(
        "keeps weights in 'model.onnx_data', which leads outside its folder; use a model whose data is in the folder of the model",
      );
  });
});
