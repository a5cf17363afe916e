/** @file What every kind of student must hold: its options, what it asks for, training, the folder that is saved, resuming. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { describeStudent, kindNamed, kindOf, startFolder, trainedEncoder } from '../../config/student.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { type Sources, studentKinds } from '../../students/kinds/index.ts';
import { encoderOf } from '../../students/student-scores.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

const LIMITS = { queryTokens: 12, documentTokens: 40 };
const texts = ['red lamp from the kitchen', 'guitar', 'the blue tent is still in good order'];
const table = { length: texts.length, text: (i: number) => texts[i] };
let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

type Name = keyof typeof studentKinds;
/** Kinds whose vectors are dense; what a sparse student must hold is in test/sparse. */
const dense = (Object.keys(studentKinds) as Name[]).filter((name) => name !== 'sparse');
/** A student by its defaults: a new kind is named by its own key and takes no other option. */
const given = (name: Name): ConfigInput['student'] =>
  ({ ...(name === 'model' ? { model: world.student } : { [name]: {} }), ...LIMITS }) as ConfigInput['student'];
const options = (name: Name, output: string): ConfigInput => ({
  ...(kindOf({ kind: name }).pipeline && { pipeline: kindOf({ kind: name }).pipeline }),
  output: join(world.folder, name, output),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  embedder: { model: world.dualEncoder },
  student: given(name),
  candidates: { source: 'bm25', count: 4 },
  losses: [{ kind: 'info-nce', temperature: 0.05 }],
  train: {
    steps: 3,
    batchSize: 8,
    candidates: 2,
    learningRate: 1e-2,
    warmupSteps: 1,
    evaluateEvery: 3,
    spans: null,
    threads: 1,
    provider: 'cpu',
  },
  evaluate: { teacher: false, bm25: false },
});

describe.each(dense)('%s', (name) => {
  const kind = () => kindOf({ kind: name });

  test('the key of its name says that it is meant, and it is described', () => {
    expect(Object.keys(kind().options)).toContain(name);
    expect(kindNamed(given(name) as object)).toBe(name);
    const { student } = parseConfig(options(name, 'parsed'));
    expect(student.kind).toBe(name);
    expect(describeStudent(student).length).toBeGreaterThan(5);
    expect(trainedEncoder(student)).toBe(kind().reads.includes('folder') ? startFolder(student) : undefined);
  });

  test('it is opened of what it says that it reads; the graph that is saved gives the vectors that training sees', async () => {
    const { student: own } = parseConfig(options(name, 'opened'));
    const asked = new Set<string>();
    const random = Random.of(2, 'tokens');
    const from: Sources = {
      texts: () => {
        asked.add('texts');
        return table;
      },
      documents: () => {
        asked.add('documents');
        return table;
      },
      seed: 3,
      async embedder() {
        asked.add('embedder');
        const dimensions = 8;
        const data = Float32Array.from({ length: 300 * dimensions }, () => random.normal());
        return { folder: world.dualEncoder, tokens: { dimensions, data } };
      },
    };
    const student = await kind().open(own, from);
    for (const source of asked) expect(kind().reads).toContain(source);
    const tokens = texts.map((text) => student.queryTokens(text, LIMITS.queryTokens));
    for (const { ids } of tokens) expect(ids.length).toBeLessThanOrEqual(LIMITS.queryTokens);
    expect(student.graph.constants.filter((v) => v.constant?.dtype === 'float32').length).toBeGreaterThan(0);
    const encoder = await encoderOf(student, new Map(), { ...LIMITS, session: {} });
    const saved = await encoder.encode(texts, { role: 'query', maxLength: LIMITS.queryTokens });
    const D = encoder.dimensions;
    await encoder.dispose();
    const session = await Session.load(student.graph.clone());
    for (const [i, { ids, typeIds }] of tokens.entries()) {
      const dims = [1, ids.length];
      const feeds = {
        input_ids: { dtype: 'int64' as const, dims, data: BigInt64Array.from(ids, BigInt) },
        attention_mask: { dtype: 'int64' as const, dims, data: new BigInt64Array(ids.length).fill(1n) },
        token_type_ids: { dtype: 'int64' as const, dims, data: BigInt64Array.from(typeIds, BigInt) },
      };
      const read = Object.entries(feeds).filter(([input]) => student.graph.inputs.some((v) => v.name === input));
      const out = Object.values(await session.run(Object.fromEntries(read)))[0];
      const rows = Array.from(out.data as Float32Array);
      expect(['mean', 'none']).toContain(student.pooling);
      const pooled = Array.from({ length: D }, (_, k) =>
        rows.reduce((sum, v, at) => (at % D === k ? sum + v : sum), 0),
      );
      const length = student.normalize ? Math.hypot(...pooled) : rows.length / D;
      for (let k = 0; k < D; k++) expect(saved[i * D + k]).toBeCloseTo(pooled[k] / length, 5);
    }
    await session.release();
  });

  test('it trains; the saved folder ranks as the trained weights did; the same seed gives the same bytes', async () => {
    const [report, again] = [await distill(options(name, 'run')), await distill(options(name, 'again'))];
    const bytes = (folder: string) => readFileSync(join(folder, 'onnx/model.onnx'));
    expect(bytes(again.checkpoint).equals(bytes(report.checkpoint))).toBe(true);
    expect(report.training).toMatchObject({ steps: 3, skipped: 0 });
    expect(report.training.loss).toBeGreaterThan(0);
    const written = JSON.parse(readFileSync(report.report, 'utf8'));
    const best = written.evaluations.find((e: { step: number }) => e.step === report.training.bestStep);
    expect(report.before.values.student).toBeCloseTo(best.score, 6);
    const encoder = await Encoder.load(report.checkpoint, { comparable: true });
    const [vector] = [await encoder.encode(texts.slice(0, 1), { role: 'query' })];
    await encoder.dispose();
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    const card = readFileSync(join(report.checkpoint, 'README.md'), 'utf8');
    expect(card).toContain(kind().card ?? 'SentenceTransformer(');
  });

  test('a run that is done is used again, and a dry run says so', async () => {
    const plan = await planRun(options(name, 'run'));
    expect(plan.filter((s) => s.status !== 'reused')).toEqual([]);
    const { stages } = await distill(options(name, 'run'));
    expect(Object.values(stages).filter((s) => s !== 'reused')).toEqual([]);
  });
});
