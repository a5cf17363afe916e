/** @file Outputs of an encoder after earlier layers: what follows the last layer is applied to each of them. */
import { InputError } from '../../common/errors.ts';
import { type Graph, Node, Value } from '../graph/ir.ts';
import { findLayers, keepLayers } from './layers.ts';

/**
 * The numbers of layers after which a model has exits, checked.
 * @param after counted from 1, ascending, each below the number of layers
 * @throws InputError where there is no such layer, or the last one is named
 */
export function checkExits(after: readonly number[], layers: number): void {
  const wrong = after.some((n, i) => !Number.isInteger(n) || n < 1 || n >= layers || (i > 0 && n <= after[i - 1]));
  if (wrong || !after.length)
    throw new InputError({
      code: 'exits.layers',
      subject: `exits after the layers [${after}]`,
      expected: layers > 1 ? `numbers from 1 to ${layers - 1}, ascending` : 'a model of two layers or more',
      remedy: 'the last layer has its exit anyway: name earlier ones',
    });
}

/**
 * Adds an output for each exit, before the graph's own output. Each equals the output of `exitGraph`; layers are computed once.
 *
 * @param graph has one output; it is changed
 * @param after numbers of layers, counted from 1
 * @returns the outputs, the graph's own last
 * @throws InputError where there is no such layer
 */
export function addExits(graph: Graph, after: readonly number[]): readonly Value[] {
  const layers = findLayers(graph);
  checkExits(after, layers.length);
  const [whole] = graph.outputs;
  const end = layers[layers.length - 1].output;
  // What follows the last layer: a normalisation, a head, or nothing.
  const behind = new Set<Value>([end]);
  const tail: Node[] = [];
  for (const node of graph.nodes) {
    if (!node.inputs.some((v) => v && behind.has(v))) continue;
    tail.push(node);
    for (const v of node.outputs) behind.add(v);
  }
  const exits = after.map((n) => {
    const map = new Map<Value, Value>([[end, layers[n - 1].output]]);
    for (const node of tail) {
      const outputs = node.outputs.map((v) => {
        const copy = new Value(v.name ? graph.freshName(`exit${n}/${v.name}`) : '', { dtype: v.dtype, dims: v.dims });
        copy.detached = v.detached;
        map.set(v, copy);
        return copy;
      });
      const copy = new Node(
        node.op,
        node.inputs.map((v) => (v ? (map.get(v) ?? v) : null)),
        outputs,
        { domain: node.domain, name: node.name && `exit${n}/${node.name}` },
      );
      for (const [key, a] of node.attributes) copy.attributes.set(key, a);
      graph.addNode(copy);
    }
    return map.get(whole) as Value;
  });
  graph.setOutputs(...exits, whole);
  graph.prune();
  graph.sort();
  return graph.outputs;
}

/**
 * The model that ends after some of its layers; what follows the last layer follows these.
 * @param after number of layers, counted from 1
 * @throws InputError where there are not so many
 */
export function exitGraph(graph: Graph, after: number): Graph {
  const copy = graph.clone();
  checkExits([after], findLayers(copy).length);
  return keepLayers(
    copy,
    Array.from({ length: after }, (_, i) => i),
  );
}
