/** @file A trained re-ranker in use: evaluate, index, search and re-rank give the ranking that the run measured. */
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { evaluate } from '../../../checkpoints/evaluate.ts';
import { exportCheckpoint } from '../../../checkpoints/export-checkpoint.ts';
import { distill, type RunReport } from '../../../pipelines/distill.ts';
import { cascade } from '../../../search/fit-cascade.ts';
import { indexDocuments } from '../../../search/index-documents.ts';
import { openCascade } from '../../../serving/cascade.ts';
import { openIndex } from '../../../serving/open-index.ts';
import { openReranker } from '../../../serving/reranker.ts';
import type { SearchIndex } from '../../../serving/search-index.ts';
import { makeWorld, type World } from '../../pipelines/world.ts';

let world: World;
let report: RunReport;
const cache = () => join(world.folder, 'cache');
const options = (more: object = {}, output = 'late') => ({
  pipeline: 'late-interaction' as const,
  output: join(world.folder, output),
  cache: cache(),
  data: { path: world.data },
  embedder: { model: world.dualEncoder },
  teacher: { kind: 'cross-encoder' as const, model: world.crossEncoder },
  student: { multiVector: { dimensions: 16, tokens: 24 }, documentTokens: 40 },
  candidates: { source: 'bm25' as const, count: 6 },
  train: {
    steps: 20,
    batchSize: 16,
    candidates: 4,
    learningRate: 1e-2,
    warmupSteps: 2,
    evaluateEvery: null,
    threads: 1,
  },
  evaluate: { teacher: false, depth: 20 },
  ...more,
});
beforeAll(async () => {
  world = await makeWorld();
  report = await distill(options({ losses: [{ kind: 'kl' }, { kind: 'info-nce' }] }));
});
const own = (system: string): number => report.systems.find((s) => s.name === system)?.metrics['ndcg@10'] as number;

describe('a run', () => {
  test('measures the first stage, BM25 and the re-ranker; the weight of the cosine has moved from 1', () => {
    expect(report.systems.map((s) => s.name)).toEqual(['embedder', 'BM25', 'student']);
    const { notes } = JSON.parse(readFileSync(report.report, 'utf8')) as { notes: string[] };
    const weight = Number(/has the weight ([\d.]+)/.exec(notes.join())?.[1]);
    expect(weight).toBeGreaterThan(0);
    expect(weight).not.toBe(1);
    expect(report.training.loss).toBeGreaterThan(0);
  });

  test("the issue's form of the option is understood", async () => {
    const { parseConfig } = await import('../../../config/parse.ts');
    const student = { kind: 'multi-vector', dimensions: 64, tokens: 32 } as never;
    expect(parseConfig(options({ student })).student).toMatchObject({
      kind: 'multiVector',
      multiVector: { dimensions: 64, tokens: 32, queryTokens: 32, scorer: 'max-sim', residual: true },
      model: world.dualEncoder,
    });
  });

  test('refuses what would change nothing, and losses that scores do not have', async () => {
    await expect(distill(options({ hybrid: {} }, 'x'))).rejects.toThrow(
      "'hybrid' is not read by 'pipeline: late-interaction', whose encoders are frozen",
    );
    await expect(distill(options({ losses: [{ kind: 'embedding-matching' }] }, 'y'))).rejects.toThrow(
      "the loss 'embedding-matching' reads 'teacherQueries', and a scorer of late interaction gives scores alone",
    );
    await expect(distill(options({ student: { model: world.student } }, 'z'))).rejects.toThrow(
      "'pipeline: late-interaction' trains a re-ranker over token vectors",
    );
  });
});

test('evaluate measures the re-ranker of the folder as the run did', async () => {
  const found = await evaluate({
    student: report.checkpoint,
    data: world.data,
    cache: cache(),
    depth: 20,
    cost: false,
  });
  const late = found.systems.find((s) => s.name === 'student re-ranking 20 by token vectors');
  expect(late?.metrics['ndcg@10']).toBeCloseTo(own('student'), 3);
  expect(found.systems[0].metrics['ndcg@10']).toBeCloseTo(own('embedder'), 6);
});

