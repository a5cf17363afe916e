/** @file The step of late interaction: its losses are those of the scores that serve, its gradients equal differences. */
import { beforeAll, describe, expect, test } from 'vitest';
import { infoNCE, kl, marginMSE } from '../../../losses/index.ts';
import { floatToHalf, halfTable } from '../../../math/half.ts';
import { Random } from '../../../math/random.ts';
import { LATE, lateModel, lateStart } from '../../../students/late/late-model.ts';
import { type LateScorerName, lateScorers } from '../../../students/late/members.ts';
import { principalStart, projected } from '../../../students/late/projection.ts';
import type { LateScorer } from '../../../students/late/scorer.ts';
import type { TokenStates } from '../../../students/late/token-states.ts';
import type { Examples } from '../../../training/batches/dual-encoder-batch.ts';
import { makeLateBatch } from '../../../training/late/late-batch.ts';
import { comparesAll, lateStep } from '../../../training/late/late-step.ts';
import { singleRun } from '../../../training/step/single-run.ts';

const [WIDTH, DIMENSIONS, QUERY_TOKENS, DOCUMENT_TOKENS] = [10, 4, 5, 6];

function states(n: number, seed: number): TokenStates {
  const random = Random.of(seed, 'states');
  const halves = Array.from({ length: n }, () =>
    Uint16Array.from({ length: (1 + random.integer(DOCUMENT_TOKENS + 2)) * WIDTH }, () => floatToHalf(random.normal())),
  );
  const vectors = halves.map(() => Float32Array.from({ length: 3 }, () => random.normal()));
  const table = halfTable();
  return {
    width: WIDTH,
    dimensions: 3,
    length: n,
    halves: (i) => halves[i],
    read: (i) => Float32Array.from(halves[i], (h) => table[h]),
    vector: (i) => vectors[i],
    close() {},
  };
}
const [queries, documents] = [states(8, 1), states(20, 2)];
const random = Random.of(3, 'examples');
const lists = Array.from({ length: 8 }, (_, q) => [q, 8 + q, (q + 1) % 8, 16 + (q % 4)]);
const examples: Examples = {
  queries: Int32Array.from(lists.keys()),
  offsets: Int32Array.from({ length: 9 }, (_, i) => 4 * i),
  documents: Int32Array.from(lists.flat()),
  scores: Float32Array.from({ length: 32 }, () => 2 * random.normal()),
  labelled: new Uint8Array(8).fill(1),
  weights: Float32Array.from({ length: 8 }, (_, i) => 0.5 + 0.25 * i),
  relevant: (q) => new Set([q]),
};
const source = { examples, queries, documents, queryTokens: QUERY_TOKENS, documentTokens: DOCUMENT_TOKENS };
const drawing = { queries: 4, candidates: 3, seed: 5 };
const settings = (scorer: LateScorerName) => ({
  scorer,
  dimensions: DIMENSIONS,
  queryTokens: QUERY_TOKENS,
  documentTokens: DOCUMENT_TOKENS,
});
const sample = { dimensions: WIDTH, data: documents.read(3) };
let started: ReturnType<typeof lateStart>;
beforeAll(() => {
  started = lateStart(settings('max-sim'), {
    documents: sample,
    queries: { dimensions: WIDTH, data: queries.read(2) },
  });
});

async function stepOf(scorer: LateScorerName, losses: Parameters<typeof lateStep>[0]['losses'], start = started) {
  const all = comparesAll(losses);
  const member: LateScorer = lateScorers[scorer];
  const step = await singleRun(await lateStep({ scorer: member, losses, start }), { threads: 1 });
  const batch = makeLateBatch({ ...source, all, fixedLengths: member.fixedLengths }, 0, drawing);
  return { step, batch };
}

/** Scores of each drawn candidate as the re-ranker serves them. */
function served(batch: ReturnType<typeof makeLateBatch>, at: (b: number, n: number) => number): number[][] {
  const model = lateModel(settings('max-sim'), started);
  return batch.exampleIds.map((e, b) =>
    Array.from({ length: 3 }, (_, n) => {
      const [q, d] = [examples.queries[e], at(b, n)];
      const vectors = [queries.vector(q), documents.vector(d)];
      return model.score(
        model.query({ dimensions: WIDTH, data: queries.read(q) }),
        model.document({ dimensions: WIDTH, data: documents.read(d) }),
        vectors[0].reduce((s, v, k) => s + v * vectors[1][k], 0),
      );
    }),
  );
}

/** Documents of the step in the order in which they were first drawn, and each query's candidates among them. */
function drawn(batch: ReturnType<typeof makeLateBatch>) {
  const places = Array.from(batch.feeds.candidates.data as BigInt64Array, Number);
  const teacher = Array.from(batch.feeds.teacher.data as Float32Array);
  const unique = new Map<number, number>();
  for (const [b, e] of batch.exampleIds.entries())
    for (let n = 0; n < 3; n++) {
      const at = lists[e].findIndex((_, i) => Math.abs(examples.scores[4 * e + i] - teacher[3 * b + n]) < 1e-6);
      unique.set(places[3 * b + n], lists[e][at]);
    }
  return { places, document: (b: number, n: number) => unique.get(places[3 * b + n]) as number, unique };
}

