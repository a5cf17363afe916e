/** @file An encoder's graph: its inputs, the output of its vectors, and the appended head. */
import { InputError } from '../common/errors.ts';
import type { PaddedBatch } from '../data/batches.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import { Expr } from '../engine/expressions/expr.ts';
import type { Graph, Value } from '../engine/graph/ir.ts';
import { type DType, type Tensor, tensor } from '../engine/graph/tensor.ts';
import { applyHead, applyModules, endsInUnit, type Head } from './modules/head.ts';
import { checkWidths } from './modules/read-modules.ts';

/** The inputs that a graph needs: their types, fixed sizes, and whether it takes an attention mask. */
export interface InputShape {
  dtypes: ReadonlyMap<string, string>;
  rows?: number;
  length?: number;
  /** Whether it has a mask; without one, texts of equal length alone share a batch. */
  masked: boolean;
  /** Position number of a text's first token. */
  firstPosition: number;
  /** Whether the positions of one text serve a whole batch: an input position_ids of shape [1, sequence]. */
  sharedPositions: boolean;
}

/** An input or output as a graph or a file states it. */
interface Stated {
  readonly name: string;
  readonly dtype?: string;
  readonly dims?: readonly (number | string)[];
}
interface Ports<T extends Stated = Stated> {
  readonly inputs: readonly (Stated & { read?: boolean; readers?: ReadonlySet<unknown> })[];
  readonly outputs: readonly T[];
}

/** The mask of the tokens that are pooled, where it is not the attention mask. */
export const POOLED = 'pooled_tokens';

/** A mask with the first tokens of each row taken out, padding on the left not counted. */
export function hiddenStart(mask: BigInt64Array, length: number, hidden: number): BigInt64Array {
  const copy = mask.slice();
  for (let at = 0; at < copy.length; at += length) {
    const start = Math.max(at, mask.indexOf(1n, at));
    copy.fill(0n, at, Math.min(start + hidden, at + length));
  }
  return copy;
}

/** Whole numbers in the type that an input has; of half floats 0 and 1 alone, which masks are made of. */
export function typedInput({ dims, data }: Tensor, dtype: string): Tensor {
  if (dtype === 'int64') return { dtype, dims, data } as Tensor;
  if (dtype === 'float16')
    return { dtype, dims, data: Uint16Array.from(data as BigInt64Array, (v) => (v ? 0x3c00 : 0)) };
  return tensor(dtype as DType, dims, data);
}

/**
 * A padded batch under the names of a transformer's inputs.
 * @param first the position of a text's first token
 * @param shared whether the positions of one text serve the whole batch
 */
export function tokenInputs(
  { rows, length, ids, mask, typeIds }: PaddedBatch,
  first = 0,
  shared = false,
): Record<string, Tensor> {
  const dims = [rows, length];
  const places = new BigInt64Array((shared ? 1 : rows) * length);
  // Padding has the position before the first, as in the families that count from their padding.
  for (let i = 0; i < places.length; i++)
    places[i] = mask[i] || first === 0 || shared ? BigInt(first + (i % length)) : BigInt(first - 1);
  return {
    input_ids: { dtype: 'int64', dims, data: ids },
    attention_mask: { dtype: 'int64', dims, data: mask },
    token_type_ids: { dtype: 'int64', dims, data: typeIds },
    position_ids: { dtype: 'int64', dims: [shared ? 1 : rows, length], data: places },
  };
}

/** Inputs made from a tokenizer's output. */
const FILLED = ['input_ids', 'attention_mask', 'token_type_ids', 'position_ids'];
const idTypes: ReadonlySet<string> = new Set(['int64', 'int32']);
const maskTypes: ReadonlySet<string> = new Set(['int64', 'int32', 'float32', 'float16', 'bool', 'uint8', 'int8']);

/** @param hidden whether the mask hides padding from the model */
export function shapeOf({ inputs }: Pick<Ports, 'inputs'>, first: number, hidden = true): InputShape {
  const ids = inputs.find((v) => v.name === 'input_ids');
  const fixed = (at: number): number | undefined => {
    const n = ids?.dims?.[at];
    return typeof n === 'number' && n > 0 ? n : undefined;
  };
  return {
    dtypes: new Map(inputs.map((v) => [v.name, v.dtype ?? 'int64'])),
    rows: fixed(0),
    length: fixed(1),
    masked:
      hidden && inputs.some((v) => v.name === 'attention_mask' && (v.readers ? v.readers.size > 0 : v.read !== false)),
    firstPosition: first,
    sharedPositions: inputs.some((v) => v.name === 'position_ids' && v.dims?.[0] === 1 && ids?.dims?.[0] !== 1),
  };
}

