/** @file The static query tower: its fold is exact, order does not matter, special tokens weigh nothing. */
import { beforeAll, expect, test } from 'vitest';
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { specialTokens, staticStudent } from '../../students/static-encoder.ts';
import type { Student } from '../../students/student.ts';
import { makeWorld } from '../pipelines/world.ts';

const D = 32;
let student: Student;
let folded: Graph;
let weights: Map<string, Tensor>;
let special: Set<number>;

beforeAll(async () => {
  const { dualEncoder } = await makeWorld();
  const random = Random.of(1);
  const normal = (n: number, scale = 1) => Float32Array.from({ length: n }, () => scale * random.normal());
  // The tokenizer's vocabulary is a little smaller than the table asked for in the world.
  const V = 300;
  student = await staticStudent(dualEncoder, { dimensions: D, data: normal(V * D) });
  special = await specialTokens(dualEncoder, student.tokenizer);
  weights = new Map<string, Tensor>([
    ['static.embeddings', { dtype: 'float32', dims: [V, D], data: normal(V * D) }],
    ['static.weights', { dtype: 'float32', dims: [V, 1], data: normal(V) }],
    ['static.layer', { dtype: 'float32', dims: [D, D], data: normal(D * D, 0.2) }],
  ]);
  folded = await student.inferenceGraph(weights);
});

/** normalise(mean of token vectors), zeros of nothing. */
async function embed(graph: Graph, ids: number[]): Promise<number[]> {
  const session = await Session.load(graph.clone());
  const dims = [1, ids.length];
  const { last_hidden_state: hidden } = await session.run({
    input_ids: { dtype: 'int64', dims, data: BigInt64Array.from(ids, BigInt) },
    attention_mask: { dtype: 'int64', dims, data: new BigInt64Array(ids.length).fill(1n) },
  });
  await session.release();
  const rows = Array.from(hidden.data as Float32Array);
  const sum = Array.from({ length: D }, (_, k) => ids.reduce((s, _, l) => s + rows[l * D + k], 0));
  const length = Math.hypot(...sum) || 1;
  return sum.map((v) => v / length);
}

/** The tower as it is trained, with the weights put into its graph. */
function trained(): Graph {
  const graph = student.graph.clone();
  for (const v of graph.constants) if (weights.has(v.name)) v.constant = weights.get(v.name) ?? null;
  return graph;
}

const apart = (a: number[], b: number[]): number => Math.max(...a.map((v, k) => Math.abs(v - b[k])));

test('folded and unfolded towers embed alike, and permuting tokens changes nothing', async () => {
  const ids = [40, 51, 77, 120, 51];
  const whole = await embed(folded, ids);
  expect(apart(whole, await embed(trained(), ids))).toBeLessThan(1e-6);
  expect(apart(whole, await embed(folded, [51, 120, 40, 51, 77]))).toBeLessThan(1e-6);
});

test('a query of one token is the direction of its row; special tokens add nothing', async () => {
  const row = (weights.get('static.embeddings') as Tensor<'float32'>).data.subarray(60 * D, 61 * D);
  const layer = (weights.get('static.layer') as Tensor<'float32'>).data;
  const mapped = Array.from({ length: D }, (_, k) => row.reduce((s, v, j) => s + v * layer[j * D + k], 0));
  const direction = mapped.map((v) => v / Math.hypot(...mapped));
  expect(apart(await embed(folded, [60]), direction)).toBeLessThan(1e-5);
  const around = student.tokenizer.wrap([60]).ids;
  expect(around.length).toBeGreaterThan(1);
  expect([...around].filter((id) => special.has(id)).length).toBe(around.length - 1);
  expect(apart(await embed(folded, Array.from(around)), direction)).toBeLessThan(1e-5);
});

test('a query without tokens is the zero vector', async () => {
  expect(await embed(folded, Array.from(student.tokenizer.wrap([]).ids))).toEqual(new Array(D).fill(0));
});
