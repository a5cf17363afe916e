/** @file What every loss must hold: gradients, padding, weights, order of candidates, scores of any size. */
import { describe, expect, test } from 'vitest';
import { differentiate } from '../../engine/autodiff/differentiate.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import {
  type ArrayInput,
  type Loss,
  type LossInput,
  type LossInputs,
  losses,
  matryoshka,
  prefixRelations,
  weightedSum,
} from '../../losses/index.ts';
import { Random } from '../../math/random.ts';

const [B, N, M, D] = [3, 4, 6, 5];
type Arrays = Partial<Record<LossInput, { dims: number[]; data: number[] }>>;

/** Random inputs of every kind; query 1 has one candidate fewer. */
function inputs(seed: number, scale = 1): Arrays {
  const random = Random.of(seed);
  const normal = (...dims: number[]) => ({
    dims,
    data: Array.from({ length: dims.reduce((a, b) => a * b) }, () => scale * random.normal()),
  });
  const mask = { dims: [B, N], data: Array.from({ length: B * N }, (_, i) => Number(i !== 2 * N - 1)) };
  const positives = { dims: [B, M], data: Array(B * M).fill(0) as number[] };
  const owner = { dims: [B, M], data: Array(B * M).fill(0) as number[] };
  for (let m = 0; m < M; m++) owner.data[(m % B) * M + m] = 1;
  for (let b = 0; b < B; b++) positives.data[b * M + b] = 1;
  const candidates = {
    dims: [B, N],
    data: Array.from({ length: B * N }, (_, i) => (i % N === 0 ? Math.floor(i / N) : (i * 5) % M)),
  };
  return {
    student: normal(B, N),
    teacher: normal(B, N),
    mask,
    candidates,
    reliability: { dims: [B, N], data: Array.from({ length: B * N }, () => random.uniform()) },
    gumbel: normal(B, 2, N),
    queries: normal(B, D),
    documents: normal(M, D),
    positives,
    owner,
    inBatch: { dims: [B, M], data: Array.from({ length: B * M }, (_, i) => Number(i !== 4)) },
    teacherInBatch: normal(B, M),
    teacherQueries: normal(B, D),
    teacherDocuments: normal(M, D),
    columns: { dims: [D], data: Array.from({ length: D }, (_, i) => 1 + i / 2) },
    pairQueries: normal(B, N, D),
    pairDocuments: normal(B, N, D),
    gates: normal(4, 6),
    routed: { dims: [4, 6], data: Array.from({ length: 24 }, (_, i) => i % 5) },
    activations: normal(4, 2),
  };
}

interface Case {
  loss: Loss;
  /** Unchanged when a constant is added to all of a query's student scores. */
  shiftInvariant?: boolean;
  /** Why the order of candidates after the first may matter, where it may. */
  ordered?: string;
}

const cases: Record<string, Case[]> = {
  bce: [{ loss: losses.bce({ scale: 1, shift: 0 }) }, { loss: losses.bce({ temperature: 2, scale: 3, shift: -1 }) }],
  'embedding-matching': (['l2', 'squared', 'cosine'] as const).map((distance) => ({
    loss: losses['embedding-matching']({ distance }),
  })),
  'gram-matching': [
    { loss: losses['gram-matching']({ temperature: 1, studentTemperature: 1 }) },
    {
      loss: losses['gram-matching']({
        temperature: 2,
        studentTemperature: 2,
        of: ['query-document', 'query-query', 'document-document'],
      }),
    },
  ],
  'in-batch-kl': [
    { loss: losses['in-batch-kl']({ temperature: 1, studentTemperature: 1, teacherScores: 'given' }) },
    { loss: losses['in-batch-kl']({ temperature: 2, studentTemperature: 2, teacherScores: 'embeddings' }) },
  ],
  'info-nce': [
    { loss: losses['info-nce']({ temperature: 1 }) },
    { loss: losses['info-nce']({ temperature: 1, direction: 'both' }) },
    ...(['candidates', 'embeddings', 'given'] as const).map((by) => ({
      loss: losses['info-nce']({ temperature: 1, falseNegatives: { by, margin: 0.3 } }),
    })),
  ],
  kl: [
    { loss: losses.kl({ studentTemperature: 1 }), shiftInvariant: true },
    { loss: losses.kl({ temperature: 3, studentTemperature: 3 }), shiftInvariant: true },
  ],
  m3se: [{ loss: losses.m3se({ scale: 1 }), shiftInvariant: true }],
  'margin-mse': [{ loss: losses['margin-mse']({ scale: 1 }), shiftInvariant: true }],
  mse: [{ loss: losses.mse({ scale: 1, shift: 0 }) }, { loss: losses.mse({ scale: 2, shift: -1 }) }],
  'pair-matching': [{ loss: losses['pair-matching']() }, { loss: losses['pair-matching']({ distance: 'cosine' }) }],
  'rank-distil': [
    {
      loss: losses['rank-distil']({ temperature: 1 }),
      shiftInvariant: true,
      ordered: 'each candidate has noise of its own',
    },
    {
      loss: losses['rank-distil']({ topK: 2, temperature: 1 }),
      shiftInvariant: true,
      ordered: 'each candidate has noise of its own',
    },
  ],
  'relative-geometry': [
    { loss: losses['relative-geometry']() },
    { loss: losses['relative-geometry']({ of: 'documents' }) },
  ],
  'similarity-preserving': [
    { loss: losses['similarity-preserving']() },
    { loss: losses['similarity-preserving']({ of: 'documents' }) },
  ],
  slam: [{ loss: losses.slam({ scale: 1, shift: 0 }) }],
};

