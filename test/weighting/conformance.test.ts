/** @file What every weighting must hold: a finite, non-negative factor for each query, whatever the lists look like. */
import { describe, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { type Weighting, type WeightingInputs, weightings } from '../../weighting/index.ts';

/** Lists of several lengths, among them of one candidate and of none; scores of some size. */
function inputs(seed: number, scale = 1): WeightingInputs & { labelled: { queries: number[]; relevant: number[] } } {
  const random = Random.of(seed, 'weighting inputs');
  const offsets = [0];
  for (let i = 0; i < 80; i++) offsets.push((offsets.at(-1) as number) + (i === 7 ? 1 : i === 9 ? 0 : 3 + (i % 4)));
  const total = offsets.at(-1) as number;
  const truth = Array.from({ length: total }, () => random.normal());
  const seen = (noise: number) => truth.map((v) => scale * (v + noise * random.normal()));
  const relevant = new Array(total).fill(0);
  for (let i = 0; i < 80; i++) {
    const own = truth.slice(offsets[i], offsets[i + 1]);
    if (own.length) relevant[offsets[i] + own.indexOf(Math.max(...own))] = 1;
  }
  return {
    teacher: { offsets, scores: seen(0.7) },
    student: seen(1),
    second: seen(0.8),
    ensemble: [seen(0.7), seen(0.7)],
    labelled: { queries: Array.from({ length: 40 }, (_, i) => i), relevant },
    losses: Array.from({ length: 80 }, () => random.uniform()),
    peer: Array.from({ length: 80 }, () => random.uniform()),
    epoch: 3,
  };
}

const cases: Record<string, Weighting[]> = {
  agreement: [weightings.agreement()],
  'calibrated-posterior': [weightings['calibrated-posterior']()],
  'co-teaching': [weightings['co-teaching']()],
  confidence: [weightings.confidence(), weightings.confidence({ power: 2 })],
  ensemble: [weightings.ensemble()],
  entropy: [weightings.entropy()],
  'error-probability': [weightings['error-probability']()],
  reliability: [weightings.reliability(), weightings.reliability({ power: 2 })],
  'small-loss': [weightings['small-loss']()],
  uniform: [weightings.uniform()],
  'weighted-distillation': [weightings['weighted-distillation']()],
};

test('every weighting has a case here', () => {
  expect(Object.keys(cases)).toEqual(Object.keys(weightings));
});

/** Those whose weights are not scaled to mean 1, with the reason. */
const unscaled: Record<string, string> = {
  'co-teaching': 'weights are 0 and 1',
  'small-loss': 'weights are 0 and 1',
  'weighted-distillation': 'the size of the weights makes the mean unbiased',
};

describe.each(
  Object.values(cases)
    .flat()
    .map((w, i) => ({ w, title: `${w.name} (${i})` })),
)('$title', ({ w }) => {
  test.each([1, 1e4])('weights at scores of size %d are finite, not negative, one a query', (scale) => {
    const given = inputs(1, scale);
    const { weights, right, targets } = w.weigh(given);
    expect(weights.length).toBe(80);
    expect(weights.every((v) => Number.isFinite(v) && v >= 0)).toBe(true);
    if (!unscaled[w.name]) expect(weights.reduce((a, b) => a + b, 0) / 80).toBeCloseTo(1, 5);
    if (right) expect(right.every((p) => p >= 0 && p <= 1)).toBe(true);
    if (targets) expect(targets.length).toBe(given.teacher.scores.length);
  });

  test('the same inputs give the same weights, and inputs are left as they are', () => {
    const given = inputs(2);
    const before = JSON.stringify(given);
    const first = w.weigh(given);
    expect(Array.from(w.weigh(given).weights)).toEqual(Array.from(first.weights));
    expect(JSON.stringify(given)).toBe(before);
  });

  test('a constant added to all scores of the teacher changes nothing', () => {
    const given = inputs(3);
    const moved = { ...given, teacher: { ...given.teacher, scores: Array.from(given.teacher.scores, (s) => s + 5) } };
    const [a, b] = [w.weigh(given).weights, w.weigh(moved).weights];
    for (let i = 0; i < a.length; i++) expect(b[i]).toBeCloseTo(a[i], 4);
  });

  test('labels of queries that are not labelled are not read', () => {
    const given = inputs(4);
    const { offsets } = given.teacher;
    const other = given.labelled.relevant.map((v, c) => (c >= offsets[40] ? 1 - v : v));
    const hidden = { ...given, labelled: { ...given.labelled, relevant: other } };
    expect(Array.from(w.weigh(hidden).weights)).toEqual(Array.from(w.weigh(given).weights));
  });

  test('a missing input is named, and one of the wrong length', () => {
    for (const name of w.needs) {
      expect(() => w.weigh({ ...inputs(1), [name]: undefined })).toThrow(`weighting '${w.name}' has no '${name}'`);
      if (name === 'student')
        expect(() => w.weigh({ ...inputs(1), student: [1] })).toThrow(
          `'student' given to weighting '${w.name}': expected`,
        );
    }
  });
});

test('an estimate from labels finds the lists that the teacher gets right', () => {
  const given = inputs(5);
  const { offsets, scores } = given.teacher;
  for (const name of ['reliability', 'calibrated-posterior', 'error-probability'] as const) {
    const { right = new Float64Array(0) } = weightings[name]().weigh(given);
    const mean = { right: [0, 0], wrong: [0, 0] };
    for (let i = 40; i < 80; i++) {
      const own = Array.from(scores).slice(offsets[i], offsets[i + 1]);
      const top = offsets[i] + own.indexOf(Math.max(...own));
      const group = given.labelled.relevant[top] ? mean.right : mean.wrong;
      group[0] += right[i];
      group[1]++;
    }
    expect(mean.right[0] / mean.right[1]).toBeGreaterThan(mean.wrong[0] / mean.wrong[1]);
  }
});
