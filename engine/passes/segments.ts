/** @file Cuts an encoder's graph after some of its layers, into graphs that run one after the other. */
import { check } from '../graph/checker.ts';
import type { Graph, Value } from '../graph/ir.ts';
import { checkExits } from './exits.ts';
import { findLayers } from './layers.ts';

/** The token vectors that a segment gives, [batch, sequence, width], and the input under which the next one reads them. */
export const HIDDEN = 'hidden';
export const PREVIOUS = 'previous';

export interface Segment {
  graph: Graph;
  /** The token vectors that it ends with; absent in the last one, which has the outputs of the whole. */
  hidden?: Value;
}

/** How many layers a graph has. @throws InputError where none is found */
export const layerCount = (graph: Graph): number => findLayers(graph.clone()).length;

/**
 * One graph a segment: the first reads what the whole reads, each later one the input `previous` and what else its layers need (the
 * mask). Run one after the other they compute what the whole computes.
 *
 * @param after numbers of layers after which it is cut, counted from 1, ascending, each below the number of layers
 * @throws InputError where there is no such layer
 */
export function cutSegments(graph: Graph, after: readonly number[]): Segment[] {
  checkExits(after, layerCount(graph));
  return Array.from({ length: after.length + 1 }, (_, i) => segment(graph, after[i - 1], after[i]));
}

function segment(whole: Graph, from: number | undefined, to: number | undefined): Segment {
  const graph = whole.clone();
  const layers = findLayers(graph);
  const end = to === undefined ? undefined : layers[to - 1].output;
  if (from !== undefined) {
    const start = layers[from - 1].output;
    const hidden = graph.input(PREVIOUS, start.dtype ?? 'float32', ['batch', 'sequence', 'width']);
    graph.replace(start, hidden);
    // Shapes are read from the nearest vectors, or everything before would be computed again for its shape alone.
    for (const { input } of layers.slice(0, from))
      for (const node of [...input.readers]) if (node.op === 'Shape') node.replaceInput(input, hidden);
  }
  if (end) graph.setOutputs(end);
  graph.prune();
  // The first one keeps every input, so that it says how texts are fed.
  if (from !== undefined) graph.dropUnusedInputs();
  graph.sort();
  return { graph: check(graph), hidden: end };
}
