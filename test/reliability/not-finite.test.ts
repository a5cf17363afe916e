/** @file Numbers that go wrong: each source stops at its step and says where, what was good is kept, and `skip` counts. */
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { distill } from '../../pipelines/distill.ts';
import { RecordStore, recordKey, sourceId } from '../../teachers/cache/record-store.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { trainTeacher } from '../../teachers/jobs/train-teacher.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { dualEncoderOnHost } from '../../training/step/dual-encoder-step.ts';
import { train } from '../../training/trainer.ts';
import { makeWorld, type World } from '../pipelines/world.ts';
import { batchOf, tinyStep } from '../training/tiny.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, name),
  cache: join(world.folder, `${name}-cache`),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { model: world.student },
  candidates: { source: 'bm25', count: 4 },
  evaluate: { bm25: false, before: false, teacher: false },
  ...more,
  train: { provider: 'cpu', steps: 6, batchSize: 8, candidates: 4, warmupSteps: 2, threads: 1, ...more.train },
});

/** A copy of a model whose vector of one word (of every token where none is given) is not finite. */
async function poisoned(folder: string, name: string, word?: string, value = Number.NaN): Promise<string> {
  const copy = join(world.folder, name);
  cpSync(folder, copy, { recursive: true });
  const file = [join(copy, 'onnx', 'model.onnx'), join(copy, 'model.onnx')].find(existsSync) as string;
  const graph = await loadGraph(file);
  const lookup = graph.nodes.find((n) => n.op === 'Gather' && n.inputs[1]?.name === 'input_ids');
  const table = lookup?.inputs[0]?.constant as Tensor;
  const data = Float32Array.from(table.data as Float32Array);
  const [id] = word === undefined ? [] : (await TextTokenizer.load(copy)).plain(word);
  if (id === undefined) data.fill(value);
  else data[id * table.dims[1]] = value;
  (lookup?.inputs[0] as { constant: Tensor }).constant = { ...table, data } as Tensor;
  writeFileSync(file, encodeGraph(graph));
  return copy;
}

const failure = (work: Promise<unknown>) =>
  work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error) => error as Error & { code: string; exitCode: number },
  );

test('a teacher score: the pair is named, the other scores are kept; skip leaves the pairs out and counts them', async () => {
  const teacher = { kind: 'cross-encoder' as const, model: await poisoned(world.crossEncoder, 'nan-teacher', 'piano') };
  const error = await failure(distill(options('teacher', { teacher })));
  expect(error).toMatchObject({ code: 'teacher.not-finite', exitCode: 3 });
  expect(error.message).toMatch(
    /nan-teacher gives the query 'q\d+' with the document 'd\d+' NaN \(score\); .*train\.onNonFinite to skip/,
  );

  const notes: string[] = [];
  const skip = options('teacher', { teacher, train: { onNonFinite: 'skip' } });
  const report = await distill(skip, { onProgress: (p) => p.note && notes.push(p.note) });
  // What was finite before the stop is not asked again.
  expect(notes.join('\n')).toMatch(/[1-9]\d* of \d+ pairs were in the cache/);
  expect(report.warnings.join('\n')).toMatch(
    /\d+ of \d+ candidates are left out: the teacher's scores of them are not finite/,
  );
  expect(
    JSON.parse(readFileSync(report.report, 'utf8')).log.every((e: { loss: unknown }) => Number.isFinite(e.loss)),
  ).toBe(true);
  expect(readFileSync(join(skip.output as string, 'report.html'), 'utf8')).toContain('Warning: ');
});

test('weights: the step, the term, the weight and the queries; skip does not help where every step is so', async () => {
  const student = { model: await poisoned(world.student, 'nan-student') };
  for (const onNonFinite of ['stop', 'skip'] as const) {
    const error = await failure(distill(options('weights', { student, train: { onNonFinite } })));
    expect(error).toMatchObject({ code: 'train.not-finite', exitCode: 3 });
    expect(error.message).toMatch(
      /^training stopped at step 1: the loss term info-nce is NaN, the first non-finite tensor is the weight '[^']*' \(queries (q\d+, ){7}q\d+\)/,
    );
  }
});

