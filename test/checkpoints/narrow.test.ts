/** @file `distill narrow`: a folder with smaller matrices that a run trains further. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { narrow } from '../../checkpoints/narrow.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { bertGraph } from '../../models/bert.ts';
import { Encoder } from '../../models/encoder.ts';
import { loadStudent } from '../../students/encoder-student.ts';
import { narrow as narrowGraph, widthsOf } from '../../students/narrow/narrow.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

test('half of the heads and a quarter of the units; PyTorch weights where a class has such layers', async () => {
  const options = { model: world.dualEncoder, data: world.data, batchSize: 8, rounds: 2, tokens: 24 };
  const units = await narrow({ ...options, units: 32, output: join(world.folder, 'units') });
  expect(existsSync(join(units.output, 'model.safetensors'))).toBe(true);
  expect(JSON.parse(readFileSync(join(units.output, 'config.json'), 'utf8')).intermediate_size).toBe(32);
  const both = await narrow({ ...options, heads: 1, units: 32, output: join(world.folder, 'both') });
  expect(existsSync(join(both.output, 'model.safetensors'))).toBe(false);
  expect(both.bytes.after).toBeLessThan(units.bytes.after);
  expect(units.bytes.after).toBeLessThan(units.bytes.before);
  expect(await widthsOf((await loadStudent(both.output)).graph)).toEqual([{ heads: 1, units: 32 }]);
  const encoder = await Encoder.load(both.output, { comparable: true });
  const vectors = await encoder.encode(['red lamp']);
  expect(Math.hypot(...vectors)).toBeCloseTo(1, 5);
  await encoder.dispose();
});

const SHAPE = { vocabularySize: 40, hidden: 16, layers: 2, heads: 4, intermediate: 24, maxLength: 16 };

/** An encoder whose heads are joined by a shape that is computed from theirs, as PyTorch exports a view. */
function withComputedShapes(also?: (graph: Graph, heads: Value) => void): Graph {
  const graph = bertGraph(SHAPE, Random.of(0, 'narrow'));
  const joins = graph.nodes.filter((n) => n.op === 'Reshape' && n.inputs[0]?.producer?.op === 'Transpose');
  const joined = joins.filter((n: Node) => [...n.outputs[0].readers].some((r) => r.op === 'MatMul'));
  expect(joined.length).toBeGreaterThanOrEqual(SHAPE.layers);
  for (const node of joined) {
    const heads = new Expr(graph, node.inputs[0] as Value);
    const shape = heads
      .shape()
      .slice(0, 2, 0)
      .concat([heads.ints(SHAPE.hidden)], 0);
    node.setInputs([heads.value, shape.value]);
    also?.(graph, heads.value);
  }
  graph.sort();
  return graph;
}

test('heads whose shape is computed from their own are made fewer; a shape that is read elsewhere is refused', async () => {
  const kept = Array.from({ length: SHAPE.layers }, () => ({ heads: [0, 2], units: [1, 3, 5, 7] }));
  const ids = { dtype: 'int64', dims: [2, 3], data: BigInt64Array.of(1n, 2n, 3n, 4n, 5n, 6n) } as const;
  const ones = { dtype: 'int64', dims: [2, 3], data: new BigInt64Array(6).fill(1n) } as const;
  const found: number[][] = [];
  for (const graph of [bertGraph(SHAPE, Random.of(0, 'narrow')), withComputedShapes()]) {
    await narrowGraph(graph, kept);
    const session = await Session.load(graph, { threads: 1 });
    const given = { input_ids: ids, attention_mask: ones, token_type_ids: { ...ones, data: new BigInt64Array(6) } };
    const out = await session.run(Object.fromEntries(session.inputs.map((n) => [n, given[n as keyof typeof given]])));
    found.push(Array.from(out[session.outputs[0]].data as Float32Array));
    await session.release();
  }
  expect(found[0].some((v) => v !== 0)).toBe(true);
  expect(found[1]).toEqual(found[0]);
  const elsewhere = withComputedShapes((graph, heads) =>
    graph.output(new Expr(graph, heads).op('Shape').float().value, graph.freshName('widths')),
  );
  await expect(narrowGraph(elsewhere, kept)).rejects.toThrow('the shape of its heads is read elsewhere');
});
