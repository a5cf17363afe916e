/** @file multi-vector.json is read whole or refused in a sentence; the Dense of token vectors leaves the text's own vector alone. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { encodeSafetensors } from '../../../engine/io/safetensors.ts';
import { readHead } from '../../../models/modules/read-modules.ts';
import { isLateFolder, lateFiles, pylateFiles, readLateFolder } from '../../../students/late/late-folder.ts';
import { LATE } from '../../../students/late/late-model.ts';

let folder: string;
const settings = { scorer: 'max-sim' as const, dimensions: 2, queryTokens: 8, documentTokens: 16 };
const reads = { query: 8, document: 32 };
const weights = new Map([
  [LATE.projection, { dtype: 'float32' as const, dims: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) }],
  [LATE.residual, { dtype: 'float32' as const, dims: [1], data: Float32Array.of(0.5) }],
]);
const write = (files: ReadonlyMap<string, string | Uint8Array>): void => {
  for (const [name, content] of files) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
};
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'late-'));
  write(lateFiles(settings, reads, weights));
});

test('what is written is read again', async () => {
  expect(isLateFolder(folder)).toBe(true);
  const { model, file } = await readLateFolder(folder);
  expect(file).toEqual({ ...settings, reads });
  // (1, 0, 0) and (0, 1, 0) through the map, at unit length.
  const query = model.query({ dimensions: 3, data: Float32Array.of(1, 0, 0, 0, 1, 0) });
  const [a, b] = [1 / Math.sqrt(5), 2 / Math.sqrt(5)];
  for (const [i, v] of [a, b, 0.6, 0.8].entries()) expect(query.data[i]).toBeCloseTo(v, 6);
  const document = model.document({ dimensions: 3, data: Float32Array.of(0, 1, 0) });
  expect(model.score(query, document, 0.2)).toBeCloseTo((a * 0.6 + b * 0.8 + 1) / 2 + 0.5 * 0.2, 6);
});

test.each([
  ['{', 'it is not JSON'],
  ['null', 'its format is undefined, expected onnx-distill-multi-vector-1'],
  ['{"format":"onnx-distill-multi-vector-2"}', 'its format is "onnx-distill-multi-vector-2"'],
  [
    JSON.stringify({ format: 'onnx-distill-multi-vector-1', ...settings, reads, scorer: 'colbert' }),
    'scorer: Invalid option',
  ],
  [JSON.stringify({ format: 'onnx-distill-multi-vector-1', ...settings, reads, more: 1 }), 'Unrecognized key: "more"'],
  [
    JSON.stringify({ format: 'onnx-distill-multi-vector-1', ...settings, dimensions: 4, reads }),
    "'projection' in multi-vector.safetensors has the shape [3,2] of float32",
  ],
  [
    JSON.stringify({ format: 'onnx-distill-multi-vector-1', ...settings, reads, scorer: 'kernel-pooling' }),
    "multi-vector.safetensors has no 'scorer.kernels'",
  ],
])('%s is refused', async (text, why) => {
  writeFileSync(join(folder, 'multi-vector.json'), text);
  await expect(readLateFolder(folder)).rejects.toThrow(why);
});

test('a Dense of token vectors behind the pooling changes no vector of a text; before it, it is refused', async () => {
  const type = (name: string) => `sentence_transformers.models.${name}`;
  const modules = [
    { idx: 0, name: '0', path: '', type: type('Transformer') },
    { idx: 1, name: '1', path: '1_Pooling', type: type('Pooling') },
    { idx: 2, name: '2', path: '2_Normalize', type: type('Normalize') },
  ];
  write(new Map([['1_Pooling/config.json', '{"pooling_mode_mean_tokens":true}']]));
  const files = pylateFiles(
    { modules: JSON.stringify(modules), config: '{"similarity_fn_name":"cosine"}' },
    reads,
    weights,
  );
  write(files);
  expect(await readHead(folder)).toEqual({ pooling: ['mean'], includePrompt: true, modules: [{ kind: 'normalize' }] });
  const config = JSON.parse(files.get('config_sentence_transformers.json') as string);
  expect(config).toMatchObject({
    similarity_fn_name: 'cosine',
    query_length: 8,
    document_length: 32,
    query_prefix: '',
    do_query_expansion: false,
  });
  // PyLate's own form of the Dense has no names of inputs.
  expect(JSON.parse(files.get('pylate/1_Dense/config.json') as string)).not.toHaveProperty('module_input_name');
  expect(JSON.parse(files.get('pylate/modules.json') as string).map((m: { path: string }) => m.path)).toEqual([
    '..',
    '1_Dense',
  ]);
  const listed = JSON.parse(files.get('modules.json') as string);
  write(new Map([['modules.json', JSON.stringify([listed[0], listed[3], listed[1]])]]));
  await expect(readHead(folder)).rejects.toThrow(/before any Pooling/);
});

test('queries with a projection of their own have no layout of one Dense', () => {
  const own = new Map([...weights, [LATE.queryProjection, weights.get(LATE.projection) as never]]);
  expect(pylateFiles({ modules: '[]', config: '{}' }, reads, own).size).toBe(0);
  expect(encodeSafetensors(own).length).toBeGreaterThan(0);
});
