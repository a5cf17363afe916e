/** @file What an exported graph gives: token vectors cut to the requested dimensions, and one vector a text. */
import { InputError } from '../../common/errors.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import { applyHead, cutHead, type Head, headWidth, isPlain } from '../../models/modules/head.ts';

export interface Outputs {
  /** What makes one vector of token vectors: of the model as it is, not yet cut. */
  head: Head;
  /** Width of the model's token vectors. */
  width: number;
  /** How many of them stay, from the first on. */
  dimensions?: number;
}

/**
 * Leaves two outputs: last_hidden_state [batch, sequence, width] and sentence_embedding [batch, dimensions], which is what
 * the head makes of the first. Where the head is one pooling, token vectors are cut, so that loaders that pool them get the
 * second's values; elsewhere its last module is. A head that leaves prompts out of the pooling cannot stand in the graph, which
 * does not know them: then token vectors are the only output.
 */
export function writeOutputs(graph: Graph, options: Outputs): void {
  const { head, width } = options;
  const whole = headWidth(head, width);
  const { dimensions = whole } = options;
  const hidden = graph.outputs.find((v) => v.name === 'last_hidden_state' || v.name === 'token_embeddings');
  if (!hidden)
    throw new InputError({
      code: 'export.no-hidden-state',
      subject: `the model has the outputs ${graph.outputs.map((v) => v.name).join(', ')}`,
      expected: 'last_hidden_state',
      remedy: 'export a dual-encoder whose token vectors are an output',
    });
  if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > whole)
    throw new InputError({
      code: 'export.dimensions',
      subject: 'the dimensions of the export',
      expected: `a whole number from 1 to the model's ${whole}`,
      received: String(dimensions),
      remedy: 'leave --dimensions out or choose one of the prefixes that the student was trained with',
    });
  let out = new Expr(graph, hidden);
  if (hidden.dtype !== 'float32') {
    hidden.name = graph.freshName('own_hidden_state');
    out = out.cast('float32');
  }
  const { head: behind, tokens } = cutOutputs(head, width, dimensions);
  if (tokens < width) {
    out.value.name = graph.freshName('whole_hidden_state');
    out = out.slice(0, tokens, -1);
  }
  let mask = graph.inputs.find((v) => v.name === 'attention_mask');
  mask ??= graph.input('attention_mask', 'int64', ['batch_size', 'sequence_length']);
  const sentence = head.includePrompt ? applyHead(out, new Expr(graph, mask).cast('int64'), behind) : undefined;
  if (out.value.name !== 'last_hidden_state') out.value.name = 'last_hidden_state';
  for (const v of graph.inputs) v.dims = ['batch_size', 'sequence_length'];
  Object.assign(out.value, { dtype: 'float32', dims: ['batch_size', 'sequence_length', tokens] });
  if (sentence) {
    sentence.value.name = graph.freshName('sentence_embedding');
    Object.assign(sentence.value, { dtype: 'float32', dims: ['batch_size', dimensions] });
  }
  graph.setOutputs(out.value, ...(sentence ? [sentence.value] : []));
  graph.prune();
}

/** What is cut to give the first dimensions: the width of token vectors that stays, and the head behind them. */
export function cutOutputs(head: Head, width: number, dimensions: number): { head: Head; tokens: number } {
  if (isPlain(head)) return { head, tokens: Math.min(width, dimensions) };
  return { head: cutHead(head, headWidth(head, width), dimensions), tokens: width };
}

/** The tables that token ids are looked up in, with the look-ups. */
export function wordLookups(graph: Graph): Node[] {
  const ids = new Set<Value>(graph.inputs.filter((v) => v.name === 'input_ids'));
  return graph.nodes.filter((node) => {
    const [first, second] = node.inputs;
    if (first && ids.has(first) && (node.op === 'Cast' || node.op === 'Identity')) ids.add(node.outputs[0]);
    return node.op === 'Gather' && second && ids.has(second) && first?.constant?.dims.length === 2;
  });
}

/** Whether a token's row is 0 in every table that ids are looked up in, as those of special tokens are in a static tower. */
export function saysNothing(graph: Graph, token: number): boolean {
  const tables = wordLookups(graph).flatMap(({ inputs: [table] }) => table?.constant ?? []);
  return tables.every(({ dims: [, width], data }) =>
    data.slice(token * width, (token + 1) * width).every((x) => Number(x) === 0),
  );
}

/**
 * Puts the closing special token back where a text was cut off without it: transformers.js cuts ids at the model's
 * longest length and loses it, Hugging Face's tokenizers cut the text and keep it. With this both give the same ids.
 *
 * ids'[i] = separator where i is the last position that the mask shows, ids[i] elsewhere.
 */
export function sealTexts(graph: Graph, separator: number): void {
  const lookups = wordLookups(graph);
  const [ids] = graph.inputs.filter((v) => v.name === 'input_ids');
  const [mask] = graph.inputs.filter((v) => v.name === 'attention_mask');
  if (!lookups.length || !ids || !mask) return;
  const m = new Expr(graph, mask);
  // Counted from the end, the last token shown is the first that makes the count 1; padding after it counts 0.
  const fromEnd = m.op('CumSum', [constant(graph, 'int64', [], [1])], { reverse: 1 });
  const last = fromEnd.mul(m).equal(constant(graph, 'int64', [], [1]));
  const sealed = last.where(constant(graph, 'int64', [], [separator]), new Expr(graph, ids));
  for (const node of lookups) node.setInputs([node.inputs[0], sealed.value]);
  graph.sort();
}
