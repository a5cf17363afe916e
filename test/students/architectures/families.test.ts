/** @file Architectures over encoders of several families and exporters: what each gives at the start, or why it is refused. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Graph } from '../../../engine/graph/ir.ts';
import { tensor } from '../../../engine/graph/tensor.ts';
import { loadGraph } from '../../../engine/io/onnx-file.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { applyArchitecture, architectureSchema } from '../../../students/architectures/index.ts';
import { shared } from '../../shared.ts';

/** Two texts, of 6 and 3 tokens. */
const inputs: Record<string, number[]> = {
  input_ids: [1, 2, 3, 4, 5, 6, 1, 2, 3, 0, 0, 0],
  attention_mask: [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
};

/** Vectors of the tokens that are no padding. */
async function vectors(graph: Graph): Promise<number[]> {
  const session = await Session.load(graph.clone(), { threads: 1 });
  const feeds = session.inputs.map((name) => [name, tensor('int64', [2, 6], inputs[name] ?? Array(12).fill(0))]);
  const [out] = Object.values(await session.run(Object.fromEntries(feeds)));
  await session.release();
  return Array.from(out.data as Float32Array).slice(0, 9 * out.dims[2]);
}

describe.skipIf(!shared).each(['bert-dynamo', 'bert-script', 'distilbert-dynamo', 'mpnet-script'])('%s', (name) => {
  async function difference(options: object): Promise<number> {
    const graph = await loadGraph(join(shared as string, 'zoo', name, 'model.onnx'));
    graph.setOutputs(graph.outputs.find((v) => v.name === 'last_hidden_state') ?? graph.outputs[0]);
    graph.prune();
    const before = await vectors(graph);
    await applyArchitecture(graph, architectureSchema.parse(options) ?? []);
    const after = await vectors(graph);
    return before.reduce((most, v, i) => Math.max(most, Math.abs(v - after[i])), 0);
  }

  test('experts start as the dense network, ReLU does not', async () => {
    expect(await difference({ kind: 'experts', experts: 4 })).toBeLessThan(1e-5);
    expect(await difference({ kind: 'relu' })).toBeGreaterThan(1e-3);
  });

  test('the scale-invariant form is made of PostNorm layers without positions in their scores', async () => {
    if (name.startsWith('mpnet'))
      await expect(difference({ kind: 'scale-invariant' })).rejects.toThrow(/bias by position/);
    else expect(await difference({ kind: 'scale-invariant' })).toBeGreaterThan(1e-3);
  });

  test('a tree of one leaf is full attention, many features are near it, and relative positions are refused', async () => {
    const [leaf, features] = [
      { kind: 'tree', depth: 0 },
      { kind: 'favor', features: 2000 },
    ];
    if (name.startsWith('mpnet')) {
      for (const o of [leaf, features])
        await expect(difference(o)).rejects.toThrow(
          'attention of layer 0 cannot be replaced: its scores have a bias by position',
        );
      return;
    }
    expect(await difference(leaf)).toBeLessThan(1e-5);
    expect(await difference(features)).toBeLessThan(0.01);
  });
});
