/** @file A student as a run saves it, in sentence-transformers from its folder alone. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld } from '../pipelines/world.ts';
import { pythonWith, runPython } from '../python.ts';
import { largestDifference, texts } from './tools.ts';

const python = pythonWith('sentence_transformers', 'optimum.onnxruntime');

const script = `from sentence_transformers import SentenceTransformer
kwargs = {'provider': 'CPUExecutionProvider'}
load = lambda name: SentenceTransformer(f'{folder}/{name}/checkpoint', backend='onnx', device='cpu', model_kwargs=kwargs)
names = ['both', 'cls', 'inherit']
print(json.dumps([[vector for text in texts for vector in load(name).encode([text]).tolist()] + load(name).encode(texts).tolist() for name in names]))`;

test.skipIf(!python)(
  'two steps of training: the same embeddings, alone and in a batch',
  { timeout: 300_000 },
  async () => {
    const world = await makeWorld();
    const frozen = { pipeline: 'inherit-documents', embedder: { model: world.dualEncoder } } as const;
    const students: [string, Partial<ConfigInput>][] = [
      ['both', { student: { model: world.student, queryTokens: 24, documentTokens: 40 } }],
      ['cls', { student: { model: world.student, pooling: 'cls', normalize: false } }],
      // Behind its token vectors stands the projection into the documents' space.
      ['inherit', { ...frozen, student: { model: world.student } }],
    ];
    const ours: Float32Array[] = [];
    for (const [name, more] of students) {
      const report = await distill({
        output: join(world.folder, name),
        cache: join(world.folder, 'cache'),
        data: { path: world.data },
        teacher: { kind: 'cross-encoder', model: world.crossEncoder },
        student: { model: world.student },
        candidates: { count: 4 },
        train: {
          steps: 2,
          batchSize: 8,
          candidates: 4,
          learningRate: 1e-2,
          warmupSteps: 1,
          threads: 1,
          provider: 'cpu',
        },
        evaluate: { teacher: false, before: false, bm25: false },
        ...more,
      });
      const encoder = await Encoder.load(report.checkpoint);
      const vectors = await encoder.encode(texts);
      await encoder.dispose();
      ours.push(Float32Array.from([...vectors, ...vectors]));
    }
    writeFileSync(join(world.folder, 'texts.json'), JSON.stringify(texts));
    const rows = runPython(python as string, world.folder, join(world.folder, 'texts.json'), script) as number[][][];
    for (const [i, [name]] of students.entries())
      expect(largestDifference(rows[i].flat(), ours[i]), name).toBeLessThan(1e-4);
  },
);