/**
 * The output that an encoder's vectors are read from.
 * @param preferTokens whether token vectors are taken where there is a vector of the whole text as well
 * @throws InputError where the graph has none, or needs inputs that no tokenizer gives
 */
export function encoderOutput<T extends Stated>(graph: Ports<T>, file: string, preferTokens = false): T {
  for (const { name, dtype = 'int64' } of graph.inputs) {
    if (!FILLED.includes(name))
      throw new InputError({
        code: 'model.no-encoder',
        subject: `${file} needs an input '${name}'`,
        expected: 'input_ids and perhaps attention_mask, token_type_ids and position_ids',
        remedy: 'export the encoder without it',
      });
    if (!(name === 'attention_mask' ? maskTypes : idTypes).has(dtype))
      throw new InputError({
        code: 'model.no-encoder',
        subject: `${file} has an input '${name}' of type ${dtype}`,
        remedy: 'export it with inputs of int64 or int32',
      });
  }
  const tokens = ['last_hidden_state', 'token_embeddings'];
  const names = preferTokens ? [...tokens, 'sentence_embedding'] : ['sentence_embedding', ...tokens];
  const found = names.flatMap((name) => graph.outputs.filter((v) => v.name === name))[0];
  if (found) return found;
  throw new InputError({
    code: 'model.no-encoder',
    subject: `${file} has the outputs ${graph.outputs.map((v) => v.name).join(', ')}`,
    expected: 'last_hidden_state or sentence_embedding',
    remedy: 'give a dual-encoder (a feature-extraction model), not a classifier',
  });
}

/** Whether an output is one vector a text: nothing is left to pool. */
export const isPooled = (output: Stated): boolean => output.name === 'sentence_embedding' || output.dims?.length === 2;

/**
 * The head inside the graph. Where the graph pools, only what follows the pooling is applied; its `sentence_embedding` is the
 * result of all modules, but for scaling to unit length, which is done where the folder says so.
 * @param keep further outputs that stay behind the vector
 * @throws InputError where the head does not fit the width of the token vectors
 */
export function appendHead(
  graph: Graph,
  head: Head,
  file: string,
  preferTokens = false,
  keep: readonly Value[] = [],
): void {
  const hidden = encoderOutput(graph, file, preferTokens);
  const width = hidden.dims?.at(-1);
  let out = new Expr(graph, hidden);
  if (hidden.dtype !== 'float32') out = out.cast('float32');
  if (isPooled(hidden)) {
    if (hidden.name !== 'sentence_embedding') out = applyModules(out, head.modules);
    else out = finished(out, head);
  } else {
    if (typeof width === 'number') checkWidths(head, width, file);
    let mask = graph.inputs.find((v) => v.name === 'attention_mask');
    if (!head.includePrompt) mask = graph.input(POOLED, 'int64', ['batch', 'sequence']);
    mask ??= graph.input('attention_mask', 'int64', ['batch', 'sequence']);
    const shown = new Expr(graph, mask);
    out = applyHead(out, mask.dtype === 'int64' ? shown : shown.cast('int64'), head);
  }
  // The previous output gets another name, since names must be unique.
  if (out.value === hidden) out = out.op('Identity');
  graph.setOutputs(out.value, ...keep);
  graph.prune();
}

/** A vector that the graph itself made with all modules, cut and scaled to unit length where the folder says so. */
export function finished(vector: Expr, head: Head): Expr {
  const cut = head.dimensions === undefined ? vector : vector.slice(0, head.dimensions, -1);
  return endsInUnit(head) ? cut.l2Normalize() : cut;
}

/** @throws InputError where the tokenizer has ids beyond the table that they are looked up in */
export function checkVocabulary(graph: Graph, tokenizer: TextTokenizer, folder: string): void {
  const lookup = graph.nodes.find((n) => n.op === 'Gather' && n.inputs[1]?.name === 'input_ids');
  const rows = lookup?.inputs[0]?.constant?.dims[0];
  if (rows !== undefined) checkRows(rows, tokenizer.vocabularySize, folder);
}

/** @throws InputError where a tokenizer has more ids than the table has rows */
export function checkRows(rows: number, ids: number, folder: string): void {
  if (ids > rows)
    throw new InputError({
      code: 'model.tokenizer-mismatch',
      subject: `the tokenizer of ${folder} has ids up to ${ids - 1}`,
      expected: `ids below ${rows}, the rows of the model's word table`,
      remedy: 'use the tokenizer that the model was trained with',
    });
}
