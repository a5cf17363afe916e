/**
 * @file A query tower without a transformer: one trained vector a token, folded into tables when served.
 *
 * Training sees  x_t = exp(a_t) E_t  and  hidden_t = W x_t  (+ what word order adds, see static-order.ts). Everything that
 * is a function of one token folds into one table, so serving is a look-up, a sum and, with word order, a little arithmetic.
 */
import { join } from 'node:path';
import { TextTokenizer } from '../data/tokenizer.ts';
import { constant, Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import { identity, type Tensor } from '../engine/graph/tensor.ts';
import { Session } from '../engine/runtime/session.ts';
import { readJson, readModelFolder } from '../models/model-folder.ts';
import type { Head } from '../models/modules/head.ts';
import { type PromptOptions, promptsOf, withPrompt } from '../models/modules/prompts.ts';
import { readSentenceFolder } from '../models/sentence-folder.ts';
import { type Order, orders, type StaticOrder, type TokenTable } from './static-order.ts';
import type { Student, Weights } from './student.ts';

/** Old enough for every loader of the field. */
const OPSET = 14;

export interface StaticOptions {
  /** What is known of word order; nothing by default. */
  order?: StaticOrder;
  /** Width of what word order adds, before it is mapped to the embeddings' width. */
  width?: number;
  /** Rows of the table that pairs of neighbours are hashed into. */
  buckets?: number;
  /** Numbers of each function of a token that a gate has. */
  rank?: number;
  seed?: number;
  /** In place of the folder's own. */
  prompts?: PromptOptions;
}

/**
 * The tower before training: vectors as given, weights a_t = 0, W the identity, word order adding nothing.
 * @param folder the dual-encoder whose documents are searched: its tokenizer and config.json are taken over
 */
export async function staticStudent(folder: string, table: TokenTable, options: StaticOptions = {}): Promise<Student> {
  const files = await readModelFolder(folder);
  // The table learns what the model makes of a text with its prompt: by default it is given the text alone.
  const prompts = promptsOf({}, options.prompts);
  const { lowerCase } = await readSentenceFolder(files);
  const tokenizer = await TextTokenizer.load(files.folder, { lowerCase });
  const special = await specialTokens(files.folder, tokenizer);
  const vocabulary = table.data.length / table.dimensions;
  const settings = { order: 'none' as const, width: 64, buckets: 131_072, rank: 8, seed: 0, ...options };
  const order = orders[settings.order](table, settings);
  const head: Head = { pooling: ['mean'], includePrompt: true, modules: [{ kind: 'normalize' }] };
  // Special tokens' rows are 0 when served, so training need not see them.
  const tokens = (role: 'query' | 'document') => (text: string, limit: number) => {
    const room = Math.max(0, limit - tokenizer.specialTokens);
    const ids = Int32Array.from(tokenizer.plain(withPrompt(prompts[role], text), room));
    return { ids, typeIds: new Int32Array(ids.length) };
  };
  return {
    prompts,
    lowerCase,
    notes: [],
    folder: files,
    tokenizer,
    graph: trainingGraph(table, order),
    pooling: 'mean',
    normalize: true,
    head,
    similarity: 'cosine',
    // A sum of rows has no positions.
    positions: Number.POSITIVE_INFINITY,
    maxLength: Math.min(files.maxLength ?? 512, tokenizer.modelMaxLength ?? 512),
    config: {
      ...files.config,
      num_hidden_layers: 0,
      vocab_size: vocabulary,
      hidden_size: table.dimensions,
    },
    queryTokens: tokens('query'),
    documentTokens: tokens('document'),
    headWith: () => head,
    inferenceGraph: (weights) => servedGraph(table, order, special, weights),
  };
}

/** Ids that the tokenizer puts around texts, pads or masks with. A token for the unknown stands for a word and is none. */
export async function specialTokens(folder: string, tokenizer: TextTokenizer): Promise<Set<number>> {
  const json = await readJson(join(folder, 'tokenizer.json'));
  const added = (Array.isArray(json.added_tokens) ? json.added_tokens : []) as {
    id: number;
    special?: boolean;
    content: string;
  }[];
  const unknown = (json.model as { unk_token?: string } | undefined)?.unk_token;
  return new Set([
    tokenizer.padId,
    ...tokenizer.wrap([]).ids,
    ...added.filter((t) => t.special && t.content !== unknown).map((t) => t.id),
  ]);
}

function inputsOf(graph: Graph): { ids: Expr; mask: Expr } {
  const dims = ['batch', 'sequence'];
  return {
    ids: new Expr(graph, graph.input('input_ids', 'int64', dims)),
    mask: new Expr(graph, graph.input('attention_mask', 'int64', dims)),
  };
}

const weight = (graph: Graph, name: string, { dims, data }: Pick<Tensor<'float32'>, 'dims' | 'data'>): Expr =>
  new Expr(graph, graph.constant({ dtype: 'float32', dims, data }, name));

function trainingGraph({ dimensions: D, data }: TokenTable, order: Order): Graph {
  const graph = new Graph(OPSET);
  const { ids, mask } = inputsOf(graph);
  const V = data.length / D;
  const vectors = weight(graph, 'static.embeddings', { dims: [V, D], data }).gather(ids); // [B, L, D]
  const scale = weight(graph, 'static.weights', { dims: [V, 1], data: new Float32Array(V) })
    .gather(ids)
    .exp();
  const x = vectors.mul(scale);
  const layer = weight(graph, 'static.layer', identity(D));
  // The layer comes last where it may: pooled vectors are multiplied then, and not those of tokens.
  const own = order.scales ? x : x.matmul(layer);
  const parts = [
    ...order.maps.map((m) => x.matmul(weight(graph, m.name, m))),
    ...order.rows.map((r) => weight(graph, r.name, r).gather(ids)),
  ];
  const given = order.weights.map((w) => weight(graph, w.name, w));
  const present = mask.float().unsqueeze(-1);
  const added = order.add(parts, given, { ids, present, own });
  const whole = added ? own.add(added) : own;
  const out = order.scales ? whole.matmul(layer) : whole;
  out.value.name = 'last_hidden_state';
  graph.output(out.value);
  return graph;
}

/** The table of vectors, that of what word order reads of a token, and what cannot be folded. */
async function servedGraph(
  { dimensions: D, data }: TokenTable,
  order: Order,
  special: ReadonlySet<number>,
  weights: Weights,
): Promise<Graph> {
  const V = data.length / D;
  const [vectors, ...maps] = await fold({ dimensions: D, data }, order.maps, weights);
  const parts = [...maps, ...order.rows.map((r) => tensorOf(weights, r).data)];
  const columns = partColumns(order);
  const width = columns.reduce((a, b) => a + b, 1);
  const rows = new Float32Array(V * D);
  const places = new Float32Array(V * width);
  for (let t = 0; t < V; t++) {
    if (special.has(t)) continue;
    rows.set(vectors.subarray(t * D, (t + 1) * D), t * D);
    let at = t * width;
    for (const [k, part] of parts.entries()) {
      places.set(part.subarray(t * columns[k], (t + 1) * columns[k]), at);
      at += columns[k];
    }
    places[at] = 1;
  }
  return tableGraph(
    { dtype: 'float32', dims: [V, D], data: rows },
    { dtype: 'float32', dims: [V, width], data: places },
    order,
    weights,
  );
}

const partColumns = ({ maps, rows }: Order): number[] => [...maps, ...rows].map((w) => w.dims[1]);

/**
 * A tower as it is served: a table of vectors, and beside it, with word order, one of what the order reads of a token. Rounded to
 * int8, the rows of each have a scale of their own.
 * @param vectors [V, D]
 * @param places [V, columns of each part, then 1 for a token of the text and 0 for a special one]; without word order not read
 */
export function tableGraph(
  vectors: Tensor<'float32'>,
  places: Tensor<'float32'>,
  order: Order,
  weights: Weights = new Map(),
): Graph {
  const graph = new Graph(OPSET);
  const { ids, mask } = inputsOf(graph);
  const shown = mask.float().unsqueeze(-1);
  const own = weight(graph, 'table', vectors).gather(ids);
  const columns = partColumns(order);
  const given = order.weights.map((w) => weight(graph, w.name, tensorOf(weights, w)));
  let out: Expr;
  if (columns.length || given.length) {
    const all = weight(graph, 'places', places).gather(ids);
    const at = columns.map((_, k) => columns.slice(0, k).reduce((a, b) => a + b, 0));
    const parts = columns.map((n, k) => all.slice(at[k], at[k] + n, 2));
    const last = columns.reduce((a, b) => a + b, 0);
    const present = all.slice(last, last + 1, 2).mul(shown);
    const added = order.add(parts, given, { ids, present, own });
    out = added ? own.add(added) : own;
  } else {
    // Every loader feeds a mask; a graph that has no such input is refused by some.
    out = own.mul(shown);
  }
  out.value.name = 'last_hidden_state';
  graph.output(out.value);
  return graph;
}

const tensorOf = (
  weights: Weights,
  w: { name: string; dims: readonly number[]; data: Float32Array },
): Tensor<'float32'> => (weights.get(w.name) as Tensor<'float32'> | undefined) ?? { dtype: 'float32', ...w };

/** exp(a_t) E_t M for the layer and each map, computed where matrices are multiplied fast. */
async function fold(
  { dimensions: D, data }: TokenTable,
  maps: readonly { name: string; dims: readonly number[]; data: Float32Array }[],
  weights: Weights,
): Promise<Float32Array[]> {
  const V = data.length / D;
  const table = tensorOf(weights, { name: 'static.embeddings', dims: [V, D], data });
  const logs = tensorOf(weights, { name: 'static.weights', dims: [V, 1], data: new Float32Array(V) });
  const layer = weights.get('static.layer') as Tensor<'float32'> | undefined;
  const graph = new Graph(OPSET);
  const x = new Expr(graph, graph.input('embeddings', 'float32', ['v', D])).mul(
    new Expr(graph, graph.input('weights', 'float32', ['v', 1])).exp(),
  );
  const outputs = [
    layer ? x.matmul(constant(graph, 'float32', [D, D], layer.data)) : x,
    ...maps.map((m) => x.matmul(constant(graph, 'float32', m.dims, tensorOf(weights, m).data))),
  ];
  for (const [i, o] of outputs.entries()) graph.output(o.value, `part${i}`);
  const session = await Session.load(graph, {}, 'the tables');
  try {
    const results = await session.run({ embeddings: table, weights: logs });
    return outputs.map((_, i) => results[`part${i}`].data as Float32Array);
  } finally {
    await session.release();
  }
}
