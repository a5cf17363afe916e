/** @file Checks graph invariants after every pass: one producer per value, no read before it is made, consistent links. */
import type { Graph, Value } from './ir.ts';

/**
 * Checks the invariants of a graph.
 * @throws Error (a defect, not a user's mistake) that names the node at which an invariant is broken
 */
export function check(graph: Graph): Graph {
  const made = new Set<Value>(graph.inputs);
  const own = new Set(graph.nodes);
  if (made.size !== graph.inputs.length) throw new Error('an input is listed twice');
  const names = new Map<string, Value>();
  const claim = (v: Value): void => {
    const other = names.get(v.name);
    if (other && other !== v) throw new Error(`two values are named '${v.name}'`);
    if (other) return;
    names.set(v.name, v);
    for (const reader of v.readers)
      if (!own.has(reader)) throw new Error(`'${v.name}' has a reader outside the graph, ${reader.title}`);
  };
  for (const v of graph.inputs) {
    if (v.producer || v.constant) throw new Error(`input '${v.name}' is also made by the graph`);
    claim(v);
  }
  for (const node of graph.nodes) {
    for (const v of node.inputs) {
      if (!v) continue;
      if (v.constant) claim(v);
      else if (!made.has(v)) throw new Error(`${node.title} reads '${v.name}' before it is made`);
      if (!v.readers.has(node)) throw new Error(`'${v.name}' does not know its reader ${node.title}`);
    }
    for (const v of node.outputs) {
      if (v.producer !== node) throw new Error(`'${v.name}' does not know its producer ${node.title}`);
      if (v.name) claim(v);
      if (made.has(v)) throw new Error(`'${v.name}' is made twice, the second time by ${node.title}`);
      made.add(v);
    }
  }
  for (const v of graph.outputs) if (!made.has(v) && !v.constant) throw new Error(`output '${v.name}' is never made`);
  return graph;
}

/** Whether passes check their resulting graph; test/setup.ts turns it on. */
export const checks = { afterPasses: false };

/** Called at the end of every pass. */
export function afterPass(graph: Graph): void {
  if (checks.afterPasses) check(graph);
}
