/** @file What every scorer of late interaction must hold: its graph equals plain TypeScript, its gradients equal differences. */
import { describe, expect, test } from 'vitest';
import { differentiate } from '../../../engine/autodiff/differentiate.ts';
import { Expr } from '../../../engine/expressions/expr.ts';
import { Graph } from '../../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { probe } from '../../../engine/runtime/infer-shapes.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { Random } from '../../../math/random.ts';
import { lateScorers } from '../../../students/late/members.ts';
import type { LateScorer } from '../../../students/late/scorer.ts';

const [B, Lq, C, Ld, D] = [2, 4, 3, 5, 6];
const QUERY = [4, 2];
const DOCUMENT = [
  [5, 1, 3],
  [2, 5, 4],
];
const sizes = { dimensions: D, queryTokens: Lq, documentTokens: Ld };

/** Rows of unit length, those of padding too: a scorer must not look at them. */
function rows(random: Random, n: number): Float64Array {
  const out = new Float64Array(n * D);
  for (let i = 0; i < n; i++) {
    const row = Array.from({ length: D }, () => random.normal());
    const size = Math.hypot(...row);
    for (let k = 0; k < D; k++) out[i * D + k] = row[k] / size;
  }
  return out;
}
const mask = (dims: number[], lengths: number[]): Tensor => {
  const last = dims.at(-1) as number;
  return tensor(
    'float64',
    dims,
    lengths.flatMap((n) => Array.from({ length: last }, (_, i) => Number(i < n))),
  );
};
const random = Random.of(1, 'scorers');
const feeds = {
  queries: { dtype: 'float64', dims: [B, Lq, D], data: rows(random, B * Lq) } as Tensor,
  queryMask: mask([B, Lq], QUERY),
  documents: { dtype: 'float64', dims: [B, C, Ld, D], data: rows(random, B * C * Ld) } as Tensor,
  documentMask: mask([B, C, Ld], DOCUMENT.flat()),
};
type Feeds = Record<string, Tensor>;

/** The scorer's graph in float64, with the weights as inputs, and its weights somewhat away from their start. */
async function graphOf(scorer: LateScorer) {
  const graph = new Graph(20);
  graph.float = 'float64';
  const input = (name: string, t: Tensor) => new Expr(graph, graph.input(name, 'float64', t.dims));
  const start = scorer.start(sizes, 3);
  const moved = new Map(
    [...start].map(([name, t]) => [
      name,
      { ...t, data: Float32Array.from(t.data, (v) => v + 0.1 * random.normal()) } as Tensor<'float32'>,
    ]),
  );
  const weights = Object.fromEntries([...moved].map(([name, t]) => [name, input(`w.${name}`, t)]));
  const given: Feeds = {
    ...feeds,
    ...Object.fromEntries([...moved].map(([name, t]) => [`w.${name}`, tensor('float64', t.dims, t.data)])),
  };
  const [queries, queryMask, documents, documentMask] = Object.entries(feeds).map(([n, t]) => input(n, t));
  const flat = documents.reshape(B, C * Ld, D).transpose(0, 2, 1);
  const similarity = queries.matmul(flat).reshape(B, Lq, C, Ld);
  const scores = scorer.scores({ queries, queryMask, documents, documentMask, similarity }, weights);
  // A factor a score, so that no gradient is hidden by a sum.
  const factors = new Expr(graph, graph.constant(tensor('float64', [B, C], [1, -2, 0.5, 3, 1.5, -1])));
  const total = scores.mul(factors).sum([0, 1]);
  graph.setOutputs(total.value, scores.value);
  graph.dropUnusedInputs();
  return { graph, given, moved, total, scores, factors };
}

const used = (graph: Graph, given: Feeds): Feeds =>
  Object.fromEntries(graph.inputs.map((v) => [v.name, given[v.name]]));

describe.each(Object.entries(lateScorers))('%s', (name, scorer: LateScorer) => {
  test('is registered under its name', () => {
    expect(scorer.name).toBe(name);
  });

  test('its graph gives what plain TypeScript gives for each pair alone', async () => {
    const { graph, given, moved, scores } = await graphOf(scorer);
    const session = await Session.load(graph, { threads: 1 });
    const found = (await session.run(used(graph, given)))[scores.value.name].data as Float64Array;
    await session.release();
    const rowsOf = (t: Tensor, at: number, n: number) => ({
      dimensions: D,
      data: (t.data as Float64Array).slice(at * D, (at + n) * D),
    });
    for (let b = 0; b < B; b++)
      for (let c = 0; c < C; c++) {
        const query = rowsOf(feeds.queries, b * Lq, QUERY[b]);
        const document = rowsOf(feeds.documents, (b * C + c) * Ld, DOCUMENT[b][c]);
        expect(found[b * C + c]).toBeCloseTo(scorer.score(query, document, moved), 9);
      }
  });

  test('gradients equal differences', async () => {
    const { graph, given, total } = await graphOf(scorer);
    const wanted = graph.inputs.filter((v) => !v.name.endsWith('Mask'));
    const shapes = await probe(graph, [used(graph, given), used(graph, given)]);
    const value = total.value.name;
    const names = new Map<string, string>();
    for (const [v, g] of differentiate(graph, total.value, wanted, shapes)) {
      if (!('dense' in g)) throw new Error('a gradient of rows');
      graph.output(g.dense);
      names.set(v.name, g.dense.name);
    }
    const session = await Session.load(graph, { threads: 1 });
    const at = used(graph, given);
    const out = await session.run(at);
    const h = 1e-6;
    for (const [input, output] of names) {
      const { dims, data } = at[input];
      const all = Array.from(data as Float64Array);
      const gradient = out[output].data as Float64Array;
      expect(gradient.length).toBe(all.length);
      for (let i = 0; i < all.length; i += Math.max(1, Math.floor(all.length / 7))) {
        const [up, down] = await Promise.all(
          [h, -h].map(async (by) => {
            const changed = Float64Array.from(all);
            changed[i] += by;
            const moved = await session.run({ ...at, [input]: { dtype: 'float64', dims, data: changed } });
            return Number(moved[value].data[0]);
          }),
        );
        expect(gradient[i]).toBeCloseTo((up - down) / (2 * h), 6);
      }
    }
    await session.release();
  });
});
