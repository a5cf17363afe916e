/** @file Finds an encoder's layers by structure, independent of names, and keeps some of them. */
import { InputError } from '../../common/errors.ts';
import { check } from '../graph/checker.ts';
import type { Graph, Node, Value } from '../graph/ir.ts';

/** The part of the residual stream that one layer spans. */
export interface Layer {
  input: Value;
  output: Value;
}

/** Operators that mix tokens; a Fourier transform in FNet. */
const attention = new Set(['Softmax', 'Attention', 'MultiHeadAttention', 'GroupQueryAttention', 'DFT']);
/** Operators that exporters cancel against their inverse. */
const moves = new Set(['Transpose', 'Reshape']);
/** Operators whose output depends only on a tensor's shape. */
const shapeOnly = new Set(['Shape', 'Size', 'ConstantOfShape']);

/**
 * The layers of an encoder, first to last.
 *
 * All paths from the token embeddings to the output go through a chain of values: the residual stream. Each attention
 * is between two of them; a layer begins at the last one before its attention and ends where the next layer begins.
 *
 * @throws InputError where no token embedding or no attention is found
 */
export function findLayers(graph: Graph): Layer[] {
  const source = tokenEmbedding(graph);
  const cuts = cutPoints(graph, source);
  const segments = attentionSegments(graph, cuts);
  if (!segments.length)
    throw new InputError({
      code: 'layers.none',
      subject: 'no attention was found between the token embeddings and the output',
      remedy: 'give a transformer encoder, or leave out student.layers',
    });
  // Distance from a layer's attention to its last cut point, from all layers but the last.
  const tail = segments.length > 1 ? segments[1] - segments[0] - 1 : cuts.length - 2 - segments[0];
  // Where the last one is shorter, its end was cancelled against what follows it (a transposition and its inverse): then
  // all layers begin and end before that point, so that all have the same form of output.
  const lastEnd = segments[segments.length - 1] + 1 + tail;
  const same = (back: number): boolean => {
    const own = cuts[segments[0] + 1 + tail - back].producer?.op ?? '';
    return !moves.has(own) || cuts[lastEnd - back].producer?.op === own;
  };
  let lost = Math.max(0, lastEnd - (cuts.length - 1));
  while (lost <= tail && !same(lost)) lost++;
  const shift = lost <= Math.min(tail, segments[0]) ? lost : 0;
  return segments.map((at, i) => {
    const end = i + 1 < segments.length ? segments[i + 1] - shift : Math.min(at + 1 + tail - shift, cuts.length - 1);
    return { input: cuts[at - shift], output: cuts[end] };
  });
}

/**
 * Numbers from 0 of chosen layers: -1 is the last of `count`, and is left out where it is named by its number too.
 * @param option that they come from, for messages
 * @throws InputError where there is no such layer
 */
export function chosenLayers(chosen: readonly number[], count: number, option = 'student.layers'): number[] {
  for (const k of chosen)
    if (!Number.isInteger(k) || k < -count || k >= count)
      throw new InputError({
        code: 'layers.out-of-range',
        subject: `the encoder has no layer ${k}`,
        expected: `layers from 0 to ${count - 1}, or from -${count} to -1 counted from the last`,
        remedy: `choose ${option} among them`,
      });
  return chosen.map((k) => (k < 0 ? count + k : k)).filter((k, i) => chosen[i] >= 0 || !chosen.includes(k));
}

/**
 * Keeps the given layers, in that order, and joins them.
 * @param chosen numbers from 0, lowest first; negative ones count from the last layer, -1
 * @throws InputError where there is no such layer
 */
export function keepLayers(graph: Graph, chosen: readonly number[]): Graph {
  const layers = findLayers(graph);
  const keep = chosenLayers(chosen, layers.length);
  if (keep.some((k, i) => i > 0 && k <= keep[i - 1]))
    throw new InputError({
      code: 'layers.order',
      subject: `layers [${keep}] are not in ascending order`,
      remedy: 'name each layer once, lowest first',
    });
  let stream = layers[0].input;
  // Readers are collected before rewiring: a layer's output is the next one's input.
  const readers = new Map(layers.map((l) => [l, [...l.input.readers]]));
  const end = layers[layers.length - 1].output;
  const endReaders = [...end.readers];
  for (const k of keep) {
    const layer = layers[k];
    for (const node of readers.get(layer) ?? []) node.replaceInput(layer.input, stream);
    stream = layer.output;
  }
  for (const node of endReaders) node.replaceInput(end, stream);
  if (stream !== end && graph.outputs.includes(end)) {
    graph.replaceOutput(end, stream);
    [stream.dtype, stream.dims] = [end.dtype, end.dims];
  }
  graph.prune();
  graph.sort();
  return check(graph);
}

