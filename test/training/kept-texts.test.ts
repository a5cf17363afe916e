/** @file General spans in a training step: the value of their loss, its part in the total and in every gradient. */
import { expect, test } from 'vitest';
import { embeddingMatching } from '../../losses/embedding-matching.ts';
import { Random } from '../../math/random.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import { makeBatch } from '../../training/batches/dual-encoder-batch.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner } from '../../training/host-learner.ts';
import {
  type DualEncoderStepOptions,
  dualEncoderOnHost,
  dualEncoderStep,
} from '../../training/step/dual-encoder-step.ts';
import { batchOf, tinyStep } from './tiny.ts';

const WIDTH = 16;
const loss = embeddingMatching({ of: 'queries', distance: 'squared' });
const options = (more: Partial<DualEncoderStepOptions> = {}): DualEncoderStepOptions => ({
  ...tinyStep(),
  kept: { loss, weight: 3, width: WIDTH },
  ...more,
});
/** The first texts of another batch, with targets of the given numbers. */
function withKept(batch: StepBatch, n: number, target: (i: number) => number, width = WIDTH): StepBatch {
  const texts = batchOf(n, 7).queries;
  const data = Float32Array.from({ length: n * width }, (_, i) => target(i));
  return { ...batch, kept: { texts, embeddings: { dtype: 'float32', dims: [n, width], data } } };
}
const normal = (seed: number) => {
  const random = Random.of(seed);
  return () => random.normal();
};

test('the term is the mean squared distance to the given embeddings, and counts in the total by its weight', async () => {
  const host = await dualEncoderOnHost(options());
  const alone = await dualEncoderOnHost(tinyStep());
  const batch = batchOf(4);
  const [n, targets] = [3, Float32Array.from({ length: 3 * WIDTH }, normal(5))];
  const term = async (target: (i: number) => number): Promise<number> =>
    (await host.run(withKept(batch, n, target))).terms[1];
  // |s - t|^2 with unit vectors s: at 0 it is 1, and differences from that give the coordinates of s.
  expect(await term(() => 0)).toBeCloseTo(1, 5);
  const vectors = new Float64Array(n * WIDTH);
  for (let i = 0; i < n * WIDTH; i++) vectors[i] = (n * (1 - (await term((k) => Number(k === i)))) + 1) / 2;
  let expected = 0;
  for (let i = 0; i < n * WIDTH; i++) expected += (vectors[i] - targets[i]) ** 2 / n;
  const found = await host.run(withKept(batch, n, (i) => targets[i]));
  expect(found.terms[1]).toBeCloseTo(expected, 4);
  const { loss: own } = await alone.run(batch);
  expect(found.terms[0]).toBeCloseTo(own, 5);
  expect(found.loss).toBeCloseTo(own + 3 * expected, 3);
  // Embeddings at their targets add nothing.
  expect(await term((i) => vectors[i])).toBeLessThan(1e-5);
  await Promise.all([host.release(), alone.release()]);
});

test('GradCache and a device give the same term and the same step', async () => {
  const batch = withKept(batchOf(5), 3, normal(2));
  const adamw = { weightDecay: 0.1, clipNorm: 1 };
  const device = await dualEncoderStep(options(), false);
  const learners = [
    new HostLearner(await dualEncoderOnHost(options()), adamw),
    new HostLearner(await dualEncoderOnHost(options({ gradCacheChunk: 2 })), adamw),
    await DeviceLearner.create(device, {}, adamw),
    await DeviceLearner.create(await dualEncoderStep(options(), false), {}, adamw, { loops: true }),
  ];
  const steps = [];
  for (const learner of learners) steps.push(await learner.step([batch], 0, 1e-2));
  for (const { loss: total, terms, gradientNorm } of steps) {
    expect(total).toBeCloseTo(steps[0].loss, 4);
    expect(terms[1]).toBeCloseTo(steps[0].terms[1], 4);
    expect(gradientNorm / steps[0].gradientNorm).toBeCloseTo(1, 4);
  }
  await Promise.all(learners.map((l) => l.release()));
});

test('the gradient is that of the total: along it the loss falls by its squared length', async () => {
  const host = await dualEncoderOnHost(options());
  const batch = withKept(batchOf(4), 3, normal(3));
  const { loss: before } = await host.run(batch);
  const p = host.parameters.find((q) => q.gradient && q.name.includes('intermediate')) ?? host.parameters[1];
  const gradient = (p.gradient as Float32Array).slice();
  const length = gradient.reduce((s, g) => s + g * g, 0);
  const step = 1e-2 / Math.sqrt(length);
  for (const [i, g] of gradient.entries()) p.data[i] -= step * g;
  const { loss: after } = await host.run(batch);
  expect((before - after) / (step * length)).toBeCloseTo(1, 1);
  await host.release();
});

test('over frozen documents it is compared in their space, and another width is refused', async () => {
  const { documents: _, ...rest } = batchOf(4);
  const vectors = Float32Array.from({ length: 4 * WIDTH }, normal(1));
  const frozen: StepBatch = {
    ...rest,
    documents: [],
    documentEmbeddings: { dtype: 'float32', dims: [4, WIDTH], data: vectors },
  };
  const host = await dualEncoderOnHost(options({ frozenDocuments: WIDTH }));
  expect((await host.run(withKept(frozen, 3, () => 0))).terms[1]).toBeCloseTo(1, 5);
  await host.release();
  await expect(dualEncoderOnHost(options({ kept: { loss, weight: 1, width: 8 } }))).rejects.toThrow(
    "the encoder of 'student.keep' gives 8 columns and the student's embeddings have 16; name an encoder of the same width",
  );
});

test('a step draws other spans than the texts of the embedder, the same ones at each call', () => {
  const token = (i: number) => ({ ids: Int32Array.of(i), typeIds: Int32Array.of(0) });
  const texts = {
    tokens: token,
    count: 50,
    embeddings: { dimensions: 1, data: Float32Array.from({ length: 50 }, (_, i) => i) },
  };
  const source = {
    examples: {
      queries: Int32Array.of(0),
      offsets: Int32Array.of(0, 1),
      documents: Int32Array.of(0),
      scores: new Float32Array(1),
      labelled: Uint8Array.of(1),
      weights: Float32Array.of(1),
      relevant: () => new Set<number>(),
    },
    queryTokens: token,
    documentTokens: token,
    padId: 0,
    extra: texts,
    kept: texts,
  };
  const at = (step: number) => {
    const { kept, extra } = makeBatch(source, step, {
      queries: 1,
      candidates: 1,
      documentGroups: 1,
      extraTexts: 8,
      keptTexts: 8,
      seed: 0,
    });
    const numbers = (t: typeof kept) => Array.from((t?.embeddings.data ?? []) as Float32Array);
    expect(Array.from(kept?.texts.ids ?? [], Number)).toEqual(numbers(kept));
    expect(numbers(kept)).toHaveLength(8);
    return { kept: numbers(kept), extra: numbers(extra) };
  };
  expect(at(2)).toEqual(at(2));
  expect(at(2).kept).not.toEqual(at(3).kept);
  expect(at(2).kept).not.toEqual(at(2).extra);
});
