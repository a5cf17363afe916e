/** @file When pairs leave early: settledness by hand, the ends of the way, and the promise over many draws. */
import { expect, test } from 'vitest';
import {
  certifyExits,
  EXIT_THRESHOLDS,
  type ExitQuery,
  exitCurve,
  exitsOf,
  layersRun,
  settledness,
  throughExits,
} from '../../adaptive/exits.ts';
import { Random } from '../../math/random.ts';

const facts = { layers: [2, 4, 6], deviations: [1, 0.5, 0] };

test('settledness is the distance to the next document by what an exchange costs, or what is missing to the tenth', () => {
  const second = (1 / Math.log2(3) - 1 / Math.log2(4)) / (1 - 1 / Math.log2(3));
  expect([...settledness([5, 1, 3], 1)]).toEqual([2, 2 / second, 2]);
  expect([...settledness([5, 1, 3], 0.5)]).toEqual([4, 4 / second, 4]);
  // Twelve documents: the tenth has 2, the last ones 0.5 and 0.4.
  const found = settledness([20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0.5, 0.4], 1);
  expect(found[0]).toBeCloseTo(2, 12);
  expect(found[5]).toBeGreaterThan(20);
  expect(found[10]).toBeCloseTo(1.5, 12);
  expect(found[11]).toBeCloseTo(1.6, 12);
  // Equal scores are not settled, nor is a document alone.
  expect([...settledness([1, 1], 1)]).toEqual([0, 0]);
  expect([...settledness([1], 1)]).toEqual([0]);
});

/** Logits that come nearer to the last ones exit by exit; the relevant document is high. */
function world(n: number, seed: number): ExitQuery[] {
  const random = Random.of(seed, 'exits');
  return Array.from({ length: n }, () => {
    const relevant = random.integer(20);
    const last = Float32Array.from({ length: 20 }, (_, i) => (i === relevant ? 3 : 0) + 1.5 * random.normal());
    const logits = facts.deviations.map((d) => last.map((v) => v + d * random.normal()));
    return { logits, grades: Float64Array.from({ length: 20 }, (_, i) => Number(i === relevant)), ideal: [1] };
  });
}

test('Infinity runs all layers of every pair, 0 the first exit alone', async () => {
  const [{ logits }] = world(1, 0);
  const all = exitsOf(facts, logits, Number.POSITIVE_INFINITY);
  expect([...all.scores]).toEqual([...logits[2]]);
  expect(layersRun(facts, all.exits)).toBe(6 * 20);
  const first = exitsOf(facts, logits, 0);
  expect([...first.scores]).toEqual([...logits[0]]);
  expect(layersRun(facts, first.exits)).toBe(2 * 20);
  const asked: number[] = [];
  const some = await throughExits(facts, 20, 1, async (exit, at) => {
    asked.push(at.length);
    return at.map((i) => logits[exit][i]);
  });
  expect(some).toEqual(exitsOf(facts, logits, 1));
  expect(asked[0]).toBe(20);
  expect(asked[1]).toBeLessThan(20);
});

test('places are among all documents that are known, those scored before included', () => {
  const alone = exitsOf(facts, [[2], [2], [2]], 1);
  expect(alone.exits[0]).toBe(2);
  const far = exitsOf(facts, [[2], [2], [2]], 1, [9, 8]);
  expect(far.exits[0]).toBe(0);
});

test('fewer layers are run and more is lost as the threshold falls', () => {
  const curve = exitCurve(world(200, 1), facts);
  expect(curve[0]).toMatchObject({ threshold: Number.POSITIVE_INFINITY, risk: 0, layers: 6, sameBest: 1 });
  for (let i = 1; i < curve.length; i++) expect(curve[i].layers).toBeLessThanOrEqual(curve[i - 1].layers);
  const last = curve[curve.length - 1];
  expect([last.threshold, last.layers]).toEqual([0, 2]);
  expect(last.risk).toBeGreaterThan(0.02);
});

test('the promise fails in at most delta of draws, and layers are saved', () => {
  const population = exitCurve(world(1000, 2), facts);
  let [violations, saved] = [0, 0];
  const draws = 20;
  for (let d = 0; d < draws; d++) {
    const { threshold, guarantee } = certifyExits(world(200, 100 + d), facts, { alpha: 0.02, delta: 0.1 });
    expect(guarantee).toMatchObject({ certified: true, against: 'labels', queries: 200 });
    saved += (6 - guarantee.layers) / draws;
    violations += Number(population[EXIT_THRESHOLDS.indexOf(threshold)].risk > 0.02);
  }
  expect(violations / draws).toBeLessThanOrEqual(0.1);
  expect(saved).toBeGreaterThan(0.2);
});

test('too few queries: all layers, and it says how many are needed; without labels the whole model is the judge', () => {
  const few = certifyExits(world(20, 3), facts, { alpha: 0.01, delta: 0.1 });
  expect(few.threshold).toBe(Number.POSITIVE_INFINITY);
  expect(few.guarantee).toMatchObject({ certified: false, needed: 238, risk: 0, layers: 6 });
  const own = certifyExits(
    world(300, 4).map(({ logits }) => ({ logits })),
    facts,
    { alpha: 0.1, delta: 0.1 },
  );
  expect(own.guarantee).toMatchObject({ certified: true, against: "the whole model's order" });
});
