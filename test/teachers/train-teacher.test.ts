import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { Progress } from '../../common/progress.ts';
import { parseTeacherConfig, teacherSchedule } from '../../config/teacher.ts';
import { writeWorld } from '../../demo-world/demo.ts';
import { makeWorld } from '../../demo-world/world.ts';
import { teacherVerdict } from '../../evaluation/runs/verdict.ts';
import { freshModel } from '../../models/new-model.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { trainTeacher } from '../../teachers/jobs/train-teacher.ts';
import { dualPooling } from '../../teachers/pair-embeddings.ts';

const folder = mkdtempSync(join(tmpdir(), 'train-teacher-'));
const data = join(folder, 'data');
const tiny = { hidden: 16, layers: 1, heads: 2, maxLength: 48, vocabulary: 300 };
const options = {
  data,
  candidates: { count: 8, random: 4 },
  train: { steps: 12, batchSize: 8, candidates: 4, learningRate: 5e-3, warmupSteps: 2, evaluateEvery: 6 },
};
let texts: string[] = [];
beforeAll(async () => {
  const world = await makeWorld({ documents: 60, train: 40, dev: 10, test: 10 });
  texts = [...world.documents, ...world.queries].map((t) => t.text);
  await writeWorld(world, data);
});
const table = () => ({ length: texts.length, text: (i: number) => texts[i] });
const pair = () => ({ queryId: 'q', documentId: 'd', query: texts[60], document: texts[0] });

test('a fresh cross-encoder is trained, the best by dev is kept, and the folder scores pairs', async () => {
  const output = join(folder, 'teacher');
  const notes: string[] = [];
  const report = await trainTeacher(
    { ...options, output, fresh: tiny, maxLength: 24, losses: { kl: 1, bce: 0.1 } },
    { onProgress: (p) => p.note && notes.push(p.note) },
  );
  expect(report.evaluations.map((e) => e.step)).toEqual([0, 6, 12]);
  const best = Math.max(...report.evaluations.map((e) => e.score));
  expect(report.evaluations.find((e) => e.step === report.bestStep)?.score).toBe(best);
  expect(notes.filter((n) => n.startsWith('step '))).toHaveLength(3);
  const config = JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'));
  expect(config).toMatchObject({ architectures: ['BertForSequenceClassification'], num_labels: 1, model_type: 'bert' });
  const teacher = await crossEncoder(output);
  expect(Number.isFinite((await teacher.score([pair()]))[0])).toBe(true);
  // It reads as much of a pair as it was trained with.
  expect(teacher.facts?.limit).toContain('24 tokens a pair');
  await teacher.dispose();
  // Stopped at step 9 and started again, it ends with the same bytes.
  const again = { ...options, output: `${output}-again`, fresh: tiny, maxLength: 24, losses: { kl: 1, bce: 0.1 } };
  const stop = new AbortController();
  const onProgress = (p: Progress) => p.unit === 'steps' && p.done === 9 && stop.abort(new Error('stopped'));
  await expect(trainTeacher(again, { signal: stop.signal, onProgress })).rejects.toThrow('stopped');
  expect(existsSync(again.output)).toBe(false);
  const more: string[] = [];
  await trainTeacher(again, { onProgress: (p) => p.note && more.push(p.note) });
  expect(more).toContain('resuming from step 9');
  const bytes = [output, `${output}-again`].map((f) => readFileSync(join(f, 'onnx/model.onnx')));
  expect(bytes[0].equals(bytes[1])).toBe(true);
});

test('an encoder gets a head and a cross-encoder goes on', async () => {
  const encoder = join(folder, 'encoder');
  await freshModel(encoder, table(), tiny);
  const first = await trainTeacher({ ...options, dev: null, output: join(folder, 'headed'), model: encoder });
  expect(first).toMatchObject({ bestStep: 12, evaluations: [] });
  const second = await trainTeacher({ ...options, dev: null, output: join(folder, 'on'), model: first.model });
  expect(second.parameters).toBe(first.parameters);
  expect(second.loss).toBeLessThan(first.loss);
});

