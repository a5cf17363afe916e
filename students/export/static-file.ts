/** @file A static query tower as one small file that `onnx-distill/static` reads without a runtime. */
import { InputError } from '../../common/errors.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { castFloat, type Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { isEmpty, type Prompts } from '../../models/modules/prompts.ts';
import { quantize } from './int8.ts';
import { wordLookups } from './outputs.ts';
import { tidy } from './simplify.ts';
import type { TokenizerJson } from './vocabulary.ts';

export const STATIC_FILE = 'static.safetensors';

/** Parts of tokenizer.json that say how a text becomes words. */
interface Words {
  normalizer?: {
    type?: string;
    lowercase?: boolean;
    strip_accents?: boolean | null;
    clean_text?: boolean;
    handle_chinese_chars?: boolean;
  } | null;
  pre_tokenizer?: { type?: string } | null;
  model: { unk_token?: string; continuing_subword_prefix?: string; max_input_chars_per_word?: number };
  added_tokens?: { content: string; id: number }[];
}

export interface StaticFileOptions {
  tokenizer: TokenizerJson;
  /** Special tokens that the tokenizer puts around a text. */
  before: readonly number[];
  after: readonly number[];
  maxLength: number;
  dimensions?: number;
  prompts?: Prompts;
}

/** The table whose rows a graph returns as token vectors; undefined where it does more than that. */
export function staticTable(graph: Graph): Tensor<'float32'> | undefined {
  const copy = tidy(graph.clone());
  const [lookup] = wordLookups(copy);
  const hidden = copy.outputs.find((v) => v.name === 'last_hidden_state' || v.name === 'token_embeddings');
  const table = lookup?.inputs[0]?.constant;
  const { producer } = hidden ?? {};
  const [row, mask] = producer?.op === 'Mul' ? producer.inputs : [hidden, undefined];
  const shown = row?.producer === lookup && (!mask || onlyOfMask(mask));
  return lookup && shown && table ? castFloat(table, 'float32') : undefined;
}

/** Whether a value is the attention mask in another type or shape: it blanks padding, which a single text has none of. */
function onlyOfMask(value: Value): boolean {
  let at: Value | null | undefined = value;
  while (at?.producer && ['Cast', 'Unsqueeze'].includes(at.producer.op)) at = at.producer.inputs[0];
  return at?.name === 'attention_mask';
}

/**
 * Rows in int8 with a scale each, and the pieces. Rows of special tokens around a text take part in its sum unless they
 * are 0, so that the mean over tokens of the ONNX file is this sum's direction.
 * @throws InputError where the model is not a static tower or its tokenizer is not BERT's
 */
export function staticFile(graph: Graph, options: StaticFileOptions): Uint8Array {
  const table = staticTable(graph);
  if (!table)
    throw new InputError({
      code: 'export.not-static',
      subject: 'the student is not a static tower',
      expected: 'a graph whose last_hidden_state is a table looked up with input_ids',
      remedy: 'train one with a static query tower, or export an ONNX dtype',
    });
  const json = options.tokenizer as TokenizerJson & Words;
  const { normalizer, model } = json;
  const isBert =
    !Array.isArray(json.model.vocab) &&
    !json.model.merges &&
    normalizer?.type === 'BertNormalizer' &&
    normalizer.clean_text !== false &&
    normalizer.handle_chinese_chars !== false &&
    json.pre_tokenizer?.type === 'BertPreTokenizer';
  if (!isBert)
    throw new InputError({
      code: 'export.static-tokenizer',
      subject: "the static file's reader tokenizes as BERT does",
      expected: 'a WordPiece tokenizer with BertNormalizer and BertPreTokenizer',
      remedy: 'export an ONNX dtype, whose readers have every tokenizer',
    });
  const [V, width] = table.dims;
  const D = options.dimensions ?? width;
  const rows = new Float32Array(V * D);
  for (let v = 0; v < V; v++) rows.set(table.data.subarray(v * width, v * width + D), v * D);
  const { data, scales } = quantize(rows, V, (i) => Math.floor(i / D));
  const pieces = new Array<string>(V).fill('');
  for (const [piece, id] of Object.entries(json.model.vocab as Record<string, number>)) if (id < V) pieces[id] = piece;
  for (const t of json.added_tokens ?? []) if (t.id < V) pieces[t.id] = t.content;
  const tokenizer = {
    lowercase: normalizer?.lowercase ?? true,
    stripAccents: normalizer?.strip_accents ?? normalizer?.lowercase ?? true,
    maxTokens: options.maxLength,
    prefix: model.continuing_subword_prefix ?? '##',
    special: (json.added_tokens ?? []).map((t) => t.content),
    before: options.before,
    after: options.after,
  };
  return encodeSafetensors(
    new Map<string, Tensor>([
      ['rows', { dtype: 'int8', dims: [V, D], data }],
      ['scales', { dtype: 'float32', dims: [V], data: scales }],
    ]),
    {
      format: 'onnx-distill-static-1',
      unknown: model.unk_token ?? '[UNK]',
      tokenizer: JSON.stringify(tokenizer),
      pieces: pieces.join('\n'),
      ...promptsOf(options.prompts),
    },
  );
}

/** Files of models without prompts say nothing of them. */
function promptsOf(prompts: Prompts | undefined): Record<string, string> {
  if (!prompts || (isEmpty(prompts.query) && isEmpty(prompts.document))) return {};
  const pair = ({ before, after }: Prompts['query']): [string, string] => [before, after];
  return { prompts: JSON.stringify({ query: pair(prompts.query), document: pair(prompts.document) }) };
}
