/** Both generations of transformers.js in Node, from a folder alone. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import * as current from '@huggingface/transformers';
import { beforeAll, describe, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
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

let made: Exported;
let tokenizer: TextTokenizer;
beforeAll(async () => {
  made = await exportEverything();
  tokenizer = await TextTokenizer.load(made.whole);
  writeFileSync(join(made.root, 'texts.json'), JSON.stringify(texts));
  Object.assign(current.env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: made.root });
});

const least: Record<string, number> = { fp16: 0.9999, q8: 0.99, int8: 0.99, q4: 0.93 };

function compare(vectors: ArrayLike<number>, folder: 'whole' | 'cut', dtype: string): void {
  const width = folder === 'cut' ? DIMENSIONS : made.width;
  const expected = prefixes(made.embeddings, made.width, width);
  if (dtype === 'fp32') expect(largestDifference(vectors, expected)).toBeLessThan(1e-4);
  else {
    // Fewer dimensions average the same rounding over less.
    const bound = folder === 'cut' ? 2 * least[dtype] - 1 : least[dtype];
    expect(Math.min(...cosines(vectors, expected, width)), `${folder} ${dtype}`).toBeGreaterThan(bound);
  }
}

/** Ids of a loader that cuts ids off: all are ours but the last of the text that is cut, which the graph puts back. */
function compareTokens(ids: readonly number[][]): void {
  for (const [i, text] of texts.entries()) {
    const ours = [...tokenizer.encode(text, MAX_LENGTH).ids];
    if (ours.length < MAX_LENGTH) expect(ids[i], text).toEqual(ours);
    else {
      expect(ids[i]).toHaveLength(MAX_LENGTH);
      expect(ids[i].slice(0, -1)).toEqual(ours.slice(0, -1));
    }
  }
}

describe('@huggingface/transformers', () => {
  test.each(['fp32', 'fp16', 'q8', 'int8', 'q4'] as const)('%s: every text, whole and cut', async (dtype) => {
    for (const folder of ['whole', 'cut'] as const) {
      const extract = await current.pipeline('feature-extraction', folder, { dtype });
      const { data } = await extract([...texts], { pooling: 'mean', normalize: true });
      compare(data as Float32Array, folder, dtype);
    }
  });

  test('its tokens are ours', async () => {
    const theirs = await current.AutoTokenizer.from_pretrained('whole');
    const ids = texts.map((t) => Array.from(theirs(t, { truncation: true }).input_ids.data as BigInt64Array, Number));
    compareTokens(ids);
  });
});

/**
 * A folder whose node_modules hold @xenova/transformers with the onnxruntime-node it was made for: $XENOVA, or this one.
 * Its tensors are not understood by onnxruntime-node from 1.17 on.
 */
const home = resolve(process.env.XENOVA ?? '.');
const runtime = ((): string | undefined => {
  try {
    const from = createRequire(createRequire(join(home, 'x.js')).resolve('@xenova/transformers'));
    return from('onnxruntime-node/package.json').version;
  } catch {
    return undefined;
  }
})();
const fits = runtime !== undefined && Number(runtime.split('.')[1]) < 17;
if (!fits)
  console.log(
    `skipped where @xenova/transformers has onnxruntime-node ${runtime ?? '(none)'} in place of 1.14.0: set XENOVA to a folder where it was installed alone`,
  );

describe.skipIf(!fits)('@xenova/transformers 2', () => {
  /** In a process of its own: two ONNX Runtimes do not share one. */
  const run = (): { vectors: Record<string, number[]>; ids: number[][] } => {
    const script = `
import { readFileSync } from 'node:fs';
import { AutoTokenizer, env, pipeline } from '@xenova/transformers';
const [root] = process.argv.slice(1);
Object.assign(env, { allowRemoteModels: false, localModelPath: root });
const texts = JSON.parse(readFileSync(root + '/texts.json', 'utf8'));
const vectors = {};
for (const folder of ['whole', 'cut'])
  for (const quantized of [false, true]) {
    const extract = await pipeline('feature-extraction', folder, { quantized });
    const { data } = await extract(texts, { pooling: 'mean', normalize: true });
    vectors[folder + ' ' + (quantized ? 'q8' : 'fp32')] = [...data];
  }
const tokenizer = await AutoTokenizer.from_pretrained('whole');
const ids = texts.map((t) => Array.from(tokenizer(t, { truncation: true }).input_ids.data, Number));
console.log(JSON.stringify({ vectors, ids }));
process.exit(0);`;
    const out = execFileSync(process.execPath, ['--input-type=module', '-e', script, made.root], {
      cwd: home,
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1 << 26,
    });
    return JSON.parse(out.toString().trim().split('\n').at(-1) as string);
  };

  test('fp32 and quantized: every text, whole and cut; its tokens are ours', () => {
    const { vectors, ids } = run();
    for (const folder of ['whole', 'cut'] as const)
      for (const dtype of ['fp32', 'q8']) compare(vectors[`${folder} ${dtype}`], folder, dtype);
    compareTokens(ids);
  });
});
