/** @file Scores of a lexical channel in a step: losses over scores see sums, those that compare vectors see the vectors. */
import { expect, test } from 'vitest';
import { tensor } from '../../engine/graph/tensor.ts';
import { Session } from '../../engine/runtime/session.ts';
import { losses } from '../../losses/index.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { kl } from '../../losses/kl.ts';
import { Random } from '../../math/random.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import { dualEncoderOnHost } from '../../training/step/dual-encoder-step.ts';
import { lossGraph } from '../../training/step/loss-graph.ts';
import { batchOf, tinyStep } from './tiny.ts';

const [B, M, N, D] = [3, 5, 2, 4];
const random = Random.of(1, 'lexical');
const floats = (n: number): Float32Array => Float32Array.from({ length: n }, () => random.normal());

test('InfoNCE and KL are those of cosine + lexical score; embedding matching is as it was', async () => {
  const [texts, lexical, teacher, teacherQueries] = [floats((B + M) * D), floats(B * M), floats(B * N), floats(B * D)];
  const candidates = [0, 1, 2, 0, 4, 3];
  const positives = Float32Array.from({ length: B * M }, (_, i) => Number(candidates[N * Math.floor(i / M)] === i % M));
  const options = {
    losses: [infoNCE({ temperature: 0.5 }), kl({ studentTemperature: 0.5 }), losses['embedding-matching']()].map(
      (loss) => ({ loss, weight: 1 }),
    ),
    normalize: false,
    teacherWidth: D,
    lexical: true,
  };
  const { graph, terms } = await lossGraph(options, D, 20);
  const session = await Session.load(graph, { threads: 1 });
  const whole = (n: number, from: number) =>
    tensor(
      'int64',
      [n],
      BigInt64Array.from({ length: n }, (_, i) => BigInt(from + i)),
    );
  const feeds = {
    texts: tensor('float32', [B + M, D], texts),
    queries_at: whole(B, 0),
    documents_at: whole(M, B),
    candidates: tensor('int64', [B, N], candidates),
    lexical: tensor('float32', [B, M], lexical),
    teacher: tensor('float32', [B, N], teacher),
    mask: tensor('float32', [B, N], new Float32Array(B * N).fill(1)),
    positives: tensor('float32', [B, M], positives),
    inBatch: tensor('float32', [B, M], new Float32Array(B * M).fill(1)),
    owner: tensor(
      'float32',
      [B, M],
      Float32Array.from({ length: B * M }, (_, i) => Number((i % M) % B === Math.floor(i / M))),
    ),
    weights: tensor('float32', [B], new Float32Array(B).fill(1)),
    teacherQueries: tensor('float32', [B, D], teacherQueries),
    teacherDocuments: tensor('float32', [M, D], floats(M * D)),
  };
  const found = await session.run(
    Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputs.includes(name))),
  );
  await session.release();
  const score = (b: number, m: number): number => {
    let sum = lexical[b * M + m];
    for (let k = 0; k < D; k++) sum += texts[b * D + k] * texts[(B + m) * D + k];
    return sum;
  };
  let nce = 0;
  for (let b = 0; b < B; b++) {
    const all = Array.from({ length: M }, (_, m) => Math.exp(score(b, m) / 0.5));
    nce -= Math.log(all[candidates[b * N]] / all.reduce((x, y) => x + y)) / B;
  }
  expect(found[terms[0].name].data[0]).toBeCloseTo(nce, 5);
  const student = Float32Array.from(candidates, (m, i) => score(Math.floor(i / N), m));
  const shape = { mask: { dims: [B, N], data: new Float32Array(B * N).fill(1) } };
  const alone = await kl({ studentTemperature: 0.5 }).evaluate({
    student: { dims: [B, N], data: student },
    teacher: { dims: [B, N], data: teacher },
    ...shape,
  });
  expect(found[terms[1].name].data[0]).toBeCloseTo(alone.loss, 5);
  const plain = await lossGraph({ ...options, lexical: false, losses: options.losses.slice(2) }, D, 20);
  const other = await Session.load(plain.graph, { threads: 1 });
  const same = await other.run(
    Object.fromEntries(Object.entries(feeds).filter(([name]) => other.inputs.includes(name))),
  );
  await other.release();
  expect(found[terms[2].name].data[0]).toBeCloseTo(Number(same[plain.terms[0].name].data[0]), 6);
});

test('losses that compare vectors alone are refused: nothing would be added', async () => {
  const alone = { losses: [{ loss: losses['embedding-matching'](), weight: 1 }], normalize: false, teacherWidth: D };
  await expect(lossGraph({ ...alone, lexical: true }, D, 20)).rejects.toThrow("that 'train.lexical' adds to");
});

test('the gradients by GradCache are those of one pass, and not those without the channel', async () => {
  const n = 6;
  const batch: StepBatch = {
    ...batchOf(n),
    lexical: { dtype: 'float32', dims: [n, n], data: floats(n * n) },
  };
  const lossOf = async (more: object): Promise<number> => {
    const step = await dualEncoderOnHost({ ...tinyStep(), ...more });
    const { loss } = await step.run(batch);
    await step.release();
    return loss;
  };
  const whole = await lossOf({ lexical: true });
  expect(await lossOf({ lexical: true, gradCacheChunk: 4 })).toBeCloseTo(whole, 5);
  expect(Math.abs((await lossOf({})) - whole)).toBeGreaterThan(1e-3);
});
