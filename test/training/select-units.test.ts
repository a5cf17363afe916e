/** @file Narrower layers: heads and hidden units by Sequential Attention, and a graph that equals the masked one. */
import { expect, test } from 'vitest';
import type { Graph } from '../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { encodeGraph, parseGraph } from '../../engine/io/onnx-file.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { bertGraph } from '../../models/bert.ts';
import { type Kept, maskNames, narrow, withMasks } from '../../students/narrow/narrow.ts';
import { selectUnits } from '../../training/select-units.ts';
import { batchOf } from './tiny.ts';

const shape = { vocabularySize: 300, hidden: 16, layers: 2, heads: 4, intermediate: 24, maxLength: 24 };
const kept: Kept[] = [
  { heads: [1, 3], units: [0, 2, 3, 9, 20] },
  { heads: [0, 2], units: [5, 6, 7, 8, 23] },
];
const encoder = () => bertGraph(shape, Random.of(3, 'weights'));

async function states(graph: Graph, more: Record<string, Tensor> = {}): Promise<Float32Array> {
  const { ids, mask, typeIds, rows, length } = batchOf(5).queries;
  const dims = [rows, length];
  const given: Record<string, Tensor> = {
    input_ids: { dtype: 'int64', dims, data: ids },
    attention_mask: { dtype: 'int64', dims, data: mask },
    token_type_ids: { dtype: 'int64', dims, data: typeIds },
    ...more,
  };
  const session = await Session.load(graph, { threads: 1 });
  const out = await session.run(Object.fromEntries(session.inputs.map((name) => [name, given[name]])));
  await session.release();
  return out.last_hidden_state.data as Float32Array;
}
const masks = Object.assign(
  {},
  ...kept.flatMap(({ heads, units }, l) => [
    {
      [maskNames(l).heads]: tensor(
        'float32',
        [4],
        [0, 1, 2, 3].map((h) => Number(heads.includes(h))),
      ),
    },
    {
      [maskNames(l).units]: tensor(
        'float32',
        [24],
        Array.from({ length: 24 }, (_, u) => Number(units.includes(u))),
      ),
    },
  ]),
) as Record<string, Tensor>;

test('the narrower graph has smaller matrices and gives what the masked one gives', async () => {
  const [masked, small] = [encoder(), encoder()];
  await withMasks(masked);
  await narrow(small, kept);
  const bytes = encodeGraph(small);
  const [one, other] = [await states(masked, masks), await states(parseGraph(bytes))];
  expect(Math.max(...one.map((v, i) => Math.abs(v - other[i])))).toBeLessThan(1e-5);
  expect(bytes.length).toBeLessThan(encodeGraph(encoder()).length - 4 * 2 * (4 * 16 * 8 + 2 * 16 * 19));
  const dims = (name: string) => small.constants.find((v) => v.name === name)?.constant?.dims;
  expect(dims('encoder.layer.0.attention.self.query.weight')).toEqual([8, 16]);
  expect(dims('encoder.layer.1.output.dense.weight')).toEqual([16, 5]);
});

const draw = (step: number) => batchOf(8, step % 4).documents[0];

test.each(['heads', 'units'] as const)('%s that do nothing are not chosen', async (kind) => {
  const graph = encoder();
  for (const [layer, { heads, units }] of kept.entries()) {
    const weight = (name: string) =>
      graph.constants.find((v) => v.name === `encoder.layer.${layer}.${name}`)?.constant?.data as Float32Array;
    const [o, two, bias] = [
      weight('attention.output.dense.weight'),
      weight('output.dense.weight'),
      weight('intermediate.dense.bias'),
    ];
    if (kind === 'heads') {
      for (const i of o.keys()) if (!heads.includes(Math.floor((i % 16) / 4))) o[i] *= 0.01;
      continue;
    }
    // Each of those that do something writes to a column of its own.
    for (const u of units) bias[u] = 2;
    for (const i of two.keys()) {
      const [r, u] = [Math.floor(i / 24), i % 24];
      two[i] = units.includes(u) ? 2 * Number(r === 3 * units.indexOf(u)) : two[i] / 100;
    }
  }
  const keep = kind === 'heads' ? { heads: 2, units: 24 } : { heads: 4, units: 5 };
  const found = await selectUnits(graph, draw, { ...keep, pooling: 'mean', rounds: 10 });
  expect(found.map((k) => k[kind])).toEqual(kept.map((k) => k[kind]));
});

test('more than there are is refused', async () => {
  await expect(selectUnits(encoder(), draw, { heads: 5, units: 5, pooling: 'mean' })).rejects.toThrow(
    'layer 0 has 4 heads and 24 hidden units',
  );
});
