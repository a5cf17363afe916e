/** @file What every selection must hold: valid positions, no repeats, the budget, the seed, order of input, ties. */
import { describe, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import {
  type CandidateSelection,
  candidateSelections,
  type QueryInputs,
  type QuerySelection,
  querySelections,
} from '../../selection/index.ts';

const [n, N, D] = [60, 6, 8];

function inputs(seed: number): QueryInputs & { chosen: number[] } {
  const random = Random.of(seed, 'selection inputs');
  const normal = (count: number) => Array.from({ length: count }, () => random.normal());
  const offsets = Array.from({ length: n + 1 }, (_, i) => i * N);
  const chosen = [3, 17, 41];
  return {
    count: n,
    student: { offsets, scores: normal(n * N) },
    second: { offsets, scores: normal(n * N) },
    embeddings: { dimensions: D, data: normal(n * D) },
    chosen,
    gradients: { dimensions: D, data: normal(chosen.length * D) },
    teacherError: 0.2,
  };
}

/** The same queries in another order: new position k holds old order[k]. */
function reordered(from: QueryInputs & { chosen: number[] }, order: number[]): QueryInputs {
  const rows = (x: ArrayLike<number>, width: number) =>
    order.flatMap((i) => Array.from(x).slice(i * width, (i + 1) * width));
  const lists = (l: QueryInputs['student']) => l && { offsets: l.offsets, scores: rows(l.scores, N) };
  return {
    ...from,
    student: lists(from.student),
    second: lists(from.second),
    embeddings: from.embeddings && { dimensions: D, data: rows(from.embeddings.data, D) },
    chosen: from.chosen.map((i) => order.indexOf(i)),
  };
}

const cases: Record<string, { make: () => QuerySelection; drawn?: string }[]> = {
  diverse: [{ make: querySelections.diverse, drawn: 'k-means++ draws by position' }],
  entropy: [{ make: querySelections.entropy }],
  'farthest-first': [{ make: querySelections['farthest-first'] }],
  'gradient-guided': [{ make: querySelections['gradient-guided'] }],
  iwes: [
    { make: querySelections.iwes, drawn: 'the pool is shuffled' },
    { make: () => querySelections.iwes({ by: 'disagreement' }), drawn: 'the pool is shuffled' },
  ],
  'least-confidence': [{ make: querySelections['least-confidence'] }],
  margin: [{ make: querySelections.margin }],
  rad: [{ make: querySelections.rad }],
  random: [{ make: querySelections.random, drawn: 'the pool is shuffled' }],
  tgt: [{ make: querySelections.tgt, drawn: 'chosen queries are shuffled' }],
};

test('every selection of queries has a case here', () => {
  expect(Object.keys(cases)).toEqual(Object.keys(querySelections));
});

const all = Object.values(cases)
  .flat()
  .map((c) => ({ ...c, selection: c.make() }));

describe.each(all.map((c, i) => ({ ...c, title: `${c.selection.name} (${i})` })))('$title', ({ selection, drawn }) => {
  test.each([0, 1, 20, n, 1000])(
    'a budget of %d gives so many valid positions, none twice, none chosen before',
    (budget) => {
      const given = inputs(1);
      const { indices, weights } = selection.select(given, { budget, seed: 5 });
      expect(indices.length).toBe(Math.min(budget, n - given.chosen.length));
      expect(new Set(indices).size).toBe(indices.length);
      for (const i of indices) {
        expect(i).toBeGreaterThanOrEqual(0);
        expect(i).toBeLessThan(n);
        expect(given.chosen).not.toContain(i);
      }
      if (weights) expect(weights.every((w) => Number.isFinite(w) && w > 0)).toBe(true);
      if (weights) expect(weights.length).toBe(indices.length);
    },
  );

  test('the same seed gives the same choice, and another seed another where it draws', () => {
    const choose = (seed: number) => Array.from(selection.select(inputs(2), { budget: 15, seed }).indices);
    expect(choose(1)).toEqual(choose(1));
    if (drawn || selection.name === 'rad') expect(choose(1)).not.toEqual(choose(2));
    else expect(choose(1)).toEqual(choose(2));
  });

  test.skipIf(drawn)('the order in which queries come does not matter', () => {
    const given = inputs(3);
    const order = Array.from(Random.of(3).shuffle(Array.from({ length: n }, (_, i) => i)));
    const sorted = (x: Iterable<number>) => [...x].sort((a, b) => a - b);
    const plain = selection.select(given, { budget: 15, seed: 1 }).indices;
    const turned = selection.select(reordered(given, order), { budget: 15, seed: 1 }).indices;
    expect(sorted(Array.from(turned, (k) => order[k]))).toEqual(sorted(plain));
  });

  test.skipIf(drawn)('of equal queries the lowest positions are taken', () => {
    const given = inputs(4);
    const same = (x: ArrayLike<number> | undefined, width: number) =>
      Array.from({ length: x?.length ?? 0 }, (_, i) => x?.[i % width] ?? 0);
    const { indices } = selection.select(
      {
        ...given,
        student: given.student && { offsets: given.student.offsets, scores: same(given.student.scores, N) },
        embeddings: given.embeddings && { dimensions: D, data: same(given.embeddings.data, D) },
        chosen: [5],
        gradients: { dimensions: D, data: same(given.gradients?.data, D).slice(0, D) },
        teacherError: 0,
      },
      { budget: 4, seed: 0 },
    );
    // With nothing to tell them apart RAD draws evenly from all; the others rank.
    if (selection.name === 'rad') expect(indices.length).toBe(4);
    else expect(Array.from(indices)).toEqual([0, 1, 2, 3]);
  });

  test('a missing input is named', () => {
    for (const name of selection.needs)
      expect(() => selection.select({ ...inputs(1), [name]: undefined }, { budget: 3 })).toThrow(
        `selection '${selection.name}' has no '${name}': expected ${selection.needs.join(', ')}`,
      );
  });
});

test('a budget that is not a whole number is refused', () => {
  expect(() => querySelections.random().select({ count: 3 }, { budget: 1.5 })).toThrow(
    "the budget of selection 'random': expected a whole number of queries, received 1.5",
  );
});

const candidateCases: Record<string, CandidateSelection[]> = {
  all: [candidateSelections.all()],
  'margin-balanced': [candidateSelections['margin-balanced']({ count: 3 })],
  'positive-aware': [
    candidateSelections['positive-aware']({ filter: 'margin', threshold: 0.2, count: 3 }),
    candidateSelections['positive-aware']({ filter: 'percentage', count: 3, take: 'softmax', temperature: 0.1 }),
    candidateSelections['positive-aware']({ filter: 'absolute', count: 3 }),
  ],
  'top-k': [candidateSelections['top-k']({ count: 3 })],
};

test('every selection of candidates has a case here', () => {
  expect(Object.keys(candidateCases)).toEqual(Object.keys(candidateSelections));
});

describe.each(
  Object.values(candidateCases)
    .flat()
    .map((s, i) => ({ s, title: `${s.name} (${i})` })),
)('$title', ({ s }) => {
  const random = Random.of(9);
  const lengths = [6, 1, 0, 4, 9];
  const offsets = [0];
  for (const l of lengths) offsets.push((offsets.at(-1) as number) + l);
  const total = offsets.at(-1) as number;
  const scores = Array.from({ length: total }, () => random.uniform());
  const positives = Array.from({ length: total }, (_, i) => Number([0, 6, 11, 14].includes(i)));

  test('positives come first, every position belongs to its list and comes once', () => {
    const out = s.select({ offsets, scores, positives }, { seed: 1 });
    expect(out.offsets.length).toBe(lengths.length + 1);
    for (let i = 0; i < lengths.length; i++) {
      const own = Array.from(out.indices.subarray(out.offsets[i], out.offsets[i + 1]));
      expect(new Set(own).size).toBe(own.length);
      for (const k of own) expect(k >= offsets[i] && k < offsets[i + 1]).toBe(true);
      const known = own.filter((k) => positives[k]);
      expect(own.slice(0, known.length)).toEqual(known);
      expect(known.length).toBe(positives.slice(offsets[i], offsets[i + 1]).reduce((a, b) => a + b, 0));
      if (s.name !== 'all') expect(own.length - known.length).toBeLessThanOrEqual(3);
    }
    expect(Array.from(s.select({ offsets, scores, positives }, { seed: 1 }).indices)).toEqual(Array.from(out.indices));
  });

  test('candidates without a score never come before scored ones', () => {
    const out = s.select({ offsets: [0, 4], scores: [0.9, Number.NaN, 0.1, 0.2], positives: [1, 0, 0, 0] });
    expect(out.indices[0]).toBe(0);
    if (s.name === 'top-k' || s.name === 'all') expect(out.indices.at(-1)).toBe(1);
  });
});
