/** @file Finds the first non-finite value of a graph. */
import type { Graph } from '../graph/ir.ts';
import type { Tensor } from '../graph/tensor.ts';
import { type Feeds, Session } from './session.ts';

/** Values fetched per run, which bounds the memory. */
const BLOCK = 64;

/**
 * The first value, in the order of the nodes, that holds NaN or positive infinity; undefined where none does. Negative infinity
 * is left out: exporters write it under masks. The graph runs again without optimization, once per block of values until one is
 * found.
 *
 * @returns e.g. `loss/Exp (made by Exp)`
 */
export async function firstNotFiniteValue(graph: Graph, feeds: Feeds): Promise<string | undefined> {
  const count = graph.nodes.length;
  for (let from = 0; from < count; from += BLOCK) {
    const part = graph.clone();
    const values = part.nodes.slice(from, from + BLOCK).flatMap((n) => n.outputs.filter((v) => v.name));
    part.setOutputs(...values);
    part.dropUnused();
    const session = await Session.load(part, { optimize: 'disabled' }, 'the graph');
    try {
      const found = await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])));
      const first = values.find((v) => isBad(found[v.name]));
      if (first) return `${first.name} (made by ${first.producer?.op})`;
    } finally {
      await session.release();
    }
  }
  return undefined;
}

function isBad({ dtype, data }: Tensor): boolean {
  if (dtype !== 'float32' && dtype !== 'float64') return false;
  const values = data as Float32Array | Float64Array;
  for (let i = 0; i < values.length; i++) if (!(values[i] < Number.POSITIVE_INFINITY)) return true;
  return false;
}
