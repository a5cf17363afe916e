import { expect, test } from 'vitest';
import { embeddingMatching, infoNCE, kl, marginMSE } from '../../losses/index.ts';

const scores = { student: [[3, 2, 0]], teacher: [[4, 2, 1]] };

test('KL of the worked example, and its gradient q - p', async () => {
  const { values, gradients } = await kl().evaluate(scores);
  expect(values[0]).toBeCloseTo(0.064971, 6);
  const [p, q] = [
    [0.843795, 0.114195, 0.04201],
    [0.705385, 0.259496, 0.035119],
  ];
  gradients.student?.forEach((g, i) => {
    expect(g).toBeCloseTo(q[i] - p[i], 5);
  });
});

test.each([
  [1, 0.064971],
  [2, 0.096599],
  [10, 0.110055],
  [100, 0.111045],
])('T^2 KL at temperature %d is %d', async (temperature, expected) => {
  expect((await kl({ temperature }).evaluate(scores)).loss).toBeCloseTo(expected, 6);
});

test('MarginMSE of the worked example, and its gradient', async () => {
  const { values, gradients } = await marginMSE().evaluate(scores);
  expect(values[0]).toBeCloseTo(0.5, 12);
  expect(Array.from(gradients.student ?? [])).toEqual([-1, 1, 0]);
});

test.each([
  ['l2', 0.894427],
  ['squared', 0.8],
  ['cosine', 0.4],
] as const)('embedding matching by %s is %d', async (distance, expected) => {
  const loss = embeddingMatching({ of: 'queries', distance });
  expect((await loss.evaluate({ queries: [[0.6, 0.8]], teacherQueries: [[1, 0]] })).loss).toBeCloseTo(expected, 5);
});

test('InfoNCE of equal similarities is the logarithm of the number of documents', async () => {
  const { loss } = await infoNCE().evaluate({
    queries: [[1, 0]],
    documents: [
      [1, 0],
      [1, 0],
      [1, 0],
      [1, 0],
    ],
    positives: [[1, 0, 0, 0]],
    inBatch: [[1, 1, 1, 1]],
  });
  expect(loss).toBeCloseTo(Math.log(4), 12);
});

test('a loss names the input it lacks', async () => {
  await expect(kl().evaluate({ student: [[1, 2]] })).rejects.toThrow(
    "loss 'kl' has no 'teacher': expected student, teacher, mask, received student, mask",
  );
});