test('steps, warm-up and evaluations follow the number of queries', () => {
  const config = (train: object = {}) => parseTeacherConfig({ data, model: 'm', train });
  const of = (queries: number, train: object = {}) => teacherSchedule(config(train), queries);
  // Eight epochs of few queries; 600 steps, less than an epoch, of a million.
  expect(of(111)).toEqual({ perStep: 16, totalSteps: 48, warmupSteps: 5, evaluateEvery: 6 });
  expect(of(870)).toMatchObject({ totalSteps: 432, warmupSteps: 44 });
  expect(of(1_000_000)).toMatchObject({ totalSteps: 600, warmupSteps: 60, evaluateEvery: 75 });
  expect(of(5)).toMatchObject({ perStep: 5, totalSteps: 8 });
  expect(of(870, { epochs: 1, warmupSteps: 0, evaluateEvery: null })).toMatchObject({
    totalSteps: 54,
    warmupSteps: 0,
    evaluateEvery: 54,
  });
  expect(config().losses).toEqual({ kl: 1, bce: 0.5 });
});

test('a dual-encoder finds the negatives of what is made of it, and is compared with it and with BM25 on dev', async () => {
  const encoder = join(folder, 'first');
  await freshModel(encoder, table(), tiny);
  mkdirSync(join(encoder, '1_Pooling'));
  const modules = ['Transformer', 'Pooling'].map((type, idx) => ({
    idx,
    name: String(idx),
    path: idx ? '1_Pooling' : '',
    type: `sentence_transformers.models.${type}`,
  }));
  writeFileSync(join(encoder, 'modules.json'), JSON.stringify(modules));
  writeFileSync(
    join(encoder, '1_Pooling', 'config.json'),
    JSON.stringify({ word_embedding_dimension: 16, pooling_mode_mean_tokens: true }),
  );
  const notes: string[] = [];
  const report = await trainTeacher(
    {
      ...options,
      train: { ...options.train, steps: 2, learningRate: 1e-6 },
      output: join(folder, 'of-dual'),
      model: encoder,
    },
    { onProgress: (p) => notes.push(p.stage) },
  );
  expect(notes).toContain('lexical search');
  const best = report.evaluations.find((e) => e.step === report.bestStep)?.score as number;
  expect(report.dev).toMatchObject({ teacher: best, queries: 10 });
  // The same candidates in BM25's order, computed here.
  expect(report.dev?.bm25).toBeGreaterThan(0);
  expect(report.dev?.encoder).toBeGreaterThan(0);
  // A head with random weights ranks worse than BM25 does.
  expect(report.verdict).toMatch(
    /^The teacher ranks no better than (BM25|the encoder as it was): nDCG@10 0\.\d{4} compared with 0\.\d{4} over the same candidates of 10 queries of dev; /,
  );
  await expect(
    trainTeacher({ ...options, candidates: { source: 'hybrid' }, output: join(folder, 'no'), model: report.model }),
  ).rejects.toThrow('is a cross-encoder; choose another source');
});

test('a teacher is believed where it ranks better than both', () => {
  expect(teacherVerdict({ teacher: 0.8, encoder: 0.7, bm25: 0.6, queries: 9 }, 'dev')).toBeUndefined();
  expect(teacherVerdict({ teacher: 0.5626, encoder: 0.7233, bm25: 0.6, queries: 90 }, 'dev')).toMatch(
    /^The teacher ranks no better than the encoder as it was: nDCG@10 0\.5626 compared with 0\.7233 .* 90 queries of dev; judge more queries/,
  );
  expect(teacherVerdict({ teacher: 0.5, bm25: 0.5, queries: 9 }, 'dev')).toContain('no better than BM25');
});

test('with the head of dual pooling, the score is the cosine of the two vectors that pair-matching reads', async () => {
  const start = join(folder, 'two-layers');
  await freshModel(start, table(), { ...tiny, layers: 2, kind: 'cross-encoder', seed: 4 });
  // Random candidates: what BM25 finds must not decide this test.
  const candidates = { source: 'random' as const, count: 8 };
  const given = { ...options, candidates, head: 'dual-pooling' as const, losses: { kl: 1 } };
  const report = await trainTeacher({ ...given, output: join(folder, 'dual'), model: start });
  expect(report.evaluations[2].score).toBeGreaterThan(report.evaluations[1].score);
  // Of unequal length, so that some are padded in a batch; one text is empty.
  const pairs = [pair(), { ...pair(), document: texts[1].split(' ')[0] }, { ...pair(), query: 'red', document: '' }];
  const [teacher, pooling] = [await crossEncoder(report.model), await dualPooling(report.model)];
  const [scores, read] = [await teacher.score(pairs), await pooling.read(pairs)];
  await Promise.all([teacher.dispose(), pooling.dispose()]);
  const row = (of: Float32Array, i: number): Float32Array => of.subarray(i * tiny.hidden, (i + 1) * tiny.hidden);
  const dot = (a: Float32Array, b: Float32Array): number => a.reduce((s, v, k) => s + v * b[k], 0);
  for (const [i, score] of scores.entries()) {
    const [q, d] = [row(read.queries, i), row(read.documents, i)];
    const cosine = dot(q, d) / (Math.sqrt(dot(q, q) * dot(d, d)) || 1);
    expect(score).toBeCloseTo(20 * cosine - 10, 3);
  }
  expect(new Set(Array.from(scores)).size).toBe(3);
  expect(scores[2]).toBeCloseTo(-10);
  // It goes on with the head that it has, from an encoder as well as from a cross-encoder.
  const encoder = join(folder, 'encoder');
  for (const model of [report.model, encoder]) {
    const on = await trainTeacher({
      ...given,
      ...(model === report.model && { head: 'as-it-is' as const }),
      dev: null,
      output: join(folder, 'dual-on'),
      model,
    });
    expect(on.parameters).toBeGreaterThan(0);
    const again = await dualPooling(on.model);
    expect((await again.read(pairs)).correlation.cosine).toBeCloseTo(1, 4);
    await again.dispose();
  }
  const one = { ...given, output: join(folder, 'refused'), model: join(folder, 'teacher') };
  await expect(trainTeacher(one)).rejects.toThrow("export it with the outputs 'last_hidden_state' and 'logits'");
});

