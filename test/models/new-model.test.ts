import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AutoTokenizer as HuggingFaceTokenizer } from '@huggingface/transformers';
import { env, AutoTokenizer as XenovaTokenizer } from '@xenova/transformers';
import { beforeAll, describe, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { keepLayers } from '../../engine/passes/layers.ts';
import { trainableConstants } from '../../engine/passes/trainable-parameters.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { checkModel } from '../../models/trainability.ts';
import { specialTokens, trainWordPiece } from '../../models/wordpiece.ts';

const listOf = (texts: string[]) => ({ length: texts.length, text: (i: number) => texts[i] });
const corpus = [
  'Hugging the hugs of a pug, hug after hug',
  'pugs hugged: the bun and the puns',
  'Café au lait, naïve résumé; 東京 tower, 2 kg',
  'the bunny hugs the tower',
];
const size = { hidden: 32, layers: 3, heads: 4, intermediate: 48, maxLength: 40, vocabulary: 90, seed: 3 };
const folder = join(mkdtempSync(join(tmpdir(), 'fresh-')), 'model');
beforeAll(() => freshModel(folder, listOf(corpus), size));

describe('the vocabulary', () => {
  test('special tokens, characters by frequency, then merges by frequency', () => {
    const vocabulary = trainWordPiece(listOf(['hug hug hug hug', 'pug pug', 'hugs']), { size: 14 });
    // ##u 7, ##g 7, h 5, p 2, ##s 1; "##u ##g" 7, "h ##ug" 5, "p ##ug" 2; "hug ##s" comes once, less than twice.
    expect(vocabulary).toEqual([...specialTokens, '##g', '##u', 'h', 'p', '##s', '##ug', 'hug', 'pug']);
  });

  test('it is no larger than requested and the same for the same texts', () => {
    const once = trainWordPiece(listOf(corpus), { size: 50 });
    expect(once).toHaveLength(50);
    expect(new Set(once).size).toBe(50);
    expect(trainWordPiece(listOf(corpus), { size: 50 })).toEqual(once);
  });

  test('what is read is bounded', () => {
    const words = Array.from({ length: 4000 }, (_, i) => (i * 7919).toString(36));
    let read = 0;
    const texts = {
      length: 1000,
      text: (i: number) => {
        read++;
        return words.slice((i * 4) % 3900, ((i * 4) % 3900) + 100).join(' ');
      },
    };
    expect(trainWordPiece(texts, { size: 1000, maxCharacters: 50_000 })).toHaveLength(1000);
    expect(read).toBeLessThan(200);
  });
});

test('its tokenizer reads the same in @huggingface/transformers, @xenova/transformers and here', async () => {
  env.allowRemoteModels = false;
  env.localModelPath = '';
  const [ours, huggingFace, xenova] = [
    await TextTokenizer.load(folder),
    await HuggingFaceTokenizer.from_pretrained(folder),
    await XenovaTokenizer.from_pretrained(folder),
  ];
  for (const text of [...corpus, 'an unseen wörd: xylophone 🙂', 'HUGS']) {
    const ids = [...ours.encode(text).ids];
    expect(huggingFace.encode(text)).toEqual(ids);
    expect(xenova.encode(text)).toEqual(ids);
  }
  const pair = ours.encodePair('hug', 'the pug');
  expect([...pair.ids]).toEqual(huggingFace.encode('hug', { text_pair: 'the pug' }));
  expect([...pair.typeIds]).toEqual([0, 0, 0, ...Array(pair.ids.length - 3).fill(1)]);
});

test("weights have the names of Hugging Face's BertModel and the shapes of torch.nn.Linear", async () => {
  const graph = await loadGraph(join(folder, 'onnx/model.onnx'));
  const weights = new Map(trainableConstants(graph).map((v) => [v.name, v.dims]));
  expect(weights.get('encoder.layer.2.intermediate.dense.weight')).toEqual([48, 32]);
  expect(weights.get('embeddings.position_embeddings.weight')).toEqual([40, 32]);
  // 3 tables and a norm of 2, 16 a layer.
  expect(weights.size).toBe(5 + 16 * 3);
  expect(keepLayers(graph, [0, 2]).outputs[0].dims).toEqual(['batch', 'sequence', 32]);
});

test('it can be trained, encodes, and padding changes nothing', async () => {
  expect(await checkModel(folder)).toMatchObject({ trainable: true, layers: 3 });
  const encoder = await Encoder.load(folder, { batchTokens: 4096 });
  const together = await encoder.encode(['hug', 'the bunny hugs the tower and the pug']);
  const alone = await encoder.encode(['hug']);
  for (let k = 0; k < 32; k++) expect(together[k]).toBeCloseTo(alone[k], 5);
  await encoder.dispose();
});

test('the same options give the same bytes', async () => {
  const again = `${folder}-again`;
  await freshModel(again, listOf(corpus), size);
  for (const file of ['onnx/model.onnx', 'tokenizer.json', 'config.json'])
    expect(readFileSync(join(again, file)).equals(readFileSync(join(folder, file)))).toBe(true);
  await expect(freshModel(again, listOf(corpus), { ...size, heads: 5 })).rejects.toThrow(
    'a width of 32 cannot be shared among 5 heads; choose a width that is a multiple of the heads',
  );
});
