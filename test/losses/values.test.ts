import { expect, test } from 'vitest';
import { embeddingMatching, infoNCE, kl, losses, marginMSE, matryoshka, prefixRelations } from '../../losses/index.ts';
import { Random } from '../../math/random.ts';

const scores = { student: [[3, 2, 0]], teacher: [[4, 2, 1]] };

test('KL of the worked example, and its gradient q - p', async () => {
  const { values, gradients } = await kl({ studentTemperature: 1 }).evaluate(scores);
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
  expect((await kl({ temperature, studentTemperature: temperature }).evaluate(scores)).loss).toBeCloseTo(expected, 6);
});

test('MarginMSE of the worked example, and its gradient', async () => {
  const { values, gradients } = await marginMSE({ scale: 1 }).evaluate(scores);
  expect(values[0]).toBeCloseTo(0.5, 12);
  expect(Array.from(gradients.student ?? [])).toEqual([-1, 1, 0]);
});

test('FLOPS is the sum of squared mean activations, and its gradient 2 a / M', async () => {
  const documents = [
    [1, 0, 2],
    [3, 0, 0],
  ];
  const { loss, gradients } = await losses.flops().evaluate({ documents, owner: [[1, 1]] });
  expect(loss).toBeCloseTo(5, 12);
  // Zero has no side: nothing pulls a dimension that is not used.
  expect(Array.from(gradients.documents ?? [])).toEqual([2, 0, 1, 2, 0, 0]);
  const counted = { documents, owner: [[1, 1]], columns: { dims: [3], data: [1, 1, 10] } };
  expect((await losses.flops().evaluate(counted)).loss).toBeCloseTo(14, 12);
  // However the documents are owned, the mean over queries is the same.
  const owner = [
    [1, 0],
    [0, 1],
    [0, 0],
  ];
  expect((await losses.flops().evaluate({ documents, owner })).loss).toBeCloseTo(5, 12);
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
  await expect(kl({ studentTemperature: 1 }).evaluate({ student: [[1, 2]] })).rejects.toThrow(
    "loss 'kl' has no 'teacher': expected student, teacher, mask, received student, mask",
  );
});

test.each([
  [[3, 2, 0], 1],
  [[3, 1, 2.5], 2.25],
])('M3SE of student scores %j is %d', async (student, expected) => {
  expect((await losses.m3se({ scale: 1 }).evaluate({ student: [student], teacher: [[4, 2, 1]] })).loss).toBeCloseTo(
    expected,
    12,
  );
});

test('M3SE with one negative is MarginMSE', async () => {
  const arrays = { student: [[1.5, -0.3]], teacher: [[0.2, 2.1]] };
  const [a, b] = [await losses.m3se({ scale: 1 }).evaluate(arrays), await marginMSE({ scale: 1 }).evaluate(arrays)];
  expect(a.loss).toBeCloseTo(b.loss, 12);
});

