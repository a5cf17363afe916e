/** @file Python's PyLate and sentence-transformers give the token vectors and MaxSim of a re-ranker's folder. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { distill } from '../../pipelines/distill.ts';
import { openLateEncoder } from '../../serving/multi-vector/late-encoder.ts';
import { openReranker } from '../../serving/reranker.ts';
import { makeWorld } from '../pipelines/world.ts';
import { pythonWith, runPython } from '../python.ts';

/** Each prints token vectors of queries and documents, and MaxSim of all pairs. */
const scripts = {
  pylate: `import torch
from pylate import models, scores
model = models.ColBERT(f'{folder}/pylate', device='cpu')
q = model.encode(texts['queries'], is_query=True, convert_to_tensor=True)
d = model.encode(texts['documents'], is_query=False, convert_to_tensor=True)
pad = lambda v: torch.nn.utils.rnn.pad_sequence(v, batch_first=True)
of = torch.nn.utils.rnn.pad_sequence([torch.ones(len(v)) for v in d], batch_first=True)
s = scores.colbert_scores(pad(q), pad(d), documents_mask=of)
print(json.dumps([[v.tolist() for v in q], [v.tolist() for v in d], s.tolist()]))`,
  sentence_transformers: `from sentence_transformers import MultiVectorEncoder
model = MultiVectorEncoder(folder, device='cpu')
q = model.encode_query(texts['queries'])
d = model.encode_document(texts['documents'])
print(json.dumps([[v.tolist() for v in q], [v.tolist() for v in d], model.similarity(q, d).tolist()]))`,
};

const texts = {
  queries: ['red lamp from the kitchen', 'A "blue" piano, or a guitar?', 'tent'],
  documents: [
    'This lamp is red. It stands in the kitchen since last year and is still in good order.',
    'green',
    `a long text ${'of chairs, '.repeat(30)}`,
    '(yellow) camera; the office!',
  ],
};
type Found = [queries: number[][][], documents: number[][][], scores: number[][]];

for (const [module, script] of Object.entries(scripts)) {
  const python = pythonWith(...(module === 'pylate' ? [module] : [module, `${module}.multi_vector_encoder`]));
  test.skipIf(!python)(`${module} computes our token vectors and their MaxSim`, { timeout: 120_000 }, async () => {
    const world = await makeWorld();
    const { checkpoint } = await distill({
      pipeline: 'late-interaction',
      output: join(world.folder, 'late'),
      cache: join(world.folder, 'cache'),
      data: { path: world.data },
      embedder: { model: world.dualEncoder },
      teacher: { kind: 'cross-encoder', model: world.crossEncoder },
      student: {
        multiVector: { dimensions: 16, tokens: 40, queryTokens: 12, residual: false },
        queryTokens: 12,
        documentTokens: 40,
      },
      candidates: { source: 'bm25', count: 4 },
      train: { steps: 2, batchSize: 8, candidates: 4, evaluateEvery: null, threads: 1 },
      evaluate: { teacher: false, bm25: false, depth: 5 },
    });
    writeFileSync(join(world.folder, 'texts.json'), JSON.stringify(texts));
    const [queries, documents, scores] = runPython(
      python as string,
      checkpoint,
      join(world.folder, 'texts.json'),
      script,
    ) as Found;
    const encoder = await openLateEncoder(checkpoint, {});
    const own = (await encoder.queries(texts.queries)).map((q) => q.tokens);
    const read: { dimensions: number; data: ArrayLike<number> }[] = [];
    await encoder.documents({ length: 4, text: (i) => texts.documents[i] }, (at, { tokens }) => {
      read[at] = { dimensions: tokens.dimensions, data: Float32Array.from(tokens.data) };
    });
    await encoder.dispose();
    for (const [theirs, ours] of [
      [queries, own],
      [documents, read],
    ] as const)
      for (const [i, { data }] of ours.entries()) {
        const flat = theirs[i].flat();
        expect(flat.length).toBe(data.length);
        expect(flat.reduce((most, v, k) => Math.max(most, Math.abs(v - data[k])), 0)).toBeLessThan(1e-5);
      }
    const reranker = await openReranker(checkpoint);
    for (const [i, query] of texts.queries.entries()) {
      const mean = await reranker.score(query, texts.documents);
      // MaxSim is a sum over the query's tokens there, a mean here.
      scores[i].forEach((s, d) => {
        expect(s / queries[i].length).toBeCloseTo(mean[d], 5);
      });
    }
    await reranker.dispose();
  });
}
