/** @file A student with exits: what training sees after each layer is what the model cut there gives. */
import { describe, expect, test } from 'vitest';
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { addExits, exitGraph } from '../../engine/passes/exits.ts';
import { Session } from '../../engine/runtime/session.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { Random } from '../../math/random.ts';
import { bertGraph } from '../../models/bert.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import { HostLearner } from '../../training/host-learner.ts';
import {
  type DualEncoderStepOptions,
  dualEncoderOnHost,
  dualEncoderStep,
} from '../../training/step/dual-encoder-step.ts';
import { encoderGraph } from '../../training/step/encoder-graph.ts';
import { emitGradients } from '../../training/step/single-run.ts';
import { batchOf } from './tiny.ts';

const WIDTH = 16;
const encoder = (layers = 3): Graph =>
  bertGraph(
    { vocabularySize: 300, hidden: WIDTH, layers, heads: 2, intermediate: 32, maxLength: 24 },
    Random.of(3, 'weights'),
  );
const options = (more: Partial<DualEncoderStepOptions> = {}): DualEncoderStepOptions => ({
  encoder: encoder(),
  pooling: 'mean',
  normalize: true,
  losses: [{ loss: infoNCE(), weight: 1 }],
  frozenDocuments: WIDTH,
  session: { threads: 1 },
  ...more,
});
/** Queries over vectors of as many documents. */
function frozen(n: number, width = WIDTH): StepBatch {
  const { documents: _, ...rest } = batchOf(n);
  const random = Random.of(1, 'documents');
  const data = Float32Array.from({ length: n * width }, () => random.normal() / Math.sqrt(width));
  return { ...rest, documents: [], documentEmbeddings: { dtype: 'float32', dims: [n, width], data } };
}
const feedsOf = ({ queries }: StepBatch): Record<string, Tensor> =>
  Object.fromEntries(
    (
      [
        ['input_ids', queries.ids],
        ['attention_mask', queries.mask],
        ['token_type_ids', queries.typeIds],
      ] as const
    ).map(([name, data]) => [name, { dtype: 'int64', dims: [queries.rows, queries.length], data }]),
  );
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from(a, (v, i) => Math.abs(v - b[i])));

test('each exit equals the model cut after its layers', async () => {
  const graph = encoder();
  graph.setOutputs(graph.outputs[0]);
  const names = addExits(graph, [1, 2]).map((v) => v.name);
  const session = await Session.load(graph, { threads: 1 });
  const feeds = feedsOf(frozen(5));
  const all = await session.run(Object.fromEntries(session.inputs.map((n) => [n, feeds[n]])));
  for (const [i, n] of [1, 2].entries()) {
    const cut = exitGraph(encoder(), n);
    const alone = await Session.load(cut, { threads: 1 });
    const own = (await alone.run(Object.fromEntries(alone.inputs.map((k) => [k, feeds[k]]))))[cut.outputs[0].name];
    expect(distance(all[names[i]].data as Float32Array, own.data as Float32Array)).toBeLessThan(1e-5);
    await alone.release();
  }
  expect(distance(all[names[0]].data as Float32Array, all[names[1]].data as Float32Array)).toBeGreaterThan(0.01);
  await session.release();
});

test('the embeddings of training equal those of each cut model, and layers are computed once', async () => {
  const whole = await encoderGraph(options({ exits: [1, 2] }));
  const one = await encoderGraph(options());
  expect(whole.width).toBe(3 * WIDTH);
  const count = (nodes: typeof whole.forward): number => nodes.filter((n) => n.op === 'Softmax').length;
  expect([count(whole.forward), count(one.forward)]).toEqual([3, 3]);
  const feeds = feedsOf(frozen(5));
  const embed = async (made: typeof whole): Promise<Float32Array> => {
    const graph = made.graph.clone();
    graph.setOutputs(graph.values().get(made.embedding.name) as never);
    graph.dropUnused();
    const session = await Session.load(graph, { threads: 1 });
    const weights = Object.fromEntries(made.weights.map((w) => [w.name, w.tensor]));
    const given = { ...feeds, ...weights };
    const out = await session.run(Object.fromEntries(session.inputs.map((n) => [n, given[n]])));
    await session.release();
    return out[session.outputs[0]].data as Float32Array;
  };
  const all = await embed(whole);
  for (const [part, n] of [1, 2, 3].entries()) {
    const own = await embed(await encoderGraph(options({ encoder: n < 3 ? exitGraph(encoder(), n) : encoder() })));
    for (let r = 0; r < 5; r++)
      expect(
        distance(
          all.subarray((3 * r + part) * WIDTH, (3 * r + part + 1) * WIDTH),
          own.subarray(r * WIDTH, (r + 1) * WIDTH),
        ),
      ).toBeLessThan(1e-5);
  }
});

