/** @file The third axis of a cascade: layers left early, simulated chunk by chunk and served the same. */
import { expect, test } from 'vitest';
import { evaluateCascade } from '../../adaptive/curve.ts';
import { exitsOf } from '../../adaptive/exits.ts';
import { type Calibrated, fitCascade, fullQuality, qualityOf } from '../../adaptive/fit.ts';
import { leavingEarly } from '../../adaptive/layers.ts';
import { serve } from '../../adaptive/policy.ts';
import { servedOrder } from '../../adaptive/rules/states.ts';
import { Random } from '../../math/random.ts';

const facts = { layers: [3, 4, 6], deviations: [0.6, 0.3, 0] };
const depths = [5, 10, 20, 50];

/** The relevant document is among the first; exits are near the whole teacher. */
function world(n: number, seed: number): Calibrated[] {
  const random = Random.of(seed, 'layers');
  return Array.from({ length: n }, () => {
    const truth = random.integer(12);
    const student = Float32Array.from({ length: 50 }, (_, i) => 0.9 - 0.01 * i - 0.0005 * random.uniform());
    const teacher = Float32Array.from({ length: 50 }, (_, i) => (i === truth ? 6 : -2) + random.normal());
    const atExits = facts.deviations.map((d) => teacher.map((v) => v + d * random.normal()));
    atExits[2] = teacher;
    return {
      student,
      teacher,
      atExits,
      grades: Float64Array.from({ length: 50 }, (_, i) => Number(i === truth)),
      ideal: [1],
    };
  });
}

test('Infinity changes nothing; else logits are those of the exits, chunk after chunk, and work is counted', () => {
  const [query] = world(1, 0);
  expect(leavingEarly(query, depths, facts, Number.POSITIVE_INFINITY)).toEqual({ query, work: [0, 5, 10, 20, 50] });
  expect(leavingEarly(query, depths, undefined, 1).query).toBe(query);
  const { query: early, work } = leavingEarly(query, depths, facts, 2);
  const first = exitsOf(facts, query.atExits?.map((l) => l.subarray(0, 5)) ?? [], 2);
  expect([...early.teacher.subarray(0, 5)]).toEqual([...first.scores]);
  const second = exitsOf(facts, query.atExits?.map((l) => l.subarray(5, 10)) ?? [], 2, first.scores);
  expect([...early.teacher.subarray(5, 10)]).toEqual([...second.scores]);
  expect(work).toHaveLength(5);
  for (let i = 1; i < work.length; i++) expect(work[i]).toBeGreaterThan(work[i - 1]);
  expect(work[4]).toBeLessThan(50);
  // What losses are measured against stays the whole teacher.
  expect(fullQuality(early)).toBe(fullQuality(query));
});

test('a policy with exits costs less than one without, and the served stream is the simulated one', async () => {
  const options = { alpha: 0.02, delta: 0.1, depths, fusion: 0, rule: 'margin' } as const;
  const without = fitCascade(world(700, 1), options);
  const { policy, guarantee } = fitCascade(world(700, 1), { ...options, exits: facts });
  expect(guarantee.certified).toBe(true);
  expect(policy.exits).toBeGreaterThanOrEqual(0);
  expect(guarantee.layers).toBeLessThan(6);
  const cost = (pairs: number, layers = 6): number => (pairs * layers) / 6;
  expect(cost(guarantee.pairs, guarantee.layers)).toBeLessThan(cost(without.guarantee.pairs));
  const queries = world(150, 2);
  const figures = evaluateCascade(queries, policy, facts);
  expect(figures.risk).toBeLessThan(0.03);
  let [quality, pairs] = [0, 0];
  for (const q of queries) {
    const known: number[] = [];
    const { order, scored } = await serve(q.student, policy, (from, to) => {
      const chunk = q.atExits?.map((l) => l.subarray(from, to)) ?? [];
      const { scores } = exitsOf(facts, chunk, policy.exits as number, known);
      known.push(...scores);
      return scores;
    });
    quality += qualityOf(q, order) / queries.length;
    pairs += scored / queries.length;
  }
  expect(quality).toBeCloseTo(figures.quality.value, 9);
  expect(pairs).toBeCloseTo(figures.pairs, 9);
});

test('nothing certified: the whole teacher over everything', () => {
  const { policy, guarantee } = fitCascade(world(60, 3), { alpha: 0.001, delta: 0.1, depths, exits: facts });
  expect(policy).toMatchObject({ threshold: Number.NEGATIVE_INFINITY, fusion: 0 });
  expect(policy.exits).toBeUndefined();
  expect(guarantee).toMatchObject({ certified: false, layers: 6, risk: 0 });
  const [query] = world(1, 4);
  expect(qualityOf(query, servedOrder(query, 50, 0))).toBe(fullQuality(query));
});