test.each([2, 3])('RankDistil of the worked example with k = %d', async (topK) => {
  // The teacher's order is documents 2, 0, 1 for both lists.
  const { loss } = await losses['rank-distil']({ topK, temperature: 1 }).evaluate({
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
  const sure = await losses.slam({ scale: 1, shift: 0 }).evaluate({ ...arrays, reliability: [[1, 1]] });
  expect(sure.loss).toBeCloseTo((Math.log1p(Math.exp(-0.7)) + Math.log1p(Math.exp(-0.2))) / 2, 10);
  const tossed = await losses.slam({ scale: 1, shift: 0 }).evaluate({ ...arrays, reliability: [[0.5, 0.5]] });
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
  const whole = await matryoshka(kl({ studentTemperature: 1 }), { dimensions: [2] }).evaluate(arrays);
  const plain = await kl({ studentTemperature: 1 }).evaluate({ student, teacher: arrays.teacher });
  expect(whole.loss).toBeCloseTo(plain.loss, 10);
});

test('KL and the entropy of the target make the cross-entropy of the worked example', async () => {
  const { loss } = await kl({ studentTemperature: 1 }).evaluate(scores);
  const p = [0.843795, 0.114195, 0.04201];
  expect(loss - p.reduce((s, v) => s + v * Math.log(v), 0)).toBeCloseTo(0.589238, 5);
});

test('KL at a large temperature is half the mean square of the centred difference, and MarginMSE / 8 for two candidates', async () => {
  const at = async (student: number[], teacher: number[]) =>
    (await kl({ temperature: 3000, studentTemperature: 3000 }).evaluate({ student: [student], teacher: [teacher] }))
      .loss;
  // z = (0, -1/3, 1/3) after centring both: sum of squares 0.666667, over 2 N = 6.
  expect(await at([3, 2, 0], [4, 2, 1])).toBeCloseTo(0.666667 / 6, 4);
  expect(await at([1.5, -0.3], [0.2, 2.1])).toBeCloseTo((-1.9 - 1.8) ** 2 / 8, 2);
});

test('losses of margins and distributions do not see a constant added to the teacher', async () => {
  for (const loss of [
    kl({ studentTemperature: 1 }),
    marginMSE({ scale: 1 }),
    losses.m3se({ scale: 1 }),
    losses['rank-distil']({ temperature: 1 }),
  ]) {
    const moved = await loss.evaluate({ ...scores, teacher: [[9, 7, 6]] });
    expect(moved.loss).toBeCloseTo((await loss.evaluate(scores)).loss, 9);
  }
});

test('M3SE is 0 where the margin is matched and no negative is above the hardest', async () => {
  const { loss } = await losses.m3se({ scale: 1 }).evaluate({ student: [[7, 5, 4.9]], teacher: [[4, 2, 1]] });
  expect(loss).toBeCloseTo(0, 12);
});

test('RankDistil of the first place, over many orders, is cross-entropy with the teacher', async () => {
  const random = Random.of(17);
  const draws = 20_000;
  const gumbel = {
    dims: [1, draws, 3],
    data: Array.from({ length: 3 * draws }, () => -Math.log(-Math.log(random.uniform()))),
  };
  const { loss } = await losses['rank-distil']({ topK: 1, temperature: 1 }).evaluate({ ...scores, gumbel });
  expect(Math.abs(loss - 0.589238)).toBeLessThan(0.02);
});

test('InfoNCE of a clear case, and of a temperature towards 0', async () => {
  const arrays = { queries: [[1]], documents: [[0.9], [0.1], [0]] };
  expect((await infoNCE().evaluate(arrays)).loss).toBeCloseTo(1.28e-7, 9);
  expect((await infoNCE({ temperature: 1e-3 }).evaluate(arrays)).loss).toBeCloseTo(0, 12);
});

test('in-batch KL to a teacher that is sure of the positive is InfoNCE; from embeddings it is Gram matching', async () => {
  const random = Random.of(18);
  const matrix = (n: number, d: number) =>
    Array.from({ length: n }, () => Array.from({ length: d }, () => random.normal()));
  const [queries, documents] = [matrix(3, 4), matrix(5, 4)];
  const teacherInBatch = [0, 1, 2].map((b) => [0, 1, 2, 3, 4].map((m) => (m === b ? 100 : 0)));
  const a = await losses['in-batch-kl']({ temperature: 1, studentTemperature: 1, teacherScores: 'given' }).evaluate({
    queries,
    documents,
    teacherInBatch,
  });
  const b = await infoNCE({ temperature: 1 }).evaluate({ queries, documents });
  expect(a.loss).toBeCloseTo(b.loss, 9);
  const teacher = { teacherQueries: matrix(3, 2), teacherDocuments: matrix(5, 2) };
  const c = await losses['in-batch-kl']({
    temperature: 2,
    studentTemperature: 2,
    teacherScores: 'embeddings',
  }).evaluate({
    queries,
    documents,
    ...teacher,
  });
  const d = await losses['gram-matching']({ temperature: 2, studentTemperature: 2 }).evaluate({
    queries,
    documents,
    ...teacher,
  });
  expect(c.loss).toBeCloseTo(d.loss, 12);
  // A document without a teacher score counts on neither side.
  const holes = teacherInBatch.map((row) => [...row.slice(0, 4), Number.NaN]);
  const e = await losses['in-batch-kl']({ temperature: 1, studentTemperature: 1, teacherScores: 'given' }).evaluate({
    queries,
    documents,
    teacherInBatch: holes,
  });
  const f = await infoNCE({ temperature: 1 }).evaluate({ queries, documents: documents.slice(0, 4) });
  expect(e.loss).toBeCloseTo(f.loss, 9);
});

test.each(['given', 'embeddings', 'candidates'] as const)(
  'probable false negatives by %s do not stand in InfoNCE',
  async (by) => {
    // Scores of documents 0, 1, 2: the teacher gives 5, 4.5 and 1; within 1 of the positive is doubtful.
    const arrays = {
      queries: [[1]],
      documents: [[1], [1], [1]],
      teacherInBatch: [[5, 4.5, 1]],
      teacherQueries: [[1]],
      teacherDocuments: [[5], [4.5], [1]],
      teacher: [[5, 4.5, 1]],
      candidates: [[0, 1, 2]],
      mask: [[1, 1, 1]],
    };
    expect((await infoNCE({ falseNegatives: { by, margin: 1 } }).evaluate(arrays)).loss).toBeCloseTo(Math.log(2), 12);
    expect((await infoNCE({ falseNegatives: { by, margin: 0 } }).evaluate(arrays)).loss).toBeCloseTo(Math.log(3), 12);
    expect((await infoNCE({ falseNegatives: { by, margin: 10 } }).evaluate(arrays)).loss).toBeCloseTo(0, 12);
  },
);

test('where student and teacher embed alike, matching and score losses are at their least', async () => {
  const [queries, documents] = [
    [
      [0.6, 0.8],
      [1, 0],
    ],
    [
      [0, 1],
      [0.8, 0.6],
      [1, 0],
    ],
  ];
  const dots = queries.map((q) => documents.map((d) => q[0] * d[0] + q[1] * d[1]));
  const same = { queries, documents, teacherQueries: queries, teacherDocuments: documents };
  expect((await embeddingMatching({ distance: 'l2' }).evaluate(same)).loss).toBeLessThan(3e-6);
  expect((await kl({ studentTemperature: 1 }).evaluate({ student: dots, teacher: dots })).loss).toBeCloseTo(0, 12);
  const projection = [
    [1, 0],
    [0, 1],
  ];
  const other = { ...same, teacherQueries: [queries[1], queries[0]] };
  expect((await embeddingMatching().evaluate({ ...other, projection })).loss).toBeCloseTo(
    (await embeddingMatching().evaluate(other)).loss,
    12,
  );
});

test('turning the student changes embedding matching and nothing that looks at scores', async () => {
  const turn = (rows: number[][]) => rows.map(([x, y]) => [0.6 * x - 0.8 * y, 0.8 * x + 0.6 * y]);
  const arrays = {
    queries: [
      [0.3, 0.9],
      [1, -0.2],
    ],
    documents: [
      [0.5, 0.5],
      [-0.1, 1],
    ],
    teacherQueries: [
      [1, 0],
      [0, 1],
    ],
    teacherDocuments: [
      [0.6, 0.8],
      [0, 1],
    ],
  };
  const turned = { ...arrays, queries: turn(arrays.queries), documents: turn(arrays.documents) };
  for (const loss of [infoNCE(), losses['in-batch-kl']({ teacherScores: 'embeddings' }), losses['gram-matching']()])
    expect((await loss.evaluate(turned)).loss).toBeCloseTo((await loss.evaluate(arrays)).loss, 9);
  const [a, b] = [await embeddingMatching().evaluate(turned), await embeddingMatching().evaluate(arrays)];
  expect(Math.abs(a.loss - b.loss)).toBeGreaterThan(0.01);
});

test('Matryoshka over two widths is the sum of the losses of each', async () => {
  const arrays = {
    queries: [[0.3, 0.9, -0.4, 0.1]],
    documents: [
      [0.5, 0.5, 0.1, 1],
      [-0.1, 1, 0.7, 0.2],
    ],
    candidates: [[0, 1]],
    teacher: [[2, 1]],
  };
  const of = async (dimensions: number[]) =>
    (await matryoshka(kl({ studentTemperature: 1 }), { dimensions }).evaluate(arrays)).loss;
  expect(await of([4, 2])).toBeCloseTo((await of([4])) + (await of([2])), 12);
});

test('embedding matching nested over the full width alone is itself', async () => {
  const arrays = {
    queries: [[0.6, 0.8]],
    documents: [
      [1, 0],
      [0, 1],
    ],
    teacherQueries: [[1, 0]],
    teacherDocuments: [
      [0.6, 0.8],
      [0, 1],
    ],
  };
  const nested = await prefixRelations({ dimensions: [2] }).evaluate(arrays);
  expect(nested.loss).toBe((await embeddingMatching().evaluate(arrays)).loss);
  await expect(prefixRelations({ dimensions: [1] }).evaluate(arrays)).rejects.toThrow('use dimensions: [2, 1]');
});

test("a prefix is asked for the whole vectors' similarities and not for the teacher's own prefix", async () => {
  // The teacher's first two components are empty: cut off, it would tell nothing apart.
  const teacher = {
    teacherQueries: [
      [0, 0, 0.6, 0.8],
      [0, 0, 1, 0],
    ],
    teacherDocuments: [
      [0, 0, 0, 1],
      [0, 0, 0.8, 0.6],
      [0, 0, -1, 0],
    ],
  };
  const moved = (rows: number[][]) => rows.map(([, , x, y]) => [x, y, 0, 0]);
  const student = { queries: moved(teacher.teacherQueries), documents: moved(teacher.teacherDocuments) };
  const relations = (of: 'both' | 'queries') => prefixRelations({ of, dimensions: [2, 3] });
  for (const of of ['both', 'queries'] as const)
    expect((await relations(of).evaluate({ ...student, ...teacher })).loss).toBeCloseTo(0, 9);
  const same = { queries: teacher.teacherQueries, documents: teacher.teacherDocuments };
  expect((await relations('both').evaluate({ ...same, ...teacher })).loss).toBeGreaterThan(1);
});

test('the narrower widths add what Gram matching of the prefixes says, by their weights, and give nothing to later components', async () => {
  const random = Random.of(23);
  const matrix = (n: number, d: number) =>
    Array.from({ length: n }, () => Array.from({ length: d }, () => random.normal()));
  const arrays = {
    queries: matrix(3, 4),
    documents: matrix(5, 4),
    teacherQueries: matrix(3, 4),
    teacherDocuments: matrix(5, 4),
  };
  const options = { of: 'queries', temperature: 0.5 } as const;
  const nested = await prefixRelations({ ...options, dimensions: [4, 2], weights: [1, 3] }).evaluate(arrays);
  const whole = await embeddingMatching({ of: 'queries' }).evaluate(arrays);
  const gram = losses['gram-matching']({ temperature: 0.5, studentTemperature: 0.5 });
  const prefix = await matryoshka(gram, { dimensions: [2] }).evaluate(arrays);
  expect(nested.loss).toBeCloseTo(whole.loss + (3 * prefix.loss) / 0.25, 10);
  const narrow = await prefixRelations({ ...options, dimensions: [2, 1] }).evaluate(arrays);
  const late = (narrow.gradients.queries as Float64Array).filter((_, i) => i % 4 >= 2);
  expect(Array.from(late, Math.abs)).toEqual(Array(6).fill(0));
});
