/** @file A map after which token vectors are pooled is applied to the pooled vectors, where that is the same. */
import { expect, test } from 'vitest';
import { Expr } from '../../../engine/expressions/expr.ts';
import { type Pooling, pool, poolBeforeMap, poolings } from '../../../engine/expressions/pooling.ts';
import { Graph } from '../../../engine/graph/ir.ts';
import { tensor } from '../../../engine/graph/tensor.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { Random } from '../../../math/random.ts';

const [B, L, D, M] = [3, 5, 4, 2];
const random = Random.of(0, 'pool before map');
const numbers = (n: number): Float32Array => Float32Array.from({ length: n }, () => random.normal());
const tokens = tensor('float32', [B, L, D], numbers(B * L * D));
const mask = tensor('int64', [B, L], BigInt64Array.from([1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0], BigInt));
const map = { dtype: 'float32' as const, dims: [D, M], data: numbers(D * M) };

function graphOf(pooling: Pooling, by: typeof poolBeforeMap, readElsewhere = false): Graph {
  const graph = new Graph(14);
  const x = new Expr(graph, graph.input('tokens', 'float32', ['b', 'l', D]));
  const m = new Expr(graph, graph.input('mask', 'int64', ['b', 'l']));
  const hidden = x.matmul(new Expr(graph, graph.constant(map, 'map')));
  if (readElsewhere) graph.output(hidden.mul(2).value, 'tokens of it');
  graph.output(by(hidden, m, pooling).value, 'pooled');
  graph.prune();
  return graph;
}

async function computed(graph: Graph): Promise<number[]> {
  const session = await Session.load(graph);
  const { pooled } = await session.run({ tokens, mask });
  await session.release();
  return [...(pooled.data as Float32Array)];
}

/** Dimensions that come into the product with the map. */
const rankOf = (graph: Graph): string => {
  const product = graph.nodes.find((n) => n.op === 'MatMul');
  return product?.inputs[0]?.name === 'tokens' ? 'tokens' : 'pooled';
};

test.each(poolings)('%s: the same vectors', async (pooling) => {
  const [as, before] = [graphOf(pooling, pool), graphOf(pooling, poolBeforeMap)];
  const [a, b] = [await computed(as), await computed(before)];
  expect(b).toHaveLength(B * M);
  for (const [i, value] of b.entries()) expect(value).toBeCloseTo(a[i], 5);
  // A maximum, and a sum that is divided by a root, do not commute or are left alone.
  expect(rankOf(before)).toBe(['mean', 'cls', 'lasttoken', 'weightedmean'].includes(pooling) ? 'pooled' : 'tokens');
});

test('token vectors that something else reads are mapped as they are', async () => {
  const graph = graphOf('mean', poolBeforeMap, true);
  expect(rankOf(graph)).toBe('tokens');
  expect(await computed(graph)).toHaveLength(B * M);
});
