import { describe, expect, test } from 'vitest';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { Session } from '../../engine/runtime/session.ts';
import { flops } from '../../losses/flops.ts';
import { losses } from '../../losses/index.ts';
import type { Loss } from '../../losses/loss.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import {
  type DualEncoderStepOptions,
  dualEncoderOnHost,
  dualEncoderStep,
} from '../../training/step/dual-encoder-step.ts';
import { lossGraph } from '../../training/step/loss-graph.ts';
import { emitGradients } from '../../training/step/single-run.ts';
import type { HostStep } from '../../training/step/training-step.ts';
import { AdamWHost } from '../../training/updates/adamw-host.ts';
import { batchOf, tinyStep } from './tiny.ts';

const make = (options: Partial<DualEncoderStepOptions> = {}): Promise<HostStep<StepBatch>> =>
  dualEncoderOnHost({ ...tinyStep(), ...options });

/** Gradients with rows added into their tables, by name. */
function gradientsOf(graph: HostStep<StepBatch>): Map<string, Float32Array> {
  return new Map(
    graph.parameters.map((p) => {
      const whole = p.gradient?.slice() ?? new Float32Array(p.data.length);
      const width = p.dims[1];
      for (const { indices, rows } of p.rows ?? [])
        for (const [i, index] of indices.entries())
          for (let k = 0; k < width; k++) whole[Number(index) * width + k] += rows[i * width + k];
      return [p.name, whole];
    }),
  );
}

function expectEqual(a: ReadonlyMap<string, Float32Array>, b: ReadonlyMap<string, Float32Array>, tolerance: number) {
  const norm = (values: Iterable<number>): number => Math.sqrt([...values].reduce((n, v) => n + v * v, 0));
  const whole = norm([...b.values()].flatMap((v) => [...v]));
  expect([...a.keys()]).toEqual([...b.keys()]);
  for (const [name, own] of a) {
    const other = b.get(name) as Float32Array;
    expect(norm(own.map((v, i) => v - other[i])) / whole, name).toBeLessThan(tolerance);
  }
}

