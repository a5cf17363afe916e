/** @file A static query tower as one small file that `onnx-distill/static` reads without a runtime. */
import { InputError } from '../../common/errors.ts';
import { canonicalJson } from '../../common/files.ts';
import type { Attribute, Graph, Value } from '../../engine/graph/ir.ts';
import { castFloat, type Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { isEmpty, type Prompts } from '../../models/modules/prompts.ts';
import { tableGraph } from '../static-encoder.ts';
import { orders } from '../static-order.ts';
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

/** What a static file holds of a graph. */
export interface StaticTables {
  /** [V, D] */
  rows: Tensor<'float32'>;
  /** [V, 4 rank] a, c, b and d of the gate (students/static-order.ts). */
  gates?: Tensor<'float32'>;
}

/** The table whose rows a graph returns as token vectors, perhaps with a gate; undefined where it does more than that. */
export function staticTables(graph: Graph): StaticTables | undefined {
  const copy = tidy(graph.clone());
  return plainTable(copy) ?? gatedTable(copy);
}

/** The two tables of a graph that is, operator by operator, what a tower with a gate is served as. */
function gatedTable(graph: Graph): StaticTables | undefined {
  const [vectors, places, ...more] = new Set(wordLookups(graph).map((node) => node.inputs[0]));
  if (!vectors?.constant || !places?.constant || more.length) return undefined;
  const [rows, numbers] = [castFloat(vectors.constant, 'float32'), castFloat(places.constant, 'float32')];
  const [V, D] = rows.dims;
  const [height, width] = numbers.dims;
  const rank = (width - 1) / 4;
  if (!(Number.isInteger(rank) && rank > 0 && height === V)) return undefined;
  const table = (columns: number) => ({
    dtype: 'float32' as const,
    dims: [1, columns],
    data: new Float32Array(columns),
  });
  const order = orders.gate({ dimensions: D, data: table(D).data }, { rank, width: 1, buckets: 1, seed: 0 });
  const known = tidy(tableGraph(table(D), table(width), order));
  if (graph.nodes.length !== known.nodes.length || formOf(graph) !== formOf(known)) return undefined;
  const data = new Float32Array(V * 4 * rank);
  for (let v = 0; v < V; v++) {
    const present = numbers.data[v * width + width - 1];
    for (let k = 0; k < 4 * rank; k++) data[v * 4 * rank + k] = present * numbers.data[v * width + k];
  }
  return { rows, gates: { dtype: 'float32', dims: [V, 4 * rank], data } };
}

/** What a graph computes, as a text: operators, attributes and constants but for the tables looked up, which are told apart. */
function formOf(graph: Graph): string {
  const tables = [...new Set(wordLookups(graph).map((node) => node.inputs[0]))];
  const numbers = new Map<string, number>();
  const seen = new Map<Value, number>();
  const plain = (a: Attribute): unknown =>
    a.kind === 'tensor' ? [a.value.dtype, a.value.dims, ...a.value.data] : a.value;
  const number = (v: Value | null): number => {
    if (!v) return -1;
    const known = seen.get(v);
    if (known !== undefined) return known;
    const { producer, constant: t } = v;
    const what = tables.includes(v)
      ? ['table', tables.indexOf(v)]
      : t
        ? [t.dtype, t.dims, Array.from(t.data as ArrayLike<number | bigint>, String)]
        : producer
          ? [
              `${producer.domain}.${producer.op}`,
              Object.fromEntries([...producer.attributes].map(([name, a]) => [name, plain(a)])),
              producer.outputs.indexOf(v),
              producer.inputs.map(number),
            ]
          : ['input', v.name];
    const key = canonicalJson(what);
    const own = numbers.get(key) ?? numbers.size;
    numbers.set(key, own);
    seen.set(v, own);
    return own;
  };
  const hidden = graph.outputs.find((v) => v.name === 'last_hidden_state' || v.name === 'token_embeddings');
  number(hidden ?? null);
  return [...numbers.keys()].join('\n');
}

function plainTable(copy: Graph): StaticTables | undefined {
  const [lookup] = wordLookups(copy);
  const hidden = copy.outputs.find((v) => v.name === 'last_hidden_state' || v.name === 'token_embeddings');
  const table = lookup?.inputs[0]?.constant;
  const { producer } = hidden ?? {};
  const [row, mask] = producer?.op === 'Mul' ? producer.inputs : [hidden, undefined];
  const shown = row?.producer === lookup && (!mask || onlyOfMask(mask));
  return lookup && shown && table ? { rows: castFloat(table, 'float32') } : undefined;
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
  const tables = staticTables(graph);
  if (!tables)
    throw new InputError({
      code: 'export.not-static',
      subject: 'the student is not a static tower',
      expected: 'a graph whose last_hidden_state is a table looked up with input_ids, alone or with a gate',
      remedy: "train a static query tower with 'student.static.order' none or gate, or export an ONNX dtype",
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
  const { rows: table, gates } = tables;
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
      ...(gates ? gateArrays(gates) : []),
    ]),
    {
      // Versions that read the first format alone do not look at what else a file holds: they refuse the second.
      ...(gates
        ? { format: 'onnx-distill-static-2', needs: JSON.stringify(['gate']) }
        : { format: 'onnx-distill-static-1' }),
      unknown: model.unk_token ?? '[UNK]',
      tokenizer: JSON.stringify(tokenizer),
      pieces: pieces.join('\n'),
      ...promptsOf(options.prompts),
    },
  );
}

/** Each of the four functions of a token in int8 with its own scale: those that begin at 0 stay smaller than the others. */
function gateArrays(gates: Tensor<'float32'>): [string, Tensor][] {
  const [V, width] = gates.dims;
  const { data, scales } = quantize(gates.data, 4 * V, (i) => Math.floor((4 * i) / width));
  return [
    ['gates', { dtype: 'int8', dims: [V, width], data }],
    ['gate_scales', { dtype: 'float32', dims: [V, 4], data: scales }],
  ];
}

/** Files of models without prompts say nothing of them. */
function promptsOf(prompts: Prompts | undefined): Record<string, string> {
  if (!prompts || (isEmpty(prompts.query) && isEmpty(prompts.document))) return {};
  const pair = ({ before, after }: Prompts['query']): [string, string] => [before, after];
  return { prompts: JSON.stringify({ query: pair(prompts.query), document: pair(prompts.document) }) };
}