describe('an index', () => {
  const output = () => join(world.folder, 'index');
  test('stores token vectors; a search equals re-ranking the first stage by the open re-ranker', async () => {
    const made = await indexDocuments({
      checkpoint: report.checkpoint,
      data: world.data,
      output: output(),
      codec: 'float32',
      tokenCodec: 'float32',
      rerank: 20,
    });
    expect(made).toMatchObject({ documents: 120, added: 120, tokens: { depth: 20, codec: 'float32' } });
    expect(made.tokens?.bytesADocument).toBeGreaterThan(16 * 4 * 8);
    const index = await openIndex(output());
    const plain = await openReranker(report.checkpoint);
    const text = 'red lamp from the kitchen';
    const found = await index.search(text, 20);
    const scores = await plain.score(
      text,
      found.map((d) => d.text),
    );
    for (const [i, hit] of found.entries()) {
      expect(hit.score).toBeCloseTo(scores[i], 3);
      if (i) expect(hit.score).toBeLessThanOrEqual(found[i - 1].score);
    }
    expect((await index.search(text, 3)).map((d) => d.id)).toEqual(found.slice(0, 3).map((d) => d.id));
    await plain.dispose();
    await index.close();
  });

  test('goes on where it is; a document with another text is encoded again, and one without vectors as it is found', async () => {
    const same = { checkpoint: report.checkpoint, data: world.data, output: output() };
    expect(await indexDocuments(same)).toMatchObject({ added: 0, kept: 120 });
    await expect(indexDocuments({ ...same, tokenCodec: 'int4' })).rejects.toThrow(
      /made with codec float32 of token vectors/,
    );
    await expect(indexDocuments({ ...same, tokens: false })).rejects.toThrow(/made with a second stage/);
    const index = await openIndex(output());
    const [first] = await index.search('blue tent', 1);
    await index.add([{ id: first.id, text: 'a white piano that nobody plays' }]);
    const again = await index.search('blue tent', 120);
    const changed = again.find((d) => d.id === first.id) as (typeof again)[number];
    expect(changed.score).toBeLessThan(first.score);
    await index.close();
    // The ids are cut in the middle of a line, as a kill may leave them: what is lost is encoded when it is found.
    const ids = join(output(), 'tokens', 'tokens.ids');
    const text = readFileSync(ids, 'utf8');
    writeFileSync(ids, text.slice(0, text.length / 2));
    const damaged = await openIndex(output());
    const hits = await damaged.search('blue tent', 120);
    expect(hits.map((d) => d.id)).toEqual(again.map((d) => d.id));
    for (const [i, d] of hits.entries()) expect(d.score).toBeCloseTo(again[i].score, 4);
    await damaged.close();
    expect((await indexDocuments(same)).added).toBeGreaterThan(50);
  });

  test('nothing is written before ids and vectors are checked', async () => {
    const index = (await openIndex(output())) as SearchIndex;
    const bytes = index.second?.bytes;
    const add = (...more: { id: string; text: string }[]) => index.add([{ id: 'new', text: 'a new text' }, ...more]);
    await expect(add({ id: 'half \udc00', text: 'b' })).rejects.toThrow('has half of a surrogate pair');
    await expect(add({ id: 'new', text: 'b' })).rejects.toThrow("the id 'new' occurs twice");
    const embed = vi.spyOn(index.encoder, 'embedDocuments');
    embed.mockImplementation(async () => new Float32Array(index.encoder.dimensions).fill(Number.NaN));
    await expect(add()).rejects.toThrow("the vector of 'new' is not finite");
    expect([index.has('new'), index.second?.bytes]).toEqual([false, bytes]);
    await index.close();
  });

  test('int4 of pooled tokens takes a fraction of the bytes; its scores stay near', async () => {
    const small = join(world.folder, 'small');
    const made = await indexDocuments({
      checkpoint: report.checkpoint,
      data: world.data,
      output: small,
      tokenCodec: 'int4',
      pool: 2,
      tokens: 20,
      punctuation: false,
    });
    // 16 numbers of 4 bits and a scale: 10 bytes a token, of 1 protected and half of the others.
    expect(made.tokens?.bytesADocument).toBeLessThanOrEqual(10 * 11);
    const [a, b] = [await openIndex(output()), await openIndex(small)];
    const [one, two] = [await a.search('guitar from the attic', 20), await b.search('guitar from the attic', 20)];
    expect(two[0].score).toBeCloseTo(one[0].score, 0);
    expect(two.map((d) => d.id).filter((id) => one.some((d) => d.id === id)).length).toBeGreaterThanOrEqual(10);
    await a.close();
    await b.close();
  });

  test('refuses token options of a checkpoint without a re-ranker, and files that are not understood', async () => {
    const made = {
      checkpoint: world.dualEncoder,
      data: world.data,
      output: join(world.folder, 'none'),
      tokenCodec: 'int4',
    };
    await expect(indexDocuments(made)).rejects.toThrow(/has no re-ranker of late interaction/);
    const unknown = { ...made, checkpoint: report.checkpoint, tokenCodec: 'int5', output: join(world.folder, 'int5') };
    await expect(indexDocuments(unknown)).rejects.toThrow("there is no encoding of token vectors 'int5'");
    await expect(openReranker(report.checkpoint, { queryTokens: 5 })).rejects.toThrow(
      /holds a re-ranker of late interaction/,
    );
    const header = join(output(), 'tokens', 'tokens.json');
    const before = readFileSync(header, 'utf8');
    appendFileSync(header, 'x');
    await expect(openIndex(output())).rejects.toThrow(/token vectors in .* cannot be read: its format is undefined/);
    writeFileSync(header, before);
    expect(existsSync(header)).toBe(true);
    const stage = join(output(), 'second-stage.json');
    const kept = readFileSync(stage, 'utf8');
    rmSync(stage);
    await expect(openIndex(output())).rejects.toThrow(/made with a second stage .* second-stage\.json is not there/);
    writeFileSync(stage, kept);
  });
});

