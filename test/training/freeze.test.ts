import { expect, test } from 'vitest';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { constantsOf } from '../../engine/passes/frozen-parameters.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { dualEncoderOnHost } from '../../training/step/dual-encoder-step.ts';
import { batchOf, tinyStep } from './tiny.ts';

const names = (freeze?: ('embeddings' | number)[]) =>
  dualEncoderOnHost({ ...tinyStep(), freeze }).then(async (step) => {
    const found = { names: step.parameters.map((p) => p.name), nodes: step.graph.nodes.length };
    await step.release();
    return found;
  });

test('parts that are frozen have no gradient, and nothing goes back below the lowest that is trained', async () => {
  const whole = await names();
  const [tables, lower, both] = [
    await names(['embeddings']),
    await names(['embeddings', 0]),
    await names(['embeddings', 0, 1]).catch((e: Error) => e.message),
  ];
  expect(whole.names.filter((n) => n.includes('embeddings')).length).toBeGreaterThan(0);
  expect(tables.names).toEqual(whole.names.filter((n) => !n.includes('embeddings')));
  expect(lower.names).toEqual(whole.names.filter((n) => !n.includes('embeddings') && !n.includes('layer.0')));
  expect(lower.nodes).toBeLessThan(0.8 * tables.nodes);
  expect(both).toMatch(/no weight/);
});

test('what is trained moves as it does where the parts below are trained too, in the first step', async () => {
  const learn = async (freeze?: ('embeddings' | number)[]): Promise<Map<string, Tensor>> => {
    // SGD without clipping: each weight moves by its own gradient.
    const learner = new HostLearner(await dualEncoderOnHost({ ...tinyStep(), freeze }), { optimizer: 'sgd' });
    await learner.step([batchOf(6)], 0, 1e-2);
    const weights = await learner.weights();
    await learner.release();
    return weights;
  };
  const [whole, upper] = [await learn(), await learn(['embeddings', 0])];
  for (const [name, { data }] of upper)
    for (const [i, x] of (data as Float32Array).entries()) expect(x).toBeCloseTo(Number(whole.get(name)?.data[i]), 6);
});

test('a layer that does not exist is refused', () => {
  expect(() => constantsOf(tinyStep().encoder, ['embeddings', 2])).toThrow(
    /the encoder has no layer 2: .*choose train\.freeze among them/,
  );
  expect(() => constantsOf(tinyStep().encoder, [-3])).toThrow('the encoder has no layer -3');
  const { encoder } = tinyStep();
  expect(constantsOf(encoder, [0, -1])).toEqual(constantsOf(encoder, [0, 1]));
});
