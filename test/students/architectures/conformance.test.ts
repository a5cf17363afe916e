/** @file What every architecture must hold: what it computes, its gradients, padding, and the graph that is saved. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Graph } from '../../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { encodeGraph, parseGraph } from '../../../engine/io/onnx-file.ts';
import { findLayers } from '../../../engine/passes/layers.ts';
import { toDouble } from '../../../engine/passes/to-float64.ts';
import { trainableConstants } from '../../../engine/passes/trainable-parameters.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { Random } from '../../../math/random.ts';
import { freshModel } from '../../../models/new-model.ts';
import { architectureSchema, architectures } from '../../../students/architectures/index.ts';
import { loadStudent } from '../../../students/encoder-student.ts';
import { type Student, withWeights } from '../../../students/student.ts';
import { type EncoderGraph, encoderGraph } from '../../../training/step/encoder-graph.ts';
import { type Case, cases, plainFeedForward } from './cases.ts';
import { encode, fullAttention } from './plain.ts';

const shape = { hidden: 16, layers: 2, heads: 2, intermediate: 32, maxLength: 24, vocabulary: 300 };
const texts = ['red lamp from the kitchen', 'guitar', 'the blue tent is still in good order'];
let folder: string;
beforeAll(async () => {
  folder = join(mkdtempSync(join(tmpdir(), 'architectures-')), 'model');
  await freshModel(folder, { length: texts.length, text: (i) => texts[i] }, { ...shape, seed: 1 });
});

const all = Object.keys(architectures).flatMap((kind) =>
  (cases[kind] ?? []).map((c) => ({ ...c, kind, title: `${kind} ${JSON.stringify(c.options)}` })),
);

test('every architecture has a case', () => {
  expect(Object.keys(cases).sort()).toEqual(Object.keys(architectures).sort());
});

/** The student with other weights than those at the start: experts that differ, biases that are not 0. */
async function opened({ kind, options }: Case & { kind: string }): Promise<{ student: Student; graph: Graph }> {
  const student = await loadStudent(folder, { architecture: architectureSchema.parse({ kind, ...options }) });
  const random = Random.of(5, 'weights');
  const moved = new Map<string, Tensor>(
    trainableConstants(student.graph).map((v) => {
      const { dims, data } = v.constant as Tensor<'float32'>;
      return [v.name, { dtype: 'float32', dims, data: data.map((x) => x + 0.15 * random.normal()) }];
    }),
  );
  return { student, graph: withWeights(student.observed ?? student.graph, moved) };
}

/** Texts of 7, 1 and 4 tokens. */
const ids = [[5, 6, 7, 8, 9, 10, 11], [12], [6, 6, 13, 14]];
function batch(rows: readonly (readonly number[])[], length: number): Record<string, Tensor> {
  const at = (f: (row: readonly number[], i: number) => number): Tensor =>
    tensor(
      'int64',
      [rows.length, length],
      rows.flatMap((row) => Array.from({ length }, (_, i) => f(row, i))),
    );
  return {
    input_ids: at((row, i) => row[i] ?? 3),
    attention_mask: at((row, i) => Number(i < row.length)),
    token_type_ids: at(() => 0),
  };
}

async function run(graph: Graph, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
  const session = await Session.load(graph.clone(), { threads: 1 });
  try {
    return await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])));
  } finally {
    await session.release();
  }
}
const floats = (t: Tensor): number[] => Array.from(t.data as Float32Array);

