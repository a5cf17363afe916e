/** @file Candidates by cosine and BM25 together, against scores added by hand. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findCandidates } from '../../candidates/find-candidates.ts';
import { hybridHits } from '../../candidates/hybrid-hits.ts';
import { parseConfig } from '../../config/parse.ts';
import { judgedQueries, type Texts, textsAt } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

const config = (more: object = {}) =>
  parseConfig({
    data: { path: world.data, splits: { dev: null } },
    student: { model: world.dualEncoder },
    candidates: { source: 'hybrid', count: 6 },
    ...more,
  });

test('without dev: cosine + 0.1 x BM25 over the mean of the best scores; positives first and never among the others', async () => {
  const data = await openDataset(world.data);
  const queries = judgedQueries(data, 'train').slice(0, 12);
  const lists = await findCandidates(config(), data, 'train', queries, undefined, {});
  const encoder = await Encoder.load(world.dualEncoder, { comparable: true });
  const texts = queries.map((q) => data.queries.text(q));
  const vectors = await encoder.encode(texts, { maxLength: 64 });
  const documents = await encoder.encode(data.documents, { maxLength: 192 });
  const { dimensions } = encoder;
  await encoder.dispose();
  const index = await bm25(data.documents);
  const every = Int32Array.from({ length: data.documents.length }, (_, i) => i);
  const lexical = texts.map((t) => index.scores(t, every));
  const scale = lexical.reduce((sum, l) => sum + Math.max(...l), 0) / queries.length;
  for (const [i, q] of queries.entries()) {
    const own = data.documents.indexOf([...(data.qrels('train').get(data.queries.ids[q]) ?? new Map()).keys()][0]);
    const scores = Array.from(every, (d) => {
      let dot = 0;
      for (let k = 0; k < dimensions; k++) dot += vectors[i * dimensions + k] * documents[d * dimensions + k];
      return dot + (0.1 * lexical[i][d]) / scale;
    });
    const best = Array.from(every)
      .filter((d) => d !== own)
      .sort((a, b) => scores[b] - scores[a] || a - b)
      .slice(0, 5);
    expect([...lists.documents.subarray(lists.offsets[i], lists.offsets[i + 1])]).toEqual([own, ...best]);
  }
});

test('with dev the weight is fitted there: vectors that say nothing lean on BM25', async () => {
  const data = await openDataset(world.data);
  const asked = textsAt(data, judgedQueries(data, 'train').slice(0, 40));
  const random = Random.of(3, 'vectors');
  const noise = (n: number) => Float32Array.from({ length: n * 8 }, () => (random.uniform() - 0.5) / 2);
  const documents = noise(data.documents.length);
  const queries = { texts: asked, vectors: noise(asked.length) };
  const encode = async (texts: Texts) => ({ dimensions: 8, data: noise(texts.length) });
  const found = async (dev: string | null, generated?: string[]) =>
    Array.from((await hybridHits(dev, { ...data, generated }, queries, documents, { encode }, 5, {})).indices);
  const index = await bm25(data.documents);
  const words = Array.from({ length: 40 }, (_, i) => [...index.search(asked.text(i), 5).indices]);
  const shared = (hits: number[]): number => hits.filter((d, i) => words[Math.floor(i / 5)].includes(d)).length;
  expect(shared(await found('dev'))).toBeGreaterThan(1.5 * shared(await found(null)));
  // Generated queries stand for generated ones alone.
  expect(await found('dev', ['dev'])).toEqual(await found(null));
  expect(shared(await found('dev', ['dev', 'train']))).toBeGreaterThan(1.5 * shared(await found(null)));
});

test('a new student has nothing to search with', () => {
  expect(() => config({ student: { fresh: {} } })).toThrow("'candidates.source: hybrid' needs a trained encoder");
});
