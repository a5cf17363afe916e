import { expect, test } from 'vitest';
import { embeddingMatching, infoNCE, kl, losses, marginMSE, matryoshka } from '../../losses/index.ts';

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

test.each([
  [[3, 2, 0], 1],
  [[3, 1, 2.5], 2.25],
])('M3SE of student scores %j is %d', async (student, expected) => {
  expect((await losses.m3se().evaluate({ student: [student], teacher: [[4, 2, 1]] })).loss).toBeCloseTo(expected, 12);
});

test('M3SE with one negative is MarginMSE', async () => {
  const arrays = { student: [[1.5, -0.3]], teacher: [[0.2, 2.1]] };
  const [a, b] = [await losses.m3se().evaluate(arrays), await marginMSE().evaluate(arrays)];
  expect(a.loss).toBeCloseTo(b.loss, 12);
});

test.each([2, 3])('RankDistil of the worked example with k = %d', async (topK) => {
  // The teacher's order is documents 2, 0, 1 for both lists.
  const { loss } = await losses['rank-distil']({ topK }).evaluate({
    student: [
      [0, Math.log(3), Math.log(2)],
      [0, Math.log(2), Math.log(3)],
    ],
    teacher: [
      [2, 1, 3],
      [2, 1, 3],
    ],
  });
  expect(loss).toBeCloseTo(2.138333, 6);
});

test('RKD distance of the worked example', async () => {
  const { loss } = await losses['relative-geometry']({ angleWeight: 0 }).evaluate({
    teacherQueries: [
      [0, 0],
      [3, 0],
      [0, 4],
    ],
    queries: [
      [0, 0],
      [1, 0],
      [0, 1],
    ],
  });
  expect(loss).toBeCloseTo(0.005222, 6);
});

test('relative geometry and similarities do not see a turned copy', async () => {
  const teacherQueries = [
    [1, 0.2],
    [0.3, -1],
    [-0.7, 0.4],
    [0.1, 0.9],
  ];
  const queries = teacherQueries.map(([x, y]) => [3 * (0.6 * x - 0.8 * y), 3 * (0.8 * x + 0.6 * y)]);
  expect((await losses['relative-geometry']().evaluate({ queries, teacherQueries })).loss).toBeCloseTo(0, 10);
  expect((await losses['similarity-preserving']().evaluate({ queries, teacherQueries })).loss).toBeCloseTo(0, 10);
});

test('SLaM with reliable labels is cross-entropy, with coin tosses it teaches nothing', async () => {
  const arrays = { student: [[0.7, -0.2]], teacher: [[1, -1]] };
  const sure = await losses.slam().evaluate({ ...arrays, reliability: [[1, 1]] });
  expect(sure.loss).toBeCloseTo((Math.log1p(Math.exp(-0.7)) + Math.log1p(Math.exp(-0.2))) / 2, 10);
  const tossed = await losses.slam().evaluate({ ...arrays, reliability: [[0.5, 0.5]] });
  expect(tossed.loss).toBeCloseTo(Math.log(2), 10);
  expect(Math.max(...(tossed.gradients.student ?? []).map(Math.abs))).toBeCloseTo(0, 12);
});

test('Matryoshka with the full width alone is the loss itself', async () => {
  const arrays = {
    queries: [
      [0.6, 0.8],
      [1, 0],
    ],
    documents: [
      [1, 0],
      [0, 1],
      [0.8, 0.6],
    ],
    candidates: [
      [0, 1],
      [2, 0],
    ],
    teacher: [
      [2, 1],
      [0.5, 1],
    ],
  };
  const student = [
    [0.6, 0.8],
    [0.8, 1],
  ];
  const whole = await matryoshka(kl(), { dimensions: [2] }).evaluate(arrays);
  const plain = await kl().evaluate({ student, teacher: arrays.teacher });
  expect(whole.loss).toBeCloseTo(plain.loss, 10);
});