describe.each(all)('$title', (c) => {
  test('it computes what plain loops compute, whatever stands in the padding and the batch', async () => {
    const { graph } = await opened(c);
    const weights = new Map(graph.constants.map((v) => [v.name, v.constant as Tensor]));
    const own = c.plain(weights);
    const model = { feedForward: plainFeedForward(weights), attend: fullAttention, ...own, weights, ...shape };
    const D = shape.hidden;
    for (const length of [7, 12]) {
      const out = await run(graph, batch(ids, length));
      const hidden = floats(out.last_hidden_state);
      for (const [b, row] of ids.entries()) {
        const plain = encode(row, model);
        for (const [t, vector] of plain.entries())
          for (const [i, v] of vector.entries()) expect(hidden[(b * length + t) * D + i]).toBeCloseTo(v, 4);
      }
    }
  });

  test.each(['plain', 'cuda', 'webgpu'] as const)('gradients are those of central differences: %s', async (forms) => {
    const { graph, student } = await opened(c);
    const observed = (student.observed?.outputs.slice(1) ?? []).map((v) => v.name as 'gates');
    const options = { encoder: graph, pooling: 'mean', normalize: true, observed, forms } as const;
    const made: EncoderGraph = await encoderGraph(options);
    const names = [...made.gradients].map(([name, g]) => [name, 'dense' in g ? g.dense.name : ''] as const);
    const dense = names.filter(([, output]) => output);
    const session = await Session.load(toDouble(made.graph), { threads: 1 });
    const random = Random.of(7, 'direction');
    const double = (t: Tensor, by: (i: number) => number = () => 0): Tensor => ({
      dtype: 'float64',
      dims: t.dims,
      data: Float64Array.from(t.data as Float32Array, (x, i) => x + by(i)),
    });
    const weights = new Map(made.weights.map((w) => [w.name, w.tensor]));
    const directions = new Map(
      dense.map(([name]) => [
        name,
        Float64Array.from((weights.get(name) as Tensor).data as Float32Array, () => random.normal()),
      ]),
    );
    const upstream = tensor(
      'float64',
      [3, made.width],
      Array.from({ length: 3 * made.width }, () => random.normal()),
    );
    const at = async (step: number, only?: RegExp) => {
      const feeds: Record<string, Tensor> = { ...batch(ids, 8), upstream };
      for (const [name, t] of weights)
        feeds[name] = double(t, (i) => (!only || only.test(name) ? step * (directions.get(name)?.[i] ?? 0) : 0));
      return session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])));
    };
    const value = (out: Record<string, Tensor>): number =>
      (out[made.embedding.name].data as Float64Array).reduce((s, v, i) => s + v * Number(upstream.data[i]), 0);
    const found = await at(0);
    const h = 1e-6;
    // What an architecture adds has a check of its own, so that its part is not lost in the sum.
    const added = [/router/, /expert0/].filter((r) => dense.some(([name]) => r.test(name)));
    for (const only of [undefined, ...added]) {
      const slope = (value(await at(h, only)) - value(await at(-h, only))) / (2 * h);
      const dot = dense
        .filter(([name]) => !only || only.test(name))
        .reduce(
          (sum, [name, output]) =>
            sum +
            Array.from(found[output].data as Float64Array).reduce(
              (s, g, i) => s + g * (directions.get(name) as Float64Array)[i],
              0,
            ),
          0,
        );
      expect(Math.abs(dot - slope)).toBeLessThan(1e-5 * Math.max(1, Math.abs(slope)));
    }
    await session.release();
  });

  test('the graph that is saved gives the vectors of the training graph, and is trained in the same weights when it is read', async () => {
    const { student, graph } = await opened(c);
    const trained = new Map(graph.constants.map((v) => [v.name, v.constant as Tensor]));
    const saved = parseGraph(encodeGraph(await student.inferenceGraph(trained)));
    expect(saved.outputs.map((v) => v.name)).toEqual(['last_hidden_state']);
    const made = await encoderGraph({ encoder: graph, pooling: 'mean', normalize: false });
    const [feeds, D] = [batch(ids, 8), shape.hidden];
    const weights = Object.fromEntries(made.weights.map((w) => [w.name, w.tensor]));
    const forward = made.graph.clone();
    forward.setOutputs(...forward.outputs.filter((v) => v.name === made.embedding.name));
    forward.dropUnused();
    const pooled = floats(Object.values(await run(forward, { ...feeds, ...weights }))[0]);
    const hidden = floats((await run(saved, feeds)).last_hidden_state);
    for (const [b, row] of ids.entries())
      for (let i = 0; i < D; i++) {
        const mean = row.reduce((s, _, t) => s + hidden[(b * 8 + t) * D + i], 0) / row.length;
        expect(pooled[b * D + i]).toBeCloseTo(mean, 4);
      }
    const again = await encoderGraph({ encoder: saved, pooling: 'mean', normalize: false });
    expect(again.weights.map((w) => w.name).sort()).toEqual(made.weights.map((w) => w.name).sort());
    expect(again.weights.map((w) => w.name).filter((n) => /random_features|tree_direction/.test(n))).toEqual([]);
  });

  test('its layers are found as before', async () => {
    const { student } = await opened(c);
    expect(findLayers(student.graph.clone()).length).toBe(shape.layers);
  });
});
