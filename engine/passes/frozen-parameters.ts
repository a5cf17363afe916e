/** @file The weights of chosen parts of an encoder: its embeddings, its layers by number. */
import { InputError } from '../../common/errors.ts';
import type { Graph, Value } from '../graph/ir.ts';
import { findLayers } from './layers.ts';

/** A part of an encoder: what comes before the first layer, or a layer by its number from 0. */
export type EncoderPart = 'embeddings' | number;

/**
 * The constants that only these parts of an encoder read: what training leaves as it is. A constant that a further part reads
 * (a bias of relative positions, say) is not among them.
 * @throws InputError where there is no such layer
 */
export function constantsOf(graph: Graph, chosen: readonly EncoderPart[]): Set<Value> {
  const layers = findLayers(graph);
  for (const part of chosen)
    if (part !== 'embeddings' && !(Number.isInteger(part) && part >= -layers.length && part < layers.length))
      throw new InputError({
        code: 'layers.out-of-range',
        subject: `the encoder has no layer ${part} to freeze`,
        expected: `embeddings, and layers from 0 to ${layers.length - 1}, or from -${layers.length} to -1 counted from the last`,
        remedy: 'choose train.freeze among them',
      });
  const parts = chosen.map((part) => (part !== 'embeddings' && part < 0 ? layers.length + part : part));
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