test('embeddings: the text and the dimension are named; skip leaves out the steps that read them and counts', async () => {
  const embedder = { model: await poisoned(world.dualEncoder, 'nan-embedder', 'garden') };
  const more = {
    embedder,
    teacher: undefined,
    losses: [{ kind: 'embedding-matching' as const, of: 'queries' as const }],
  };
  const error = await failure(distill(options('embedder', more)));
  expect(error).toMatchObject({ code: 'teacher.not-finite', exitCode: 3 });
  expect(error.message).toMatch(/gives the query 'q\d+' NaN in dimension 0 \(embed queries\)/);
  const report = await distill(options('embedder', { ...more, train: { batchSize: 2, onNonFinite: 'skip' } }));
  expect(report.training.skipped).toBeGreaterThan(0);
  expect(report.training.skipped).toBeLessThan(6);
  expect(report.warnings.join('\n')).toMatch(
    new RegExp(`the embeddings of \\d+ queries are not finite.*\n.*${report.training.skipped} of 6 steps are left out`),
  );
  // Documents that are searched cannot be left out.
  const frozen = { ...more, pipeline: 'inherit-documents' as const, train: { onNonFinite: 'skip' as const } };
  expect((await failure(distill(options('frozen', frozen)))).message).toMatch(
    /the embeddings of \d+ of 120 documents are not finite, and the student searches them/,
  );
});

test('a store that holds what is not finite is not believed', async () => {
  const path = join(world.folder, 'store');
  const store = await RecordStore.open(path);
  const key = recordKey('a teacher', sourceId('a teacher'), 'score', 'query', 'document');
  await store.put([{ key, numbers: Float32Array.of(Number.POSITIVE_INFINITY) }]);
  await store.close();
  const cache = await ScoreCache.open(path);
  const says = { name: 'a teacher', kind: 'model', key: 'a teacher', dispose: async () => {} };
  const teacher = cache.wrap({ ...says, score: async (pairs) => new Float32Array(pairs.length).fill(2) });
  const pair = { queryId: 'q', documentId: 'd', query: 'query', document: 'document' };
  expect([...(await teacher.score([pair]))]).toEqual([2]);
  await cache.close();
});

test('an overflow within the graph: the first value, and the state before the step is on disk and gone on from', async () => {
  const stateFolder = join(world.folder, 'state');
  const learner = new HostLearner(await dualEncoderOnHost(tinyStep()));
  const bad = batchOf(4, 2);
  // Finite as float32, and its product with anything is not.
  (bad.weights.data as Float32Array).fill(3e38);
  const draw = (broken: boolean) => (number: number) => (broken && number === 3 ? bad : batchOf(4, number));
  const settings = {
    schedule: { learningRate: 1e-3, warmupSteps: 0, totalSteps: 5, finalShare: 1 },
    terms: ['info-nce'],
  };
  const ids = () => ['qa', 'qb'];
  const error = await failure(train(learner, { draw: draw(true), ids }, settings, { stateFolder, key: { a: '1' } }));
  expect(error.message).toMatch(
    /^training stopped at step 4: .*, the first non-finite tensor is \S+ \(made by \w+\) \(queries qa, qb\)/,
  );
  expect(JSON.parse(readFileSync(join(stateFolder, 'state.json'), 'utf8')).step).toBe(3);

  const skipped = await train(
    learner,
    { draw: draw(true), ids },
    { ...settings, onNonFinite: 'skip' },
    { stateFolder, key: { a: '1' } },
  );
  expect(skipped).toMatchObject({ skipped: 1 });
  expect(skipped.log.map((e) => e.step)).toEqual([1, 2, 3, 4, 5]);
  await learner.release();
});

test('the training of a teacher: step, term, weight and queries', async () => {
  const model = await poisoned(world.crossEncoder, 'nan-start');
  const error = await failure(
    trainTeacher({
      data: world.data,
      model,
      output: join(world.folder, 'trained'),
      dev: null,
      train: { steps: 2, batchSize: 4, threads: 1 },
    }),
  );
  expect(error).toMatchObject({ code: 'train.not-finite', exitCode: 3 });
  expect(error.message).toMatch(
    /at step 1: the loss term kl is NaN, the first non-finite tensor is the weight '[^']*' \(queries (q\d+, ){3}q\d+\)/,
  );
});
