/** @file The weights of chosen parts of an encoder: its embeddings, its layers by number. */
import type { Graph, Value } from '../graph/ir.ts';
import { chosenLayers, findLayers } from './layers.ts';

/** A part of an encoder: what comes before the first layer, or a layer by its number from 0. */
export type EncoderPart = 'embeddings' | number;

/**
 * The constants that only these parts of an encoder read: what training leaves as it is. A constant that a further part reads
 * (a bias of relative positions, say) is not among them.
 * @throws InputError where there is no such layer
 */
export function constantsOf(graph: Graph, chosen: readonly EncoderPart[]): Set<Value> {
  const layers = findLayers(graph);
  const numbers = chosen.filter((part) => part !== 'embeddings');
  const parts: EncoderPart[] = chosenLayers(numbers, layers.length, 'train.freeze');
  if (numbers.length < chosen.length) parts.push('embeddings');
  const read = new Map<EncoderPart | 'rest', Set<Value>>([['embeddings', upstream([layers[0].input], [])]]);
  for (const [k, { input, output }] of layers.entries()) read.set(k, upstream([output], [input]));
  read.set(
    'rest',
    upstream(
      graph.outputs,
      layers.map((l) => l.output),
    ),
  );
  const others = new Set(
    [...read].filter(([part]) => !parts.includes(part as EncoderPart)).flatMap(([, own]) => [...own]),
  );
  return new Set(parts.flatMap((part) => [...(read.get(part) ?? [])]).filter((v) => !others.has(v)));
}

/** The constants that some values are made of, those before others left out. */
function upstream(values: readonly Value[], before: readonly Value[]): Set<Value> {
  const seen = new Set<Value>(before);
  const found = new Set<Value>();
  const stack = values.filter((v) => !seen.has(v));
  for (let v = stack.pop(); v; v = stack.pop()) {
    if (seen.has(v)) continue;
    seen.add(v);
    if (v.constant) found.add(v);
    for (const input of v.producer?.inputs ?? []) if (input) stack.push(input);
  }
  return found;
}
