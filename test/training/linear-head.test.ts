/** @file FRR's layer: what scores against anchors reconstruct, and how its penalty and its losses shape it. */
import { expect, test } from 'vitest';
import { infoNCE } from '../../losses/info-nce.ts';
import { Random } from '../../math/random.ts';
import type { EmbeddingTable } from '../../training/batches/dual-encoder-batch.ts';
import { linearHeadOf, reconstruction } from '../../training/linear-head.ts';

const D = 6;
const unit = (n: number, seed: number): EmbeddingTable => {
  const random = Random.of(seed);
  const data = Float32Array.from({ length: n * D }, () => random.normal());
  for (let i = 0; i < n; i++) {
    const row = data.subarray(i * D, (i + 1) * D);
    const length = Math.hypot(...row);
    for (let k = 0; k < D; k++) row[k] /= length;
  }
  return { dimensions: D, data };
};
const through = (map: ReturnType<typeof reconstruction>, v: Float32Array): number[] =>
  Array.from({ length: D }, (_, j) => v.reduce((s, x, i) => s + x * map.data[i * D + j], 0));

test('D or more random anchors and the pseudo-inverse give every vector back; fewer give its part in their span', () => {
  const vector = unit(1, 9).data;
  for (const [k, v] of through(reconstruction(unit(D, 1)), vector).entries()) expect(v).toBeCloseTo(vector[k], 5);
  for (const [k, v] of through(reconstruction(unit(40, 2)), vector).entries()) expect(v).toBeCloseTo(vector[k], 5);

  // A pseudo-inverse of one anchor a is a / |a|^2; repeated and zero anchors add nothing.
  const anchor = unit(1, 3).data;
  const twice = Float32Array.of(...anchor, ...anchor, ...new Float32Array(D));
  const dot = vector.reduce((s, x, k) => s + x * anchor[k], 0);
  const found = through(reconstruction({ dimensions: D, data: twice }), vector);
  for (const [k, v] of found.entries()) expect(v).toBeCloseTo(dot * anchor[k], 5);
});

const queries = unit(30, 4);
const documents = unit(60, 5);
const examples = {
  queries: Int32Array.from({ length: 30 }, (_, i) => i),
  offsets: Int32Array.from({ length: 31 }, (_, i) => 2 * i),
  documents: Int32Array.from({ length: 60 }, (_, i) => i),
  scores: new Float32Array(60),
  labelled: new Uint8Array(30).fill(1),
  weights: new Float32Array(30).fill(1),
  relevant: (q: number) => new Set([2 * q]),
};
const losses = [{ loss: infoNCE({ temperature: 0.1 }), weight: 1 }];
const options = { anchors: 60, steps: 1, learningRate: 0.02, batchSize: 30, candidates: 2, seed: 0 };
const trained = (weight: number, more: Partial<typeof options> = {}) =>
  linearHeadOf({ examples }, { queries, documents }, losses, { ...options, ...more, weight });

test('the identity reconstructs everything; with weight 0 the losses alone shape the layer', async () => {
  const first = await trained(1);
  expect(first.reconstructed).toBeLessThan(1e-6);
  const [free, held] = [await trained(0, { steps: 120 }), await trained(30, { steps: 120 })];
  expect(free.loss).toBeLessThan(first.loss);
  expect(free.reconstructed).toBeGreaterThan(0.01);
  expect(held.reconstructed).toBeLessThan(0.3 * free.reconstructed);
  expect([...free.head.dims]).toEqual([D, D]);
  // The baseline is the same whatever would be reconstructed.
  expect((await trained(0, { steps: 120, anchors: 2 })).head.data).toEqual(free.head.data);
});

test('the reconstruction is that of texts at unit length through the layer', async () => {
  // No step has been taken where the term is measured: with fewer anchors it is the mean squared part outside of their span.
  const { reconstructed } = await trained(1, { anchors: 2 });
  const chosen = Random.of(0, 'anchors')
    .shuffle(Int32Array.from(documents.data.length ? examples.documents : []))
    .subarray(0, 2);
  const rows = Float32Array.from([...chosen].flatMap((d) => [...documents.data.subarray(d * D, (d + 1) * D)]));
  const map = reconstruction({ dimensions: D, data: rows });
  let sum = 0;
  for (const table of [queries.data, documents.data])
    for (let at = 0; at < table.length; at += D) {
      const h = table.subarray(at, at + D);
      sum += through(map, h).reduce((s, v, k) => s + (h[k] - v) ** 2, 0);
    }
  expect(reconstructed).toBeCloseTo(sum / 90, 5);
});