test('an export says that the re-ranker is not in it', async () => {
  const made = await exportCheckpoint({
    checkpoint: report.checkpoint,
    output: join(world.folder, 'export'),
    dtype: ['fp32'],
  });
  expect(made.notes.find((n) => n.startsWith('the re-ranker (multi-vector.json) is not exported'))).toBeDefined();
});

test('a cascade stands behind the second stage: its student scores are those of the index', async () => {
  const [index, output] = [join(world.folder, 'cascade-index'), join(world.folder, 'cascade.json')];
  await indexDocuments({ checkpoint: report.checkpoint, data: world.data, output: index, rerank: 20 });
  const made = { student: report.checkpoint, teacher: world.crossEncoder, data: world.data, index, output };
  await cascade({ ...made, calibrate: 'train', risk: 0.3, candidates: 20, cache: cache() });
  const opened = await openIndex(index);
  const served = await openCascade(output, { index: opened });
  const text = 'yellow bicycle from the office';
  const { documents } = await served.search(text, 20);
  const alone = new Map((await opened.search(text, 20)).map((d) => [d.id, d.score]));
  expect(documents).toHaveLength(20);
  for (const d of documents) expect(d.student).toBeCloseTo(alone.get(d.id) as number, 5);
  await expect(openCascade(output, { index: opened, semanticCache: 'none.json' })).rejects.toThrow(
    /re-ranks by the token vectors of a query's text, and a semantic cache knows its vector alone/,
  );
  await served.close();
  await opened.close();
});

test("queries of another encoder: the documents are still the embedder's", async () => {
  const tower = await distill({
    pipeline: 'inherit-documents',
    output: join(world.folder, 'tower'),
    cache: cache(),
    data: { path: world.data },
    embedder: { model: world.dualEncoder },
    student: { model: world.student },
    losses: [{ kind: 'embedding-matching' }],
    train: { steps: 3, batchSize: 8, threads: 1, evaluateEvery: null },
    evaluate: { teacher: false, bm25: false, before: false },
  });
  const student = { model: tower.checkpoint, multiVector: { dimensions: 16, tokens: 24 } };
  const late = await distill(options({ student }, 'late-tower'));
  const output = join(world.folder, 'tower-index');
  await indexDocuments({
    checkpoint: late.checkpoint,
    data: world.data,
    output,
    codec: 'float32',
    tokenCodec: 'float32',
  });
  const found = await evaluate({ student: late.checkpoint, data: world.data, cache: cache(), depth: 20, cost: false });
  const value = found.systems.find((s) => s.name.startsWith('student re-ranking'))?.metrics['ndcg@10'];
  expect(value).toBeCloseTo(late.systems.find((s) => s.name === 'student')?.metrics['ndcg@10'] as number, 3);
  const index = await openIndex(output);
  expect(await index.search('yellow chair', 4)).toHaveLength(4);
  await index.close();
});
