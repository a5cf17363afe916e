/** @file Which parameters Muon takes, and that its step is near the orthogonal factor of the gradient. */
import { expect, test } from 'vitest';
import { isHidden } from '../../../training/optimizers/muon.ts';
import { dualEncoderOnHost } from '../../../training/step/dual-encoder-step.ts';
import { hostOptimizer } from '../../../training/updates/host-optimizer.ts';
import { tinyStep } from '../tiny.ts';

test('Muon takes the matrices of the layers, AdamW keeps tables, vectors and the projection', async () => {
  const { parameters, release } = await dualEncoderOnHost(tinyStep());
  const own = parameters.filter(isHidden).map((p) => p.name);
  expect(own.length).toBe(2 * 6);
  expect(own.every((name) => name.includes('layer.'))).toBe(true);
  expect(parameters.filter((p) => p.table).map((p) => p.name)).toHaveLength(3);
  expect(isHidden({ name: 'projection', dims: [8, 12], table: false })).toBe(false);
  expect(isHidden({ name: 'classifier.weight', dims: [16, 1], table: false })).toBe(false);
  await release();
});

test.each([
  [6, 9],
  [9, 6],
])('the first step of a %d x %d matrix has singular values between 0.6 and 1.3 of its size', async (rows, columns) => {
  const gradient = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * i));
  const data = new Float32Array(rows * columns);
  const own = hostOptimizer([{ name: 'w', dims: [rows, columns], table: false, data, gradient }], {
    optimizer: 'muon',
  });
  await own.step(1);
  await own.release();
  // Rows of U V^T: |x^T (U V^T)| is between the least and the greatest singular value for x in the row space.
  const size = 0.2 * Math.sqrt(Math.max(rows, columns));
  const [n, m] = rows < columns ? [rows, columns] : [columns, rows];
  const at = (i: number, j: number): number => data[rows < columns ? i * columns + j : j * columns + i] / size;
  for (let trial = 0; trial < 20; trial++) {
    const x = Array.from({ length: n }, (_, i) => Math.cos(3 * i + trial * trial));
    const y = Array.from({ length: m }, (_, j) => x.reduce((s, v, i) => s + v * at(i, j), 0));
    const ratio = Math.hypot(...y) / Math.hypot(...x);
    expect(ratio).toBeGreaterThan(0.6);
    expect(ratio).toBeLessThan(1.3);
  }
});