test('every case here is of a loss of the registry', () => {
  expect(Object.keys(losses)).toEqual(expect.arrayContaining(Object.keys(cases)));
});

/** A loss without cases of its own stands here with its defaults. */
const ofRegistry = Object.entries(losses).flatMap(([name, make]) => cases[name] ?? [{ loss: make() }]);

const all: Case[] = [
  ...ofRegistry,
  { loss: matryoshka(losses.kl({ studentTemperature: 1 }), { dimensions: [5, 2], weights: [1, 0.5] }) },
  ...(['both', 'queries', 'documents'] as const).map((of) => ({
    loss: prefixRelations({ of, dimensions: [5, 2], weights: [1, 0.5], temperature: 1 }),
  })),
  {
    loss: weightedSum([
      { loss: losses.kl({ studentTemperature: 1 }), weight: 1 },
      { loss: losses['info-nce']({ temperature: 1 }), weight: 2 },
    ]),
  },
];

const pick = (loss: Loss, arrays: Arrays): Record<string, ArrayInput> =>
  Object.fromEntries([...loss.needs, ...loss.uses].flatMap((n) => (arrays[n] ? [[n, arrays[n]]] : [])));
const studentSide = ['student', 'queries', 'documents', 'gates', 'activations'] as const;

describe.each(all.map((c, i) => ({ ...c, title: `${c.loss.name} (${i})` })))(
  '$title',
  ({ loss, shiftInvariant, ordered }) => {
    // Queries of a step see each other's documents there, so that one of weight 0 still stands among them.
    const inStep = !loss.needs.includes('student') && !loss.name.includes('pair-matching');
    test('gradients are those of central differences', async () => {
      const arrays = inputs(1);
      const weights = [1, 0.5, 2];
      const { gradients } = await loss.evaluate(pick(loss, arrays), weights);
      const random = Random.of(2);
      for (const name of studentSide.filter((n) => loss.needs.includes(n))) {
        const own = arrays[name] as { dims: number[]; data: number[] };
        const direction = own.data.map(() => random.normal());
        const h = 1e-5;
        const at = async (sign: number): Promise<number> =>
          (
            await loss.evaluate(
              pick(loss, {
                ...arrays,
                [name]: { dims: own.dims, data: own.data.map((v, i) => v + sign * h * direction[i]) },
              }),
              weights,
            )
          ).loss;
        const slope = ((await at(1)) - (await at(-1))) / (2 * h);
        const dot = (gradients[name] as Float64Array).reduce((s, g, i) => s + g * direction[i], 0);
        expect(Math.abs(dot - slope)).toBeLessThan(1e-6 * Math.max(1, Math.abs(slope)));
      }
    });

    const unmasked = !loss.needs.includes('mask');
    test.for([77, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
      'what stands in padding counts for nothing: %d',
      async (garbage, { skip }) => {
        skip(unmasked, 'the loss has no mask');
        const arrays = inputs(3);
        const garbled = inputs(3);
        const at = 2 * N - 1; // the only padding of the mask
        for (const name of ['student', 'teacher', 'reliability'] as const)
          (garbled[name] as { data: number[] }).data[at] = garbage;
        for (const name of ['pairQueries', 'pairDocuments'] as const)
          (garbled[name] as { data: number[] }).data.fill(garbage, at * D, (at + 1) * D);
        for (const s of [0, 1]) (garbled.gumbel as { data: number[] }).data[2 * N + s * N + N - 1] = garbage;
        (garbled.candidates as { data: number[] }).data[at] = 0;
        const a = await loss.evaluate(pick(loss, arrays));
        const b = await loss.evaluate(pick(loss, garbled));
        expect(Array.from(b.values)).toEqual(Array.from(a.values));
        for (const name of studentSide.filter((n) => loss.needs.includes(n)))
          expect(Array.from(b.gradients[name] as Float64Array)).toEqual(Array.from(a.gradients[name] as Float64Array));
      },
    );

    test('a query of weight 0 gives no gradient and no value', async () => {
      const arrays = inputs(4);
      const one = await loss.evaluate(pick(loss, arrays), [1, 0, 1]);
      expect(one.loss).toBeCloseTo((one.values[0] + one.values[2]) / 3, 10);
      if (one.gradients.student)
        expect(Array.from(one.gradients.student.slice(N, 2 * N), Math.abs)).toEqual([0, 0, 0, 0]);
    });

    test('a query of weight 0 is as if it were absent', async ({ skip }) => {
      skip(inStep, "queries of a step see each other's documents, also those of weight 0");
      const arrays = pick(loss, inputs(4)) as Arrays;
      const rest = Object.fromEntries(
        Object.entries(arrays).map(([name, { dims, data }]) => {
          if (name === 'documents') return [name, { dims, data }];
          const width = data.length / B;
          return [name, { dims: [B - 1, ...dims.slice(1)], data: data.filter((_, i) => Math.floor(i / width) !== 1) }];
        }),
      );
      const [all, without] = [await loss.evaluate(arrays, [1, 0, 2]), await loss.evaluate(rest, [1, 2])];
      const scale = (B - 1) / B;
      expect(all.loss).toBeCloseTo(scale * without.loss, 10);
      for (const name of studentSide.filter((n) => loss.needs.includes(n))) {
        const [a, b] = [all.gradients[name] as Float64Array, Array.from(without.gradients[name] as Float64Array)];
        const width = a.length / B;
        const kept = name === 'documents' ? a : a.filter((_, i) => Math.floor(i / width) !== 1);
        for (const [i, g] of b.entries()) expect(kept[i]).toBeCloseTo(scale * g, 10);
      }
    });

    test('nothing that the teacher says is given a gradient', async () => {
      const arrays = pick(loss, inputs(9)) as Arrays;
      const graph = new Graph(20);
      graph.float = 'float64';
      const tensors = Object.fromEntries(
        Object.entries(arrays).map(([name, { dims, data }]): [string, Tensor] => [
          name,
          name === 'candidates'
            ? { dtype: 'int64', dims, data: BigInt64Array.from(data, BigInt) }
            : { dtype: 'float64', dims, data: Float64Array.from(data) },
        ]),
      );
      const given = Object.fromEntries(
        Object.entries(tensors).map(([name, t]) => [name, new Expr(graph, graph.input(name, t.dtype, t.dims))]),
      );
      const total = loss.perQuery(given as unknown as LossInputs).mean([0]);
      graph.output(total.value);
      const shapes = await probe(graph, [tensors, tensors]);
      const teacher = Object.entries(given).filter(([name]) => /teacher|pair|reliability|gumbel/.test(name));
      const found = differentiate(
        graph,
        total.value,
        teacher.map(([, e]) => e.value),
        shapes,
      );
      expect([...found.keys()].map((v) => v.name)).toEqual([]);
    });

    test('a query of padding alone gives numbers', async ({ skip }) => {
      skip(unmasked, 'the loss has no mask');
      const arrays = inputs(5);
      (arrays.mask as { data: number[] }).data.fill(0, N, 2 * N);
      const { values, gradients } = await loss.evaluate(pick(loss, arrays));
      expect(values[1]).toBeCloseTo(loss.name.includes('info-nce') ? values[1] : 0, 10);
      expect(Array.from(values).every(Number.isFinite)).toBe(true);
      for (const g of Object.values(gradients)) expect(Array.from(g).every(Number.isFinite)).toBe(true);
    });

    test('scores of ten thousand either way give numbers', async () => {
      const { values, gradients } = await loss.evaluate(pick(loss, inputs(6, 1e4)));
      expect(Array.from(values).every(Number.isFinite)).toBe(true);
      for (const g of Object.values(gradients)) expect(Array.from(g).every(Number.isFinite)).toBe(true);
    });

    test('the order of candidates after the first does not matter', async ({ skip }) => {
      skip(!loss.needs.includes('student'), 'the loss reads no scores of candidates');
      skip(Boolean(ordered), ordered);
      const arrays = inputs(7);
      const turned = inputs(7);
      for (const name of ['student', 'teacher', 'mask', 'reliability', 'candidates'] as const) {
        const own = turned[name] as { data: number[] };
        own.data = own.data.map(
          (_, i) => own.data[i % N === 0 ? i : Math.floor(i / N) * N + 1 + (((i % N) - 1 + 1) % (N - 1))],
        );
      }
      const a = await loss.evaluate(pick(loss, arrays));
      const b = await loss.evaluate(pick(loss, turned));
      a.values.forEach((v, i) => {
        expect(b.values[i]).toBeCloseTo(v, 10);
      });
    });

    test('a constant added to all student scores changes nothing, so gradients sum to 0', async ({ skip }) => {
      skip(!shiftInvariant, 'the loss follows the scores themselves');
      const arrays = inputs(8);
      const shifted = {
        ...arrays,
        student: { dims: [B, N], data: (arrays.student as { data: number[] }).data.map((v) => v + 3) },
      };
      const a = await loss.evaluate(pick(loss, arrays));
      const b = await loss.evaluate(pick(loss, shifted));
      a.values.forEach((v, i) => {
        expect(b.values[i]).toBeCloseTo(v, 9);
      });
      for (let q = 0; q < B; q++) {
        const sum = (a.gradients.student as Float64Array).slice(q * N, (q + 1) * N).reduce((s, g) => s + g, 0);
        expect(sum).toBeCloseTo(0, 10);
      }
    });
  },
);