/** The token embeddings. */
function tokenEmbedding(graph: Graph): Value {
  const fused = graph.nodes.find((n) => n.op === 'EmbedLayerNormalization');
  if (fused) return fused.outputs[0];
  const ids = new Set(graph.inputs.filter((v) => v.name === 'input_ids'));
  for (const node of graph.nodes) {
    const [table, indices] = node.inputs;
    // A Where replaces one id by another, as exports for transformers.js do with the closing token.
    if (
      ['Cast', 'Identity', 'Where', 'Reshape', 'Transpose'].includes(node.op) &&
      node.inputs.some((v) => v && ids.has(v))
    )
      ids.add(node.outputs[0]);
    if (node.op === 'Gather' && indices && ids.has(indices) && (table?.constant?.dims.length === 2 || table?.producer))
      return node.outputs[0];
  }
  throw new InputError({
    code: 'layers.no-embedding',
    subject: "no table is looked up with the input 'input_ids'",
    remedy: 'give an encoder whose token embedding is a Gather',
  });
}

/** Values on every path from the source to an output, in order. */
function cutPoints(graph: Graph, source: Value): Value[] {
  const reached = new Set<Value>([source]);
  for (const node of graph.nodes)
    if (!shapeOnly.has(node.op) && node.inputs.some((v) => v && reached.has(v)))
      for (const v of node.outputs) reached.add(v);
  const needed = new Set<Value>();
  const stack: Value[] = graph.outputs.filter((v) => reached.has(v));
  for (let v = stack.pop(); v; v = stack.pop()) {
    if (needed.has(v)) continue;
    needed.add(v);
    if (v === source || !v.producer || shapeOnly.has(v.producer.op)) continue;
    for (const input of v.producer.inputs) if (input && reached.has(input)) stack.push(input);
  }
  const counts = (node: Node): boolean => !shapeOnly.has(node.op) && node.outputs.some((v) => needed.has(v));
  const left = new Map<Value, number>();
  for (const v of needed) left.set(v, [...v.readers].filter(counts).length + (graph.outputs.includes(v) ? 1 : 0));
  const live = new Set<Value>([source]);
  const cuts = [source];
  for (const node of graph.nodes) {
    if (!counts(node) || node === source.producer) continue;
    for (const v of new Set(node.inputs)) {
      if (!v || !live.has(v)) continue;
      left.set(v, (left.get(v) as number) - 1);
      if (left.get(v) === 0) live.delete(v);
    }
    for (const v of node.outputs) if (needed.has(v)) live.add(v);
    if (live.size === 1) cuts.push([...live][0]);
  }
  return cuts;
}

/** Whether a node makes features of keys or queries: exponentials that multiply other values of the text. */
function linearAttention(node: Node): boolean {
  if (node.op !== 'Exp') return false;
  const multiplies = (v: Value, steps: number): boolean =>
    [...v.readers].some((n) =>
      n.op === 'MatMul'
        ? n.inputs.every((x) => x?.producer)
        : steps > 0 && ['Mul', 'Transpose'].includes(n.op) && multiplies(n.outputs[0], steps - 1),
    );
  return multiplies(node.outputs[0], 2);
}

/** Whether a node makes weights of attention of the products of two values of the text: ReLU in place of Softmax. */
function reluAttention(node: Node): boolean {
  const product = node.op === 'Relu' ? node.inputs[0]?.producer : undefined;
  const computed = (v: Value | null): boolean =>
    !!v?.producer &&
    (!['Transpose', 'Cast', 'Identity', 'DequantizeLinear'].includes(v.producer.op) || computed(v.producer.inputs[0]));
  return product?.op === 'MatMul' && product.inputs.every(computed);
}

/** Positions in the chain of cut points after which an attention comes before the next cut point. */
function attentionSegments(graph: Graph, cuts: readonly Value[]): number[] {
  const position = new Map(cuts.map((v, i) => [v, i]));
  const place = new Map(graph.nodes.map((n, i) => [n, i]));
  const starts: number[] = [];
  for (const node of graph.nodes) {
    if (!attention.has(node.op) && !linearAttention(node) && !reluAttention(node)) continue;
    // A segment begins at the nearest cut point upstream of its attention.
    let best = -1;
    const stack = [...node.inputs];
    const seen = new Set<Value>();
    for (let v = stack.pop(); v !== undefined; v = stack.pop()) {
      if (!v || seen.has(v)) continue;
      seen.add(v);
      const at = position.get(v);
      if (at !== undefined) best = Math.max(best, at);
      else if (v.producer && !shapeOnly.has(v.producer.op) && place.has(v.producer)) stack.push(...v.producer.inputs);
    }
    if (best >= 0 && !starts.includes(best)) starts.push(best);
  }
  return starts.sort((a, b) => a - b);
}
