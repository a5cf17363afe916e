/** @file LSH tables: how often vectors meet, by the formula. */
import { expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { LshTables, meetingProbability } from '../../retrieval/lsh.ts';

test('the formula', () => {
  expect(meetingProbability(Math.PI / 3, 1, 1)).toBeCloseTo(2 / 3, 12);
  expect(meetingProbability(Math.PI / 3, 4, 3)).toBeCloseTo(1 - (1 - (2 / 3) ** 4) ** 3, 12);
  expect(meetingProbability(0)).toBe(1);
  expect(meetingProbability(Math.PI)).toBe(0);
  expect(meetingProbability(Math.PI / 9)).toBeGreaterThan(0.98);
});

const D = 16;
const random = Random.of(2, 'lsh');
/** Two unit vectors with this angle between them. */
function pair(angle: number): [Float32Array, Float32Array] {
  const draw = () => Float64Array.from({ length: D }, () => random.normal());
  const [a, b] = [draw(), draw()];
  const unit = (v: Float64Array) => v.map((x) => x / Math.hypot(...v));
  const u = unit(a);
  const dot = b.reduce((s, x, i) => s + x * u[i], 0);
  const w = unit(b.map((x, i) => x - dot * u[i]));
  return [Float32Array.from(u), Float32Array.from(u, (x, i) => Math.cos(angle) * x + Math.sin(angle) * w[i])];
}

test.each([10, 30, 60, 90])('vectors %i degrees apart meet as often as the formula says', (degrees) => {
  const angle = (degrees * Math.PI) / 180;
  const [bits, tables] = [4, 3];
  const draws = 1500;
  let met = 0;
  for (let i = 0; i < draws; i++) {
    const lsh = new LshTables<number>({ dimensions: D, bits, tables, seed: i });
    const [a, b] = pair(angle);
    lsh.add(1, a);
    met += Number(lsh.near(b).has(1));
  }
  const p = meetingProbability(angle, bits, tables);
  expect(Math.abs(met / draws - p)).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / draws));
});

test('the same vector is always found, and not after it was removed', () => {
  const lsh = new LshTables<string>({ dimensions: D });
  const vectors = Array.from({ length: 50 }, () => pair(1)[0]);
  for (const [i, v] of vectors.entries()) lsh.add(`k${i}`, v);
  for (const [i, v] of vectors.entries()) expect(lsh.near(v).has(`k${i}`)).toBe(true);
  lsh.remove('k3', vectors[3]);
  expect(lsh.near(vectors[3]).has('k3')).toBe(false);
  expect(lsh.near(vectors[4]).has('k4')).toBe(true);
});
