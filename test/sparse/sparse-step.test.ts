/** @file A sparse student's step: what it computes is what is served, its gradients, and that it learns. */
import { beforeAll, describe, expect, test } from 'vitest';
import { padBatch } from '../../data/batches.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { losses } from '../../losses/index.ts';
import { sparseEncoderOf } from '../../students/sparse/open-sparse.ts';
import { QUERY_WEIGHTS, sparseStudent } from '../../students/sparse/sparse-student.ts';
import type { Student } from '../../students/student.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { QUERIES, type SparseStepOptions, sparseStep } from '../../training/sparse/sparse-step.ts';
import { singleRun } from '../../training/step/single-run.ts';
import { makeWorld } from '../pipelines/world.ts';

const documents = [
  'red lamp This lamp is red. It stands in the kitchen',
  'blue guitar',
  'green tent This tent is green and still in good order since last year',
  'black piano It stands in the attic',
];
const queries = ['lamp red from the kitchen', 'piano from the attic'];
const table = (all: readonly string[]) => ({ length: all.length, text: (i: number) => all[i] });
const [B, N, M] = [2, 2, 4];
const LIMITS = { queryTokens: 12, documentTokens: 24, session: { threads: 1 } };
let folder: string;
let student: Student;
beforeAll(async () => {
  folder = (await makeWorld()).dualEncoder;
  student = await sparseStudent(folder, table(documents), { query: 'idf', seed: 0 });
});

const floats = (dims: number[], data: number[]): Tensor => ({ dtype: 'float32', dims, data: Float32Array.from(data) });
/** Query 0 has document 0 and 1, query 1 has 3 and 2; the first is the positive. */
const batch = (own: Student): StepBatch => ({
  queries: padBatch(
    queries.map((q) => own.queryTokens(q, LIMITS.queryTokens)),
    0,
  ),
  documents: [
    padBatch(
      documents.map((d) => own.documentTokens(d, LIMITS.documentTokens)),
      0,
    ),
  ],
  padId: 0,
  candidates: { dtype: 'int64', dims: [B, N], data: BigInt64Array.of(0n, 1n, 3n, 2n) },
  arrays: {
    teacher: floats([B, N], [4, -2, 3, -5]),
    mask: floats([B, N], [1, 1, 1, 1]),
    positives: floats([B, M], [1, 0, 0, 0, 0, 0, 0, 1]),
    inBatch: floats([B, M], Array(B * M).fill(1)),
    owner: floats([B, M], [1, 1, 0, 0, 0, 0, 1, 1]),
  } as StepBatch['arrays'],
  weights: floats([B], [1, 1]) as StepBatch['weights'],
});
const all = [
  { loss: losses['margin-mse']({ scale: 1 }), weight: 1 },
  { loss: losses.flops({ ramp: 0 }), weight: 0.1 },
];
const options = (own: Student, more: Partial<SparseStepOptions> = {}): SparseStepOptions => ({
  model: { graph: own.graph, ...(own.sparse as NonNullable<Student['sparse']>) },
  losses: all,
  columns: 100_000,
  steps: 10,
  session: { threads: 1 },
  ...more,
});

/** Weights of the documents as they are served, dense. */
async function served(own: Student, weights: ReadonlyMap<string, Tensor> = new Map()) {
  const encoder = await sparseEncoderOf(own, weights, LIMITS);
  const {
    offsets,
    ids,
    weights: values,
  } = await encoder.documents(table(documents), {
    maxLength: LIMITS.documentTokens,
  });
  const rows = documents.map((_, d) => {
    const row = new Float64Array(encoder.vocabulary);
    for (let i = offsets[d]; i < offsets[d + 1]; i++) row[ids[i]] = values[i];
    return row;
  });
  const asked = queries.map((q) => encoder.query(q, LIMITS.queryTokens));
  await encoder.dispose();
  const score = (b: number, d: number): number =>
    asked[b].ids.reduce((s, t, i) => s + asked[b].weights[i] * rows[d][t], 0);
  return { rows, asked, score };
}

