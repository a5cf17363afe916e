/** @file Sequential Attention: its mask, its phases, and the order of Orthogonal Matching Pursuit on orthogonal designs. */
import { expect, test } from 'vitest';
import { selectFeatures } from '../../adaptive/rules/selected.ts';
import { FEATURES } from '../../adaptive/rules/states.ts';
import { Random } from '../../math/random.ts';
import { SequentialAttention } from '../../math/sequential-attention.ts';

/** y = X b of an orthogonal design with columns of squared length n: the loss needs b alone. Weights are trained together with the mask. */
function regression(b: readonly number[], keep: number, step: number): number[] {
  const choice = new SequentialAttention({ features: b.length, keep, step, random: Random.of(1, 'test') });
  const weights = b.map(() => 0);
  const descend = (mask: ArrayLike<number>, rounds: number) => {
    for (let r = 0; r < rounds; r++)
      for (const i of b.keys()) weights[i] += 0.5 * mask[i] * (b[i] - mask[i] * weights[i]);
  };
  descend(new Float64Array(b.length).fill(1), 50);
  while (!choice.finished) {
    const mask = choice.mask();
    const phase = choice.chosen.length;
    const sum = mask.reduce((s, m) => s + m, 0);
    expect([1 + phase, b.length].some((expected) => Math.abs(sum - expected) < 1e-9)).toBe(true);
    choice.update(b.map((value, i) => -weights[i] * (value - mask[i] * weights[i])));
    descend(mask, 1);
  }
  const mask = choice.mask();
  expect(choice.chosen.map((i) => mask[i])).toEqual(choice.chosen.map(() => 1));
  expect(mask.reduce((s, m) => s + m, 0)).toBeCloseTo(keep === b.length ? keep : 1 + keep, 9);
  return choice.chosen;
}

test('on an orthogonal design features are chosen by descending |X^T y|, the order of OMP', () => {
  const random = Random.of(4, 'design');
  for (let trial = 0; trial < 5; trial++) {
    const b = Array.from({ length: 12 }, (_, i) => (i + 1) * (random.uniform() < 0.5 ? -1 : 1) * 0.3);
    random.shuffle(b as never);
    const order = [...b.keys()].sort((i, j) => Math.abs(b[j]) - Math.abs(b[i]));
    expect(regression(b, 6, 1)).toEqual(order.slice(0, 6));
  }
});

test('several a phase: all k are chosen, the best ones', () => {
  const b = [0.1, -2, 0.4, 1.7, -0.2, 1.1, 0.9, -1.4, 0.05, 0.3, -0.6, 0.7];
  const chosen = regression(b, 8, 2);
  expect(chosen.length).toBe(8);
  const best = [...b.keys()].sort((i, j) => Math.abs(b[j]) - Math.abs(b[i])).slice(0, 8);
  expect([...chosen].sort()).toEqual(best.sort());
  expect(regression(b, 12, 4).length).toBe(12);
});

test('the features of a deferral rule: those that the gains were made of are found, most important first', () => {
  const random = Random.of(9, 'rule');
  const n = 400;
  const features = Float64Array.from({ length: n * FEATURES }, () => random.normal());
  const gains = Float64Array.from(
    { length: n },
    (_, i) =>
      0.5 * features[i * FEATURES + 3] -
      0.3 * features[i * FEATURES + 7] +
      0.1 * features[i * FEATURES] +
      0.01 * random.normal(),
  );
  expect(selectFeatures({ features, gains, wrong: new Uint8Array(n) }, 3)).toEqual([3, 7, 0]);
});

test('what cannot be chosen is refused', () => {
  const make = (keep: number, step: number) =>
    new SequentialAttention({ features: 6, keep, step, random: Random.of(0, 'x') });
  expect(() => make(7, 1)).toThrow('7 of 6 features, 1 at a time');
  expect(() => make(4, 3)).toThrow('4 of 6 features, 3 at a time');
  expect(() => make(0, 1)).toThrow('0 of 6 features');
});
