/** @file Published numbers of the architectures, what their start gives, and what their graphs compute. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { parseConfig } from '../../../config/parse.ts';
import { Expr } from '../../../engine/expressions/expr.ts';
import type { Pooling } from '../../../engine/expressions/pooling.ts';
import { Graph } from '../../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { toDouble } from '../../../engine/passes/to-float64.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { losses } from '../../../losses/index.ts';
import { Random } from '../../../math/random.ts';
import { freshModel } from '../../../models/new-model.ts';
import { byExpert } from '../../../students/architectures/experts.ts';
import { bestA, orthogonalFeatures } from '../../../students/architectures/favor.ts';
import { architectureSchema, torchFamily } from '../../../students/architectures/index.ts';
import { loadStudent } from '../../../students/encoder-student.ts';
import { huggingFaceWeights } from '../../../students/export/torch-names.ts';
import { dualEncoderOnHost } from '../../../training/step/dual-encoder-step.ts';
import { encoderGraph } from '../../../training/step/encoder-graph.ts';
import { batchOf } from '../../training/tiny.ts';
import { expertChoice, bestA as plainA } from './cases.ts';

const shape = { hidden: 16, layers: 2, heads: 2, intermediate: 32, maxLength: 24, vocabulary: 300 };
const texts = ['red lamp from the kitchen', 'guitar', 'the blue tent is still in good order'];
let folder: string;
beforeAll(async () => {
  folder = join(mkdtempSync(join(tmpdir(), 'architectures-')), 'model');
  await freshModel(folder, { length: texts.length, text: (i) => texts[i] }, { ...shape, seed: 1 });
});
const opened = (...all: object[]) => loadStudent(folder, { architecture: architectureSchema.parse(all) });

async function run(graph: Graph, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
  const session = await Session.load(graph, { threads: 1 });
  try {
    return await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])));
  } finally {
    await session.release();
  }
}
const ids = [5, 6, 7, 8, 9, 10, 11, 12];
const feeds = {
  input_ids: tensor('int64', [1, 8], ids),
  attention_mask: tensor('int64', [1, 8], [1, 1, 1, 1, 1, 1, 0, 0]),
  token_type_ids: tensor(
    'int64',
    [1, 8],
    ids.map(() => 0),
  ),
};

test('Expert Choice of two experts and four tokens takes the best two of each', async () => {
  const S = [
    [0.7, 0.3],
    [0.6, 0.4],
    [0.9, 0.1],
    [0.2, 0.8],
  ];
  const { taken } = expertChoice(S, 1);
  expect(taken.map((t) => [...t].sort())).toEqual([
    [0, 2],
    [1, 3],
  ]);
  const graph = new Graph(20);
  const logits = new Expr(graph, graph.input('logits', 'float32', ['batch', 'sequence', 2]));
  const mask = new Expr(graph, graph.input('mask', 'int64', ['batch', 'sequence']));
  for (const capacity of [1, 2]) graph.output(byExpert(logits, mask, 2, capacity).gates.value, `gates${capacity}`);
  const found = await run(graph, {
    logits: tensor('float32', [1, 4, 2], S.flat().map(Math.log)),
    mask: tensor('int64', [1, 4], [1, 1, 1, 1]),
  });
  // One expert a token here: all of its weight.
  expect(Array.from(found.gates1.data as Float32Array)).toEqual([1, 0, 0, 1, 1, 0, 0, 1]);
  // With a capacity of all experts every expert takes every token: the dense mixture.
  Array.from(found.gates2.data as Float32Array).forEach((g, i) => {
    expect(g).toBeCloseTo(S.flat()[i], 6);
  });
});

test('A* of FAVOR++ and the variance of its estimate of exp(x . y)', async () => {
  const [x, y] = [
    [0.5, -0.2, 0.1, 0.3],
    [0.1, 0.4, -0.3, 0.2],
  ];
  const graph = new Graph(20);
  const given = (name: string) => new Expr(graph, graph.input(name, 'float32', [1, 1, 1, 4]));
  const shown = new Expr(graph, graph.input('shown', 'float32', [1, 1, 1, 1]));
  graph.output(bestA(given('x'), given('y'), shown, 4).value, 'A');
  const found = await run(graph, {
    x: tensor('float32', [1, 1, 1, 4], x),
    y: tensor('float32', [1, 1, 1, 4], y),
    shown: tensor('float32', [1, 1, 1, 1], [1]),
  });
  const A = Number(found.A.data[0]);
  expect(A).toBeCloseTo(-0.070674, 5);
  expect(plainA(0.69, 4)).toBeCloseTo(-0.070674, 6);
  const random = Random.of(2, 'variance');
  const variance = (a: number): { mean: number; variance: number } => {
    const f = (w: number[], v: number[]): number => {
      const dot = (p: number[], q: number[]): number => p.reduce((s, u, i) => s + u * q[i], 0);
      return (1 - 4 * a) * Math.exp(a * dot(w, w) + Math.sqrt(1 - 4 * a) * dot(w, v) - dot(v, v) / 2);
    };
    const values = Array.from({ length: 200_000 }, () => {
      const w = x.map(() => random.normal());
      return f(w, x) * f(w, y);
    });
    const mean = values.reduce((s, v) => s + v, 0) / values.length;
    return { mean, variance: values.reduce((s, v) => s + (v - mean) ** 2, 0) / values.length };
  };
  const [plain, best] = [variance(0), variance(A)];
  expect(plain.mean).toBeCloseTo(1, 1);
  expect(best.mean).toBeCloseTo(1, 1);
  expect(plain.variance).toBeCloseTo(0.993, 1);
  expect(best.variance).toBeCloseTo(0.716, 1);
});

test('random features have the norms of a Gaussian and are orthogonal within a block', () => {
  const [d, M] = [8, 200];
  const { data } = orthogonalFeatures(d, M, Random.of(1, 'features'));
  const column = (m: number): number[] => Array.from({ length: d }, (_, i) => data[i * M + m]);
  const dot = (a: number[], b: number[]): number => a.reduce((s, v, i) => s + v * b[i], 0);
  for (let m = 1; m < d; m++) expect(dot(column(0), column(m))).toBeCloseTo(0, 4);
  const squares = Array.from({ length: M }, (_, m) => dot(column(m), column(m)));
  expect(Math.abs(squares.reduce((a, b) => a + b, 0) / M - d)).toBeLessThan(1);
});

test('balance is 1 where tokens are spread evenly, and E where one expert has all', async () => {
  const value = async (routed: number[][], gates: number[][]) =>
    (await losses['load-balance']().evaluate({ queries: [[0], [0]], routed, gates })).values;
  expect([...(await value([[2, 2, 2, 2]], [[2, 2, 2, 2]]))]).toEqual([1, 1]);
  expect([...(await value([[8, 0, 0, 0]], [[8, 0, 0, 0]]))]).toEqual([4, 4]);
  // Two layers of two experts, one even and one not: their mean.
  const mixed = await value([[2, 2, 4, 0]], [[2, 2, 4, 0]]);
  expect(mixed[0]).toBeCloseTo(1.5, 10);
});

test('experts start as the dense network, so that the output equals it', async () => {
  const plain = await loadStudent(folder);
  const hidden = async (graph: Graph) =>
    Array.from((await run(graph.clone(), feeds)).last_hidden_state.data as Float32Array);
  const before = await hidden(plain.graph);
  for (const options of [{}, { chosen: 1 }, { routing: 'expert', experts: 2, capacity: 2 }]) {
    const { graph } = await opened({ kind: 'experts', experts: 4, ...options });
    const after = await hidden(graph);
    for (let i = 0; i < 6 * shape.hidden; i++) expect(after[i]).toBeCloseTo(before[i], 5);
  }
});

test('an expert computes its own tokens alone: rows over all experts are tokens x chosen, and padding has none', async () => {
  for (const [experts, chosen] of [
    [2, 2],
    [8, 2],
    [8, 1],
  ]) {
    const { graph } = await opened({ kind: 'experts', experts, chosen, layers: [0] });
    const copy = graph.clone();
    const products = copy.nodes.filter((n) => n.op === 'MatMul' && /expert/.test(weightName(n.inputs[1])));
    expect(products.length).toBe(2 * experts);
    copy.setOutputs(...products.map((n) => n.outputs[0]));
    const rows = Object.values(await run(copy, feeds)).map((t) => t.dims[1]);
    // Two products an expert; six of the eight tokens are no padding.
    expect(rows.reduce((a, b) => a + b, 0)).toBe(2 * 6 * chosen);
  }
});
/** Texts of tokens that the small vocabulary has. */
function smallBatch() {
  const batch = batchOf(4);
  for (const { ids: own } of [batch.queries, ...batch.documents]) for (const i of own.keys()) own[i] %= 30n;
  return batch;
}
const weightName = (
  v: { name: string; producer: { inputs: readonly ({ name: string } | null)[] } | null } | null,
): string => v?.producer?.inputs[0]?.name ?? v?.name ?? '';