describe('a step gives the same loss and gradients', () => {
  const ways: Record<string, Partial<DualEncoderStepOptions>> = {
    'in three groups': { groups: 3 },
    'in more groups than texts': { groups: 9 },
    'by GradCache, a text at a time': { gradCacheChunk: 1 },
    'by GradCache, five texts at a time': { gradCacheChunk: 5 },
    'by GradCache, all at once': { gradCacheChunk: 64 },
  };
  test.each(Object.entries(ways))('%s', async (_, options) => {
    const batch = batchOf(6);
    const [plain, other] = [await make({ groups: 1 }), await make(options)];
    const expected = await plain.run(batch);
    const result = await other.run(batch);
    expect(result.loss).toBeCloseTo(expected.loss, 5);
    expectEqual(gradientsOf(other), gradientsOf(plain), 1e-6);
    await Promise.all([plain.release(), other.release()]);
  });

  test('written for a processor or for a device', async () => {
    const batch = batchOf(6);
    const host = await make({ groups: 2 });
    const device = await dualEncoderStep({ ...tinyStep(), groups: 2 }, false);
    const { dense } = emitGradients(device.graph, device.gradients);
    const session = await Session.load(device.graph, { threads: 1 });
    const feeds = { ...Object.fromEntries(device.start), ...device.feeds(batch, 0) };
    const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])));
    expect((await host.run(batch)).loss).toBeCloseTo(Number(results[device.total].data[0]), 5);
    const own = gradientsOf(host);
    expectEqual(
      new Map([...dense.keys()].map((name) => [name, own.get(name) as Float32Array])),
      new Map([...dense].map(([name, output]) => [name, results[output].data as Float32Array])),
      1e-6,
    );
    // A vector of ones for each group; a device reduces.
    const ones = (graph: Graph): number => graph.nodes.filter((n) => n.op === 'ConstantOfShape').length;
    expect([ones(host.graph), ones(device.graph)]).toEqual([2, 0]);
    await Promise.all([host.release(), session.release()]);
  });

  test('in groups, where the model adds two weights up', async () => {
    const added = (groups: number): Promise<HostStep<StepBatch>> => {
      const { encoder, ...rest } = tinyStep();
      const hidden = encoder.outputs[0];
      const data = Float32Array.from({ length: 16 * 16 }, (_, i) => Math.sin(i));
      const weight = (name: string): Expr =>
        new Expr(encoder, encoder.constant({ dtype: 'float32', dims: [16, 16], data }, name));
      const out = new Expr(encoder, hidden).matmul(weight('one').add(weight('other'))).value;
      [hidden.name, out.name] = ['before', hidden.name];
      encoder.setOutputs(out, ...encoder.outputs.slice(1));
      return dualEncoderOnHost({ ...rest, encoder, groups });
    };
    const batch = batchOf(6);
    const [plain, parted] = [await added(1), await added(3)];
    await Promise.all([plain.run(batch), parted.run(batch)]);
    expectEqual(gradientsOf(parted), gradientsOf(plain), 1e-6);
    expect(gradientsOf(plain).get('one')).toEqual(gradientsOf(plain).get('other'));
    await Promise.all([plain.release(), parted.release()]);
  });

  test('with dropout, whether whole or by GradCache, and again from the same seed and step', async () => {
    const batch = batchOf(6);
    // One group is one chunk, so that the masks meet the same texts.
    const [whole, cached] = [await make({ dropout: 0.3, groups: 1 }), await make({ dropout: 0.3, gradCacheChunk: 64 })];
    const first = await whole.run(batch, 4);
    const gradients = gradientsOf(whole);
    expect((await whole.run(batch, 5)).loss).not.toBe(first.loss);
    expect((await whole.run(batch, 4)).loss).toBe(first.loss);
    expectEqual(gradientsOf(whole), gradients, 1e-12);
    expect((await cached.run(batch, 4)).loss).toBeCloseTo(first.loss, 5);
    expectEqual(gradientsOf(cached), gradients, 1e-6);
    await Promise.all([whole.release(), cached.release()]);
  });
});

test('training twice gives the same weights to the bit', async () => {
  const run = async (): Promise<Float32Array[]> => {
    const graph = await make({ dropout: 0.1 });
    const optimizer = new AdamWHost(graph.parameters, { clipNorm: 1 });
    for (let step = 0; step < 4; step++) {
      await graph.run(batchOf(5, step), step);
      optimizer.step(1e-2);
    }
    await graph.release();
    return graph.parameters.map((p) => p.data);
  };
  expect(await run()).toEqual(await run());
});

test('a loss whose weight grows over the training is refused: a step of dense vectors does not know the training', async () => {
  await expect(lossGraph({ losses: [{ loss: flops(), weight: 1 }], normalize: true }, 8, 20)).rejects.toThrow(
    "the weight of the loss 'flops' grows over the training",
  );
  await lossGraph({ losses: [{ loss: flops({ ramp: 0 }), weight: 1 }], normalize: true }, 8, 20);
});

test("a map into the teacher's space is learned where widths differ and where a cross-encoder's vectors are matched", async () => {
  const width = 8;
  const mapOf = async (loss: Loss, more: object): Promise<readonly number[] | undefined> =>
    (await lossGraph({ losses: [{ loss, weight: 1 }], normalize: true, ...more }, width, 20)).projection?.tensor.dims;
  const given = ['pairQueries', 'pairDocuments'] as const;
  expect(await mapOf(losses['embedding-matching'](), { teacherWidth: width })).toBeUndefined();
  expect(await mapOf(losses['embedding-matching'](), { teacherWidth: 12 })).toEqual([8, 12]);
  expect(await mapOf(losses['pair-matching'](), { teacherWidth: width, pairWidth: width, given })).toEqual([8, 8]);
});
