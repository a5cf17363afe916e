/** @file JSON files of a model folder that hold something else than an object are refused, not taken for empty ones. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';

const dir = mkdtempSync(join(tmpdir(), 'json-files-'));
const model = join(dir, 'model');
beforeAll(() =>
  freshModel(
    model,
    { length: 3, text: (i) => `open file ${i}` },
    { hidden: 16, layers: 1, heads: 2, vocabulary: 50, maxLength: 16 },
  ),
);
afterAll(() => rmSync(dir, { recursive: true }));

const changed = (name: string, content: string): string => {
  const folder = join(dir, 'changed');
  rmSync(folder, { recursive: true, force: true });
  cpSync(model, folder, { recursive: true });
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return folder;
};

test.each(
  [
    'config.json',
    'sentence_bert_config.json',
    'config_sentence_transformers.json',
    'tokenizer_config.json',
    '1_Pooling/config.json',
  ].flatMap((name) => [
    [name, 'null', 'null'],
    [name, '[]', 'a list'],
    [name, '"mean"', 'a string'],
    [name, '3', 'a number'],
  ]),
)('%s that holds %s', async (name, content, found) => {
  const folder = changed(name, content);
  await expect(Encoder.load(folder)).rejects.toThrow(
    new RegExp(`${name.replaceAll('.', '\\.')}.*(holds ${found}|not a JSON object|object)`),
  );
});

const modules = JSON.stringify([
  { idx: 0, name: '0', path: '', type: 'sentence_transformers.models.Transformer' },
  { idx: 1, name: '1', path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
]);

test('a Pooling without its config.json', async () => {
  await expect(Encoder.load(changed('modules.json', modules))).rejects.toThrow(
    "its Pooling has no config.json in '1_Pooling', which says how tokens become a vector",
  );
});