test('top-k keeps k units of a token; the gradient of a step by what losses read of layers reaches the first product', async () => {
  const { graph, observed, pooling } = await opened({ kind: 'top-k', keep: 3 });
  const copy = graph.clone();
  const last = copy.nodes.filter((n) => n.op === 'TopK').map((n) => n.inputs[0]);
  expect(last.length).toBe(2);
  const step = (weight: number) =>
    dualEncoderOnHost({
      encoder: observed ?? graph,
      pooling,
      normalize: true,
      losses: [
        { loss: losses['info-nce'](), weight: 1 },
        { loss: losses['activation-l1'](), weight },
      ],
      session: { threads: 1 },
    });
  const terms: number[] = [];
  const norms: number[] = [];
  for (const weight of [0.001, 1000]) {
    const own = await step(weight);
    const result = await own.run(smallBatch());
    terms.push(result.terms[1]);
    const first = own.parameters.find((p) => p.name === 'encoder.layer.0.intermediate.dense.weight');
    norms.push(Math.hypot(...(first?.gradient ?? [])));
    await own.release();
  }
  expect(terms[0]).toBeGreaterThan(0);
  expect(terms[1]).toBeCloseTo(terms[0], 6);
  expect(norms[1]).toBeGreaterThan(10 * norms[0]);
});