test('kl and margin-mse over candidates are those of the served scores', async () => {
  const losses = [
    { loss: kl(), weight: 1 },
    { loss: marginMSE(), weight: 0.5 },
  ];
  const { step, batch } = await stepOf('max-sim', losses);
  const { loss, terms } = await step.run(batch);
  const student = served(batch, drawn(batch).document);
  const teacher = Array.from({ length: 4 }, (_, b) =>
    Array.from((batch.feeds.teacher.data as Float32Array).subarray(3 * b, 3 * b + 3)),
  );
  const factors = batch.feeds.weights.data as Float32Array;
  const one = await kl().evaluate({ student, teacher }, factors);
  const two = await marginMSE().evaluate({ student, teacher }, factors);
  expect(terms[0]).toBeCloseTo(one.loss, 3);
  expect(terms[1]).toBeCloseTo(two.loss, 3);
  expect(loss).toBeCloseTo(one.loss + 0.5 * two.loss, 3);
  await step.release();
});

test('info-nce compares every query with every document of the step', async () => {
  const { step, batch } = await stepOf('max-sim', [{ loss: infoNCE({ temperature: 0.5 }), weight: 1 }]);
  const { loss } = await step.run(batch);
  const { unique } = drawn(batch);
  const M = unique.size;
  const model = lateModel(settings('max-sim'), started);
  const [positives, allowed] = [batch.feeds.positives.data, batch.feeds.inBatch.data] as Float32Array[];
  let expected = 0;
  for (const [b, e] of batch.exampleIds.entries()) {
    const query = model.query({ dimensions: WIDTH, data: queries.read(e) });
    const scores = Array.from({ length: M }, (_, m) => {
      const d = unique.get(m) as number;
      const cosine = queries.vector(e).reduce((s, v, k) => s + v * documents.vector(d)[k], 0);
      return model.score(query, model.document({ dimensions: WIDTH, data: documents.read(d) }), cosine) / 0.5;
    });
    const counted = scores.filter((_, m) => allowed[b * M + m] || positives[b * M + m]);
    const own = scores.find((_, m) => positives[b * M + m]) as number;
    const value = Math.log(counted.reduce((s, x) => s + Math.exp(x), 0)) - own;
    expected += (value * examples.weights[e]) / 4;
  }
  expect(loss).toBeCloseTo(expected, 3);
  await step.release();
});

describe.each(Object.keys(lateScorers) as LateScorerName[])('%s', (scorer) => {
  test('gradients of projections, scorer and residual equal differences', async () => {
    const start = lateStart(settings(scorer), { documents: sample }, { seed: 2 });
    for (const loss of [kl({ studentTemperature: 1 }), infoNCE({ temperature: 1 })]) {
      const { step, batch } = await stepOf(scorer, [{ loss, weight: 1 }], start);
      await step.run(batch);
      const gradients = new Map(step.parameters.map((p) => [p.name, Float32Array.from(p.gradient as Float32Array)]));
      expect([...gradients.keys()]).toContain(LATE.projection);
      expect([...gradients.keys()]).toContain(LATE.residual);
      for (const { name, data } of step.parameters) {
        const gradient = gradients.get(name) as Float32Array;
        const size = Math.hypot(...gradient);
        // Along the gradient itself: one difference for all of a weight's numbers.
        const h = 1e-3 / Math.max(size, 1e-2);
        const before = Float32Array.from(data);
        const at = async (by: number): Promise<number> => {
          for (let i = 0; i < data.length; i++) data[i] = before[i] + by * gradient[i];
          const { loss: value } = await step.run(batch);
          data.set(before);
          return value;
        };
        const found = ((await at(h)) - (await at(-h))) / (2 * h);
        expect(Math.abs(found - size ** 2)).toBeLessThan(0.02 * size ** 2 + 2e-4);
      }
      await step.release();
    }
  });
});

test('the start of a projection keeps the products of states as far as its width allows', () => {
  const data = Float32Array.from({ length: 40 * 6 }, (_, i) => {
    const [row, column] = [Math.floor(i / 6), i % 6];
    return column < 3 ? Math.sin(1 + row * (column + 1)) : 1e-3 * Math.cos(row + column);
  });
  const rows = { dimensions: 6, data };
  const small = projected(rows, principalStart(rows, 3));
  const unit = (i: number) => {
    const row = data.subarray(6 * i, 6 * i + 6);
    const size = Math.hypot(...row);
    return row.map((v) => v / size);
  };
  for (const [i, j] of [
    [0, 1],
    [3, 17],
    [20, 39],
  ]) {
    const full = unit(i).reduce((s, v, k) => s + v * unit(j)[k], 0);
    let own = 0;
    for (let k = 0; k < 3; k++) own += small.data[3 * i + k] * small.data[3 * j + k];
    expect(own).toBeCloseTo(full, 3);
  }
});