describe('a sparse step', () => {
  test('a document starts as about its own words, special tokens never weigh, and a query has its IDF', async () => {
    const { rows, asked } = await served(student);
    for (const [d, text] of documents.entries()) {
      const own = new Set(student.documentTokens(text, LIMITS.documentTokens).ids);
      for (const id of student.tokenizer.wrap([]).ids) expect(rows[d][id]).toBe(0);
      const words = [...own].filter((t) => !student.tokenizer.wrap([]).ids.includes(t));
      const mean = (ts: readonly number[]): number => ts.reduce((s, t) => s + rows[d][t], 0) / ts.length;
      const others = Array.from(rows[d].keys()).filter((t) => !own.has(t));
      expect(mean(words)).toBeGreaterThan(5 * mean(others));
    }
    const the = student.tokenizer.idOf('the') as number;
    // 'the' stands in 2 of 4 documents: ln(1 + 2.5 / 2.5).
    expect(asked[0].weights[asked[0].ids.indexOf(the)]).toBeCloseTo(Math.log(2), 6);
    expect(new Set(asked[0].ids).size).toBe(asked[0].ids.length);
  });

  test('with all columns, losses are those of the served weights', async () => {
    const step = await singleRun(await sparseStep(options(student)));
    const { terms } = await step.run(batch(student), 0);
    await step.release();
    const { rows, score } = await served(student);
    const margins = [score(0, 0) - score(0, 1) - 6, score(1, 3) - score(1, 2) - 8];
    expect(terms[0]).toBeCloseTo((margins[0] ** 2 + margins[1] ** 2) / 2, 3);
    const flops = rows[0].reduce((s, _, t) => s + (rows.reduce((a, row) => a + row[t], 0) / M) ** 2, 0);
    expect(terms[1]).toBeCloseTo(flops, 3);
  });

  test('a sample of the columns leaves the scores alone and estimates FLOPS without bias', async () => {
    const [whole, part] = [
      await singleRun(await sparseStep(options(student))),
      await singleRun(await sparseStep(options(student, { columns: 64 }))),
    ];
    const exact = await whole.run(batch(student), 0);
    let mean = 0;
    for (let k = 0; k < 60; k++) {
      const { terms } = await part.run(batch(student), k);
      expect(terms[0]).toBeCloseTo(exact.terms[0], 3);
      mean += terms[1] / 60;
    }
    await whole.release();
    await part.release();
    expect(Math.abs(mean / exact.terms[1] - 1)).toBeLessThan(0.1);
  });

  test('gradients of every weight are those of differences', async () => {
    const learned = await sparseStudent(folder, table(documents), { query: 'learned', seed: 0 });
    const step = await singleRun(await sparseStep(options(learned)));
    const given = batch(learned);
    await step.run(given, 0);
    expect(step.parameters.map((p) => p.name)).toContain(QUERIES);
    expect(QUERIES).toBe(QUERY_WEIGHTS);
    for (const p of step.parameters) {
      const whole = new Float64Array(p.data.length);
      if (p.gradient) whole.set(p.gradient);
      const width = p.dims[1];
      for (const { indices, rows } of p.rows ?? [])
        for (const [i, at] of indices.entries())
          for (let k = 0; k < width; k++) whole[Number(at) * width + k] += rows[i * width + k];
      const norm = Math.hypot(...whole);
      if (norm < 1e-3) continue;
      // Along the gradient itself: the slope is its length.
      const before = p.data.slice();
      const h = 1e-3 / Math.max(1, norm);
      const at = async (sign: number): Promise<number> => {
        for (let i = 0; i < before.length; i++) p.data[i] = before[i] + (sign * h * whole[i]) / norm;
        return (await step.run(given, 0)).loss;
      };
      const slope = ((await at(1)) - (await at(-1))) / (2 * h);
      p.data.set(before);
      await step.run(given, 0);
      expect(Math.abs(slope / norm - 1), `${p.name}: ${slope} ${norm}`).toBeLessThan(0.1);
    }
    await step.release();
  });

  test('it learns, on the host and in the graph of a device alike, and FLOPS makes documents sparser', async () => {
    const run = async (weight: number, device: boolean) => {
      const made = await sparseStep(
        options(student, {
          columns: 64,
          losses: [
            { loss: losses.kl({ studentTemperature: 1 }), weight: 1 },
            { loss: losses.flops({ ramp: 0 }), weight },
          ],
        }),
        !device,
      );
      const learner = device
        ? await DeviceLearner.create(made, { threads: 1 }, {}, { loops: true })
        : new HostLearner(await singleRun(made, { threads: 1 }));
      const found: number[] = [];
      for (let k = 0; k < 30; k++) found.push((await learner.step([batch(student)], k, 1e-2)).terms[0]);
      const weights = await learner.weights();
      await learner.release();
      const { rows } = await served(student, weights);
      return { found, active: rows.reduce((n, row) => n + row.filter((w) => w > 0).length, 0) };
    };
    const [host, device, pressed] = [await run(0.001, false), await run(0.001, true), await run(1, false)];
    expect(host.found[29]).toBeLessThan(0.5 * host.found[0]);
    for (const [k, loss] of device.found.entries())
      expect(Math.abs(loss - host.found[k])).toBeLessThan(0.05 * host.found[0]);
    expect(pressed.active).toBeLessThan(host.active);
  });

  test('a loss of vectors that a sparse student does not have is refused', async () => {
    const wrong = [{ loss: losses['embedding-matching'](), weight: 1 }];
    await expect(sparseStep(options(student, { losses: wrong }))).rejects.toThrow(
      "the loss 'embedding-matching' reads 'teacherQueries', which a sparse student's step does not have",
    );
    const narrow = await sparseStep(options(student, { columns: 3 }));
    expect(() => narrow.feeds(batch(student), 0)).toThrow(
      "the queries of a step have more distinct tokens than 'student.sparse.columns: 3'; compute more columns",
    );
  });
});