test('the balance of a step is that of all its texts, in one run and chunk by chunk', async () => {
  const { observed, pooling } = await opened({ kind: 'experts', experts: 4 });
  const options = {
    encoder: observed as Graph,
    pooling,
    normalize: true,
    losses: [
      { loss: losses['info-nce'](), weight: 1 },
      { loss: losses['load-balance'](), weight: 0.1 },
    ],
    session: { threads: 1 },
  };
  const [whole, chunks] = [
    await dualEncoderOnHost(options),
    await dualEncoderOnHost({ ...options, gradCacheChunk: 3 }),
  ];
  const [a, b] = [await whole.run(smallBatch()), await chunks.run(smallBatch())];
  expect(a.terms[1]).toBeGreaterThanOrEqual(0.9);
  expect(a.terms[1]).toBeLessThan(4);
  expect(b.terms[1]).toBeCloseTo(a.terms[1], 5);
  for (const p of whole.parameters) {
    const other = chunks.parameters.find((o) => o.name === p.name);
    for (const i of [0, 3, 7])
      if (p.gradient && other?.gradient) expect(other.gradient[i]).toBeCloseTo(p.gradient[i], 4);
  }
  await whole.release();
  await chunks.release();
});

test('scale-invariant: all weights times a number give the same vectors, the gradient is orthogonal to them and inverse to it', async () => {
  const { graph, pooling } = await opened({ kind: 'scale-invariant' });
  const made = await encoderGraph({ encoder: graph, pooling: pooling as Pooling, normalize: true });
  const session = await Session.load(toDouble(made.graph), { threads: 1 });
  const random = Random.of(3, 'scale');
  // Biases and gains that are not 0 and 1.
  const weights = made.weights.map((w) => ({
    name: w.name,
    dims: w.tensor.dims,
    data: Float64Array.from(w.tensor.data, (v) => v + 0.1 * random.normal()),
  }));
  const upstream = Float64Array.from({ length: made.width }, () => random.normal());
  const at = async (by: number) => {
    const own = weights.map(({ name, dims, data }) => [
      name,
      { dtype: 'float64' as const, dims, data: data.map((v) => by * v) },
    ]);
    const given: Record<string, Tensor> = {
      ...feeds,
      upstream: { dtype: 'float64', dims: [1, made.width], data: upstream },
      ...Object.fromEntries(own),
    };
    const out = await session.run(Object.fromEntries(session.inputs.map((name) => [name, given[name]])));
    const gradient = weights.map((w) => {
      const g = made.gradients.get(w.name);
      if (g && 'dense' in g) return Float64Array.from(out[g.dense.name].data as Float64Array);
      throw new Error(`${w.name} has no dense gradient`);
    });
    return { vector: Array.from(out[made.embedding.name].data as Float64Array), gradient };
  };
  const [one, two] = [await at(1), await at(2)];
  one.vector.forEach((v, i) => {
    expect(two.vector[i]).toBeCloseTo(v, 9);
  });
  let [inner, theta, g] = [0, 0, 0];
  one.gradient.forEach((own, k) => {
    own.forEach((value, i) => {
      expect(Math.abs(2 * two.gradient[k][i] - value)).toBeLessThan(1e-8);
      inner += value * weights[k].data[i];
      theta += weights[k].data[i] ** 2;
      g += value ** 2;
    });
  });
  expect(g).toBeGreaterThan(1e-6);
  expect(Math.abs(inner)).toBeLessThan(1e-6 * Math.sqrt(theta * g));
  await session.release();
});

