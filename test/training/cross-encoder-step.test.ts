import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { bce } from '../../losses/bce.ts';
import { kl } from '../../losses/kl.ts';
import { freshModel } from '../../models/new-model.ts';
import { labelLogit, makePairBatch } from '../../training/batches/cross-encoder-batch.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { crossEncoderStep } from '../../training/step/cross-encoder-step.ts';
import { singleRun } from '../../training/step/single-run.ts';
import { AdamWHost } from '../../training/updates/adamw-host.ts';

const texts = ['red cup', 'blue cup', 'red hat', 'a blue hat of wool', 'green hat', 'a scarf'];
const folder = join(mkdtempSync(join(tmpdir(), 'pairs-')), 'model');
let tokenizer: TextTokenizer;
beforeAll(async () => {
  const table = { length: texts.length, text: (i: number) => texts[i] };
  await freshModel(folder, table, { hidden: 16, layers: 1, heads: 2, maxLength: 24, kind: 'cross-encoder' });
  tokenizer = await TextTokenizer.load(folder);
});

/** Four queries that say a document's own words; the last has one candidate less. */
const examples: Examples = {
  queries: Int32Array.from([0, 1, 2, 3]),
  offsets: Int32Array.from([0, 3, 6, 9, 11]),
  documents: Int32Array.from([0, 1, 2, 1, 0, 3, 2, 3, 4, 3, 1]),
  scores: Float32Array.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], (i) => labelLogit([0, 3, 6, 9].includes(i))),
  labelled: new Uint8Array(4).fill(1),
  weights: new Float32Array(4).fill(1),
  relevant: () => new Set(),
};
const options = { queries: 4, candidates: 3, groups: 2, seed: 1 };
const source = () => ({
  examples,
  pairTokens: (q: number, d: number) => tokenizer.encodePair(texts[q], texts[d]),
  padId: tokenizer.padId,
});
const stepOptions = async () => ({
  model: await loadGraph(join(folder, 'onnx/model.onnx')),
  losses: [
    { loss: kl({ studentTemperature: 1 }), weight: 1 },
    { loss: bce({ scale: 1, shift: 0 }), weight: 0.5 },
  ],
  groups: 2,
});
const create = async () => singleRun(await crossEncoderStep(await stepOptions()));

test('a vector of one number that stands in the file as a Constant node is no weight', async () => {
  const options = await stepOptions();
  const { start } = await crossEncoderStep(options);
  const bias = options.model.constants.find(
    (v) =>
      start.has(v.name) &&
      v.constant?.dims.length === 1 &&
      v.constant.data.length > 1 &&
      v.constant.data.every((x) => x === 0),
  );
  Object.assign(bias as object, { inline: true });
  const without = await crossEncoderStep(options);
  expect([...start.keys()].filter((name) => !without.start.has(name))).toEqual([bias?.name]);
});

test("every weight's gradient is the loss's slope in a random direction", async () => {
  const graph = await create();
  const batch = makePairBatch(source(), 0, options);
  await graph.run(batch);
  for (const p of graph.parameters) {
    const gradient = p.gradient?.slice() ?? new Float32Array();
    const direction = Float32Array.from(gradient, (_, i) => Math.sin(i * 12.9898 + 4) * 2e-4);
    const start = p.data.slice();
    const lossAt = async (side: number): Promise<number> => {
      for (let i = 0; i < start.length; i++) p.data[i] = start[i] + side * direction[i];
      return (await graph.run(batch)).loss;
    };
    const slope = ((await lossAt(1)) - (await lossAt(-1))) / 2;
    p.data.set(start);
    const expected = gradient.reduce((s, g, i) => s + g * direction[i], 0);
    expect(Math.abs(slope - expected), p.name).toBeLessThan(2e-6 + 0.02 * Math.abs(expected));
  }
  await graph.release();
});

test('the batch holds each candidate in its cell, shorter pairs first', () => {
  const batch = makePairBatch(source(), 0, options);
  expect((batch.mask.data as Float32Array).reduce((n, m) => n + m, 0)).toBe(11);
  expect(batch.pairs.map((p) => p.rows)).toEqual([5, 6]);
  expect(batch.pairs[0].length).toBeLessThanOrEqual(batch.pairs[1].length);
  // Column 0 is the relevant document of each query, wherever its pair stands.
  const targets = Array.from(batch.targets.data as Float32Array);
  for (let b = 0; b < 4; b++) expect(targets.slice(3 * b, 3 * b + 3)).toEqual([20, -20, targets[3 * b + 2]]);
  expect(makePairBatch(source(), 0, options)).toEqual(batch);
});

test('labels are learned', async () => {
  const graph = await create();
  const optimizer = new AdamWHost(graph.parameters);
  const losses: number[] = [];
  for (let step = 0; step < 80; step++) {
    losses.push((await graph.run(makePairBatch(source(), step, options))).loss);
    optimizer.step(5e-3);
  }
  expect(losses.at(-1)).toBeLessThan(0.5 * losses[0]);
  await graph.release();
});

test('the parts of a step have together the loss and the gradients of the whole', async () => {
  const [whole, cut] = [new HostLearner(await create()), new HostLearner(await create())];
  for (let k = 0; k < 3; k++) {
    const parts = [2 * k, 2 * k + 1].map((number) => makePairBatch(source(), number, { ...options, parts: 2 }));
    expect(parts.flatMap((p) => p.exampleIds)).toEqual(makePairBatch(source(), k, options).exampleIds);
    const one = await whole.step([makePairBatch(source(), k, options)], k, 1e-3);
    const other = await cut.step(parts, 2 * k, 1e-3);
    expect(other.loss / one.loss).toBeCloseTo(1, 5);
    expect(other.gradientNorm / one.gradientNorm).toBeCloseTo(1, 5);
  }
  await Promise.all([whole.release(), cut.release()]);
});

test('for a device pairs come in few shapes, and the update inside the graph is the update outside', async () => {
  const adamw = { weightDecay: 0.1, clipNorm: 1 };
  const host = new HostLearner(await create(), adamw);
  const device = await DeviceLearner.create(await crossEncoderStep(await stepOptions(), 'plain'), {}, adamw);
  const shapes = new Set<string>();
  for (let k = 0; k < 4; k++) {
    const filled = makePairBatch(source(), k, { ...options, onDevice: true, longest: 24 });
    for (const { rows, length } of filled.pairs) shapes.add(`${rows} x ${length}`);
    const one = await host.step([makePairBatch(source(), k, options)], k, 1e-2);
    const other = await device.step([filled], k, 1e-2);
    expect(other.loss).toBeCloseTo(one.loss, 4);
    expect(other.gradientNorm / one.gradientNorm).toBeCloseTo(1, 3);
  }
  expect([...shapes]).toEqual(['6 x 24']);
  await Promise.all([host.release(), device.release()]);
});