describe('a step', () => {
  const lossOf = async (more: Partial<DualEncoderStepOptions>, batch = frozen(6)): Promise<number> => {
    const step = await dualEncoderOnHost(options(more));
    const { loss } = await step.run(batch);
    await step.release();
    return loss;
  };

  test.each<[string, Partial<DualEncoderStepOptions>]>([
    ["in the documents' space", {}],
    ['behind a projection', { frozenDocuments: 24, teacherWidth: 24 }],
  ])('has the mean of the losses of its depths, %s', async (_, more) => {
    const batch = frozen(6, more.frozenDocuments ?? WIDTH);
    const alone = [
      await lossOf({ ...more, encoder: exitGraph(encoder(), 1) }, batch),
      await lossOf({ ...more, encoder: exitGraph(encoder(), 2) }, batch),
      await lossOf(more, batch),
    ];
    const mean = alone.reduce((a, b) => a + b) / 3;
    expect(Math.abs(alone[0] - alone[2])).toBeGreaterThan(1e-4);
    expect(await lossOf({ ...more, exits: [1, 2] }, batch)).toBeCloseTo(mean, 5);
    expect(await lossOf({ ...more, exits: [1, 2], groups: 2 }, batch)).toBeCloseTo(mean, 5);
    expect(await lossOf({ ...more, exits: [1, 2], gradCacheChunk: 4 }, batch)).toBeCloseTo(mean, 5);
  });

  test('has the gradients of that mean, written for a processor, for a device and by GradCache', async () => {
    const batch = frozen(6);
    const gradients = async (more: Partial<DualEncoderStepOptions>): Promise<Map<string, Float32Array>> => {
      const step = await dualEncoderOnHost(options(more));
      await step.run(batch);
      const found = new Map(
        step.parameters.flatMap((p) => (p.gradient ? [[p.name, p.gradient.slice()] as const] : [])),
      );
      await step.release();
      return found;
    };
    const depths = [exitGraph(encoder(), 1), exitGraph(encoder(), 2), encoder()];
    const alone: Map<string, Float32Array>[] = [];
    for (const encoder of depths) alone.push(await gradients({ encoder }));
    const host = await gradients({ exits: [1, 2], groups: 2 });
    const cached = await gradients({ exits: [1, 2], gradCacheChunk: 4 });
    const step = await dualEncoderStep({ ...options({ exits: [1, 2] }), groups: 2 }, false);
    const { dense } = emitGradients(step.graph, step.gradients);
    const session = await Session.load(step.graph, { threads: 1 });
    const feeds = { ...Object.fromEntries(step.start), ...step.feeds(batch, 0) };
    const device = await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])));
    await session.release();
    expect([...host.keys()]).toEqual([...(alone[2] as Map<string, Float32Array>).keys()]);
    for (const [name, own] of host) {
      const mean = own.map((_, i) => alone.reduce((sum, a) => sum + (a.get(name)?.[i] ?? 0), 0) / 3);
      // Of the size of the gradient: that of a table sums over all tokens.
      const near = 1e-5 * Math.max(1, ...mean.map(Math.abs));
      expect(distance(own, mean), name).toBeLessThan(near);
      expect(distance(cached.get(name) as Float32Array, mean), name).toBeLessThan(near);
      const output = dense.get(name);
      if (output) expect(distance(device[output].data as Float32Array, mean), name).toBeLessThan(near);
    }
  });

  test('teaches every depth, the first layer too', async () => {
    const batch = frozen(6);
    const step = await dualEncoderOnHost(options({ exits: [1, 2], dropout: 0.1 }));
    const learner = new HostLearner(step);
    let last = 0;
    for (let i = 0; i < 30; i++) last = (await learner.step([batch], i, 1e-2)).loss;
    const weights = await learner.weights();
    await step.release();
    expect(last).toBeLessThan(0.5 * (await lossOf({ exits: [1, 2] })));
    const trained = encoder();
    for (const v of trained.constants) {
      const own = weights.get(v.name);
      if (own && v.constant) v.constant = { ...own, dims: v.constant.dims } as Tensor;
    }
    for (const n of [1, 2])
      expect(await lossOf({ encoder: exitGraph(trained, n) })).toBeLessThan(
        0.6 * (await lossOf({ encoder: exitGraph(encoder(), n) })),
      );
  });
});

test('layers that do not exist, and documents that are trained, are refused', async () => {
  await expect(encoderGraph(options({ exits: [3] }))).rejects.toThrow(
    'exits after the layers [3]: expected numbers from 1 to 2, ascending',
  );
  await expect(encoderGraph(options({ exits: [2, 1] }))).rejects.toThrow('exits after the layers [2,1]');
  await expect(encoderGraph(options({ encoder: encoder(1), exits: [1] }))).rejects.toThrow(
    'a model of two layers or more',
  );
  await expect(dualEncoderOnHost(options({ frozenDocuments: undefined, exits: [1] }))).rejects.toThrow(
    'a student with exits needs frozen documents, which all its depths search',
  );
});
