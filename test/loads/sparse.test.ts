/** @file Python's SparseEncoder gives the weights of a sparse student's folder. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openSparseFolder } from '../../models/sparse/sparse-folder.ts';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld } from '../pipelines/world.ts';
import { pythonWith, runPython } from '../python.ts';
import { largestDifference } from './tools.ts';

const python = pythonWith('sentence_transformers.sparse_encoder');
const script = `from sentence_transformers import SparseEncoder
model = SparseEncoder(folder, device='cpu')
dense = lambda v: v.to_dense().tolist()
print(json.dumps([dense(model.encode_query(texts)), dense(model.encode_document(texts))]))`;
const texts = ['red lamp from the kitchen', '', 'A "blue" piano: 東京?', 'red red [SEP] chairs', 'office, '.repeat(30)];

test.skipIf(!python)('SparseEncoder weighs queries and documents as we do', { timeout: 120_000 }, async () => {
  const world = await makeWorld();
  const { checkpoint } = await distill({
    output: join(world.folder, 'sparse'),
    cache: join(world.folder, 'cache'),
    data: { path: world.data },
    teacher: { kind: 'cross-encoder', model: world.crossEncoder },
    student: { sparse: { columns: 128 }, model: world.dualEncoder, queryTokens: 40, documentTokens: 40 },
    candidates: { source: 'bm25', count: 4 },
    train: { steps: 2, batchSize: 8, candidates: 2, evaluateEvery: null, threads: 1, provider: 'cpu' },
    evaluate: { teacher: false },
  });
  writeFileSync(join(world.folder, 'texts.json'), JSON.stringify(texts));
  const found = runPython(python as string, checkpoint, join(world.folder, 'texts.json'), script) as number[][][];
  const { encoder, queryTokens, documentTokens } = await openSparseFolder(checkpoint);
  const V = encoder.vocabulary;
  const own = [new Float32Array(texts.length * V), new Float32Array(texts.length * V)];
  for (const [i, text] of texts.entries()) {
    const { ids, weights } = encoder.query(text, queryTokens);
    ids.forEach((t, k) => {
      own[0][i * V + t] = weights[k];
    });
  }
  const table = { length: texts.length, text: (i: number) => texts[i] };
  const { offsets, ids, weights } = await encoder.documents(table, { maxLength: documentTokens });
  for (let i = 0; i < texts.length; i++)
    for (let k = offsets[i]; k < offsets[i + 1]; k++) own[1][i * V + ids[k]] = weights[k];
  for (const [side, ours] of own.entries()) {
    expect(ours.some((w) => w > 0)).toBe(true);
    expect(largestDifference(found[side].flat(), ours)).toBeLessThan(1e-4);
  }
  await encoder.dispose();
});
