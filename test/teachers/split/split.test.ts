/**
 * @file A cross-encoder cut at a layer: joined from the bottom it is the whole model, stored states change nothing, and the graph that
 * is trained computes what is served.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { padBatch } from '../../../data/batches.ts';
import type { Forms } from '../../../engine/autodiff/rule.ts';
import { floatsOf } from '../../../engine/graph/tensor.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { mse } from '../../../losses/mse.ts';
import { tokenInputs } from '../../../models/encoder-graph.ts';
import { crossEncoder } from '../../../teachers/cross-encoder.ts';
import { describeClassifier } from '../../../teachers/reading/describe.ts';
import { logitGraph } from '../../../teachers/reading/logit-graph.ts';
import { pairGraph } from '../../../teachers/split/pair-graph.ts';
import { splitCrossEncoder } from '../../../teachers/split/split-cross-encoder.ts';
import { splitTexts } from '../../../teachers/split/split-texts.ts';
import { makePairBatch } from '../../../training/batches/cross-encoder-batch.ts';
import { DeviceLearner, learnerOn } from '../../../training/device-learner.ts';
import { crossEncoderStep } from '../../../training/step/cross-encoder-step.ts';
import { makeWorld, type World } from '../../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
const query = 'red lamp from the kitchen';
const documents = [
  'This lamp is red. It stands in the kitchen since last year.',
  'A piano.',
  'This tent is blue and is still in good order, it stands in the garden since last year and the year before.',
];

describe('cut after one of two layers', () => {
  test('read together from the bottom, its logits are those of the whole model', async () => {
    const teacher = await crossEncoder(world.crossEncoder);
    const pairs = documents.map((document, i) => ({ queryId: 'q', documentId: `${i}`, query, document }));
    const expected = await teacher.score(pairs);
    await teacher.dispose();
    const split = await splitCrossEncoder(world.crossEncoder, 1);
    expect([split.below, split.layers, split.width]).toEqual([1, 2, 32]);
    const found = await split.whole(query, documents);
    for (const [i, logit] of expected.entries()) expect(found[i]).toBeCloseTo(logit, 4);
    await split.dispose();
  });

  test('stored states give the same logits as fresh ones, alone and in any batch; the query counts', async () => {
    const split = await splitCrossEncoder(world.crossEncoder, 1);
    const stored = await split.documents(documents);
    const all = await split.score(query, stored);
    for (const [i, text] of documents.entries()) {
      const [fresh] = await split.documents([text]);
      const [alone] = await split.score(query, [fresh]);
      expect(alone).toBeCloseTo(all[i], 4);
      // A state a token of the document and of the special token behind it.
      expect(stored[i].data.length).toBe(stored[i].count * split.width);
    }
    const other = await split.score('guitar', stored);
    expect(Math.abs(other[0] - all[0])).toBeGreaterThan(1e-5);
    await split.dispose();
  });

  test('the graph that is trained gives the logits that are served, whatever the padding and rows that fill up', async () => {
    const reading = await describeClassifier(world.crossEncoder, {});
    for (const documentStart of [0, 9, 16]) {
      const split = await splitCrossEncoder(world.crossEncoder, 1, { documentStart });
      const texts = splitTexts(reading, reading.own, documentStart);
      for (const width of [Math.max(documentStart, 11), 20]) {
        const graph = pairGraph(await logitGraph(reading), { below: 1, documentStart, width });
        const session = await Session.load(graph, {}, 'the pairs');
        const rows = documents.map((d) => texts.row(texts.query(query), texts.document(d), width));
        const length = Math.max(...rows.map((r) => r.ids.length));
        const block = padBatch(rows, reading.tokenizer.padId, { rows: 5, length: length + 3 });
        const { position_ids: _, ...feeds } = tokenInputs(block);
        const logits = floatsOf((await session.run(feeds)).logits);
        const expected = await split.score(query, await split.documents(documents));
        for (const [i, logit] of expected.entries()) expect(Math.abs(logits[i] - logit)).toBeLessThan(1e-4);
        expect([...logits].every(Number.isFinite)).toBe(true);
        await session.release();
      }
      await split.dispose();
    }
  });

  test('its step on a device, with rows that fill up, has the loss and the gradients of the host', async () => {
    const reading = await describeClassifier(world.crossEncoder, {});
    const [documentStart, width] = [9, 12];
    const texts = splitTexts(reading, reading.own, documentStart);
    const model = pairGraph(await logitGraph(reading), { below: 1, documentStart, width });
    const make = (forms: Forms) =>
      crossEncoderStep(
        { model, losses: [{ loss: mse({ scale: 1, shift: 0 }), weight: 1 }], groups: 2, leastLength: width },
        forms,
      );
    const examples = {
      queries: Int32Array.of(0),
      offsets: Int32Array.of(0, 3),
      documents: Int32Array.of(0, 1, 2),
      scores: Float32Array.of(2, -1, 0),
      labelled: new Uint8Array(1),
      weights: Float32Array.of(1),
      relevant: () => new Set<number>(),
    };
    const source = {
      examples,
      pairTokens: (_: number, d: number) => texts.row(texts.query(query), texts.document(documents[d]), width),
      padId: reading.tokenizer.padId,
    };
    const longest = reading.hard + width - documentStart;
    const batch = (onDevice: boolean) =>
      makePairBatch(source, 0, { queries: 1, candidates: 5, groups: 2, seed: 0, onDevice, longest });
    expect(batch(true).pairs.some((b) => b.rows > 2 && b.length > 32)).toBe(true);
    const found: [number, number][] = [];
    for (const learner of [
      await learnerOn(make, { provider: 'cpu' }, {}),
      await DeviceLearner.create(await make('plain')),
    ]) {
      const onDevice = learner instanceof DeviceLearner;
      const { loss, gradientNorm } = await learner.step([batch(onDevice)], 0, 1e-3);
      found.push([loss, gradientNorm]);
      await learner.release();
    }
    expect(found[1][0]).toBeCloseTo(found[0][0], 4);
    expect(found[1][1] / found[0][1]).toBeCloseTo(1, 3);
  });

  test('a document is cut where the positions end, and a start without room is refused', async () => {
    const split = await splitCrossEncoder(world.crossEncoder, 1, { documentStart: 40 });
    const [long] = await split.documents([documents.join(' ').repeat(9)]);
    expect(long.count).toBe(24);
    expect((await split.score(query, [long])).every(Number.isFinite)).toBe(true);
    await expect(split.score(query, [{ count: 2, data: new Float32Array(3) }])).rejects.toThrow('32 numbers a token');
    await split.dispose();
    await expect(splitCrossEncoder(world.crossEncoder, 1, { documentStart: 63 })).rejects.toThrow(
      'documents begin at position 63: expected a whole number from 0 to 62',
    );
  });

  test('refuses a layer that is not there, and a model without a logit', async () => {
    await expect(splitCrossEncoder(world.crossEncoder, 2)).rejects.toThrow(/a cut after layer 2 of 2/);
    await expect(splitCrossEncoder(world.dualEncoder, 1)).rejects.toThrow();
  });
});