test('PyTorch weights are written where a class computes the same, and nowhere else', async () => {
  for (const [kind, known] of [
    ['relu', true],
    ['top-k', false],
    ['favor', false],
    ['tree', false],
    ['scale-invariant', false],
    ['experts', false],
  ] as const) {
    const { graph, config } = await opened({ kind, ...(kind === 'top-k' && { keep: 4 }) });
    expect('weights' in huggingFaceWeights(graph, torchFamily(config))).toBe(known);
  }
  const { config } = await opened({ kind: 'relu' });
  expect(config.hidden_act).toBe('relu');
});

test('what does not fit is refused in a sentence', async () => {
  await expect(opened({ kind: 'relu' }, { kind: 'experts' })).rejects.toThrow(
    'student.architecture replaces the feed-forward part twice: relu, experts',
  );
  await expect(opened({ kind: 'scale-invariant' }, { kind: 'relu' })).rejects.toThrow(
    'scale-invariant replaces every layer whole',
  );
  await expect(opened({ kind: 'scale-invariant', layers: [0] })).rejects.toThrow('layers: [0]');
  await expect(opened({ kind: 'relu', layers: [2] })).rejects.toThrow(
    /has no layer 2: .* choose student\.architecture/,
  );
  await expect(opened({ kind: 'top-k', keep: 33 })).rejects.toThrow('layer 0 has 32 hidden units');
  const { graph } = await opened({ kind: 'relu' });
  const step = { encoder: graph, pooling: 'mean' as const, normalize: true, session: { threads: 1 } };
  await expect(dualEncoderOnHost({ ...step, losses: [{ loss: losses['load-balance'](), weight: 1 }] })).rejects.toThrow(
    "a loss reads 'gates', which the layers of the student do not give",
  );
  expect(() =>
    parseConfig({ data: { path: 'data' }, student: { model: 'm', architecture: { kind: 'expert' } } } as never),
  ).toThrow();
  const { student } = parseConfig({
    data: { path: 'data' },
    student: { model: 'm', architecture: [{ kind: 'experts' }, { kind: 'favor', features: 32 }] },
  } as never);
  expect(student).toMatchObject({ architecture: [{ kind: 'experts', experts: 8, chosen: 2 }, { features: 32 }] });
});
