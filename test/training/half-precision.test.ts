import { expect, test } from 'vitest';
import { Session } from '../../engine/runtime/session.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { type DualEncoderStepOptions, dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import { emitGradients } from '../../training/step/single-run.ts';
import { LOSS_SCALE, wantedFeeds } from '../../training/step/training-step.ts';
import { batchOf, tinyStep } from './tiny.ts';

const adamw = { weightDecay: 0.1, clipNorm: 1 };
const learner = async (options: Partial<DualEncoderStepOptions> = {}) =>
  DeviceLearner.create(await dualEncoderStep({ ...tinyStep(), ...options }, false), {}, adamw, {
    loops: true,
    accumulates: true,
  });

/** Loss and dense gradients of a step, by weight. */
async function gradientsOf(options: Partial<DualEncoderStepOptions>, scale = 16) {
  const step = await dualEncoderStep({ ...tinyStep(), groups: 1, ...options }, false);
  const { dense } = emitGradients(step.graph, step.gradients);
  const session = await Session.load(step.graph, { threads: 1 });
  const extra = { [LOSS_SCALE]: { dtype: 'float32', dims: [1], data: Float32Array.of(scale) } } as const;
  const results = await session.run(
    wantedFeeds(session.inputs, Object.fromEntries(step.start), step.feeds(batchOf(6), 0), extra),
  );
  await session.release();
  const factor = step.scaled ? 1 / scale : 1;
  return {
    loss: Number(results[step.total].data[0]),
    gradients: new Map(
      [...dense].map(([name, output]) => [
        name,
        Float64Array.from(results[output].data as Float32Array, (x) => x * factor),
      ]),
    ),
  };
}

const norm = (x: ArrayLike<number>): number => Math.sqrt(Array.from(x).reduce((s, v) => s + v * v, 0));

test('losses and gradients in float16 are those in float32', async () => {
  const [one, other] = [await gradientsOf({}), await gradientsOf({ precision: 'float16' })];
  expect(Math.abs(other.loss / one.loss - 1)).toBeLessThan(2e-3);
  for (const [name, gradient] of one.gradients) {
    const half = other.gradients.get(name) as Float64Array;
    const apart = norm(gradient.map((v, i) => v - half[i]));
    // The keys' bias has no gradient but rounding.
    if (name.endsWith('key.bias')) continue;
    expect(apart / norm(gradient), name).toBeLessThan(1e-2);
  }
});

test('steps in float16 follow those in float32', async () => {
  const [one, other] = [await learner(), await learner({ precision: 'float16' })];
  for (let k = 0; k < 4; k++) {
    const [a, b] = [await one.step([batchOf(6, k)], k, 1e-3), await other.step([batchOf(6, k)], k, 1e-3)];
    expect(Math.abs(b.loss / a.loss - 1)).toBeLessThan(1e-2);
    expect(Math.abs(b.gradientNorm / a.gradientNorm - 1)).toBeLessThan(2e-2);
  }
  await Promise.all([one.release(), other.release()]);
});
