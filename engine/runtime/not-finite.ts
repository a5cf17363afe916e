/** @file Looks into a graph that gave a number that is none: which of its values was the first. */
import { Expr } from '../expressions/expr.ts';
import type { Graph, Value } from '../graph/ir.ts';
import { onnxType } from '../graph/stored.ts';
import { type Feeds, Session } from './session.ts';

/**
 * The first value, in the order of the nodes, that holds NaN or positive infinity; undefined where none does. Negative infinity
 * is left out: exporters write it under masks. The graph runs once more and unoptimised, a yes or no for each value beside it.
 *
 * @returns e.g. `loss/Exp (made by Exp)`
 */
export async function firstNotFiniteValue(graph: Graph, feeds: Feeds): Promise<string | undefined> {
  const watched = graph.clone();
  const values = watched.nodes.flatMap((n) => n.outputs.filter((v) => v.name));
  const flags = values.map((v) => flag(watched, v).value);
  watched.outputs.splice(0, watched.outputs.length, ...flags);
  const session = await Session.load(watched, { optimize: 'disabled' }, 'the graph');
  try {
    const wanted = Object.fromEntries(session.inputs.map((name) => [name, feeds[name]]));
    const found = await session.run(wanted);
    const at = flags.findIndex((f) => Number(found[f.name].data[0]) > 0);
    return at < 0 ? undefined : `${values[at].name} (made by ${values[at].producer?.op})`;
  } finally {
    await session.release();
  }
}

const FLOAT = onnxType('float32');

function flag(graph: Graph, v: Value): Expr {
  const value = new Expr(graph, v).op('Cast', [], { to: FLOAT });
  const bad = value.op('IsNaN').op('Or', [value.op('IsInf', [], { detect_negative: 0 })]);
  return bad.op('Cast', [], { to: FLOAT }).op('ReduceSum', [], { keepdims: 0 });
}