test('under a limit of memory the pairs of a step are read in parts, and a limit that leaves nothing is refused', async () => {
  const cross = join(folder, 'teacher');
  const heard = async (memory: string | undefined, queries: number): Promise<[string[], number]> => {
    const notes: string[] = [];
    const train = { ...options.train, batchSize: queries, steps: 2, candidates: 8 };
    const output = join(folder, `within-${memory}-${queries}`);
    const given = { ...options, dev: null, train, output, model: cross, memory };
    const { loss } = await trainTeacher(given, { onProgress: (p) => p.note && notes.push(p.note) });
    return [notes, loss];
  };
  const [[within, loss], [, free]] = [await heard('345MB', 40), await heard(undefined, 40)];
  expect(within.filter((n) => n.startsWith('memory'))).toEqual([
    expect.stringMatching(
      /^memory: the 320 pairs of a step are read (160|80|64|40|32|16|8) at a time, with the same gradients$/,
    ),
  ]);
  expect(loss).toBeCloseTo(free, 4);
  expect((await heard('8GB', 40))[0].filter((n) => n.startsWith('memory'))).toEqual([]);
  await expect(heard('100MB', 8)).rejects.toThrow(/a memory limit of 100 MB, where .* allow at least 3\d\d MB/);
});

test('mistakes are told before anything is trained', async () => {
  const refused = (more: object) => expect(trainTeacher({ ...options, ...more })).rejects;
  await refused({}).toThrow("a teacher starts from either 'model' or 'fresh'; give one of the two");
  await refused({ fresh: tiny, losses: { 'info-nce': 1 } }).toThrow(
    "'losses.info-nce' is not a known key; known here are bce,",
  );
  await refused({ fresh: tiny, targets: 'scores' }).toThrow("'targets: scores' needs given candidates with scores");
  await refused({ fresh: tiny, output: data }).toThrow(`${data} holds something else`);
});

test('a model whose folder asks for lower case is trained and written in it, and its prompt is said to be left out', async () => {
  const start = join(folder, 'cased');
  await freshModel(start, table(), { ...tiny, kind: 'cross-encoder' });
  const tokenizer = JSON.parse(readFileSync(join(start, 'tokenizer.json'), 'utf8'));
  writeFileSync(join(start, 'tokenizer.json'), JSON.stringify({ ...tokenizer, normalizer: null }));
  const transformer = { do_lower_case: true, transformer_task: 'sequence-classification' };
  writeFileSync(join(start, 'sentence_bert_config.json'), JSON.stringify(transformer));
  const prompts = { prompts: { web: 'find ' }, default_prompt_name: 'web' };
  writeFileSync(join(start, 'config_sentence_transformers.json'), JSON.stringify(prompts));
  const output = join(folder, 'lowered');
  const notes: string[] = [];
  const train = { ...options.train, steps: 1, evaluateEvery: 1 };
  await trainTeacher({ ...options, train, output, model: start }, { onProgress: (p) => p.note && notes.push(p.note) });
  expect(notes).toContain(
    `the prompt 'find ' of ${start} is put before no query in training, nor by the model that is written`,
  );
  const teacher = await crossEncoder(output);
  const { query, ...rest } = pair();
  const scores = await teacher.score([query.toLowerCase(), query.toUpperCase()].map((q) => ({ ...rest, query: q })));
  await teacher.dispose();
  expect(scores[0]).toBe(scores[1]);
});
