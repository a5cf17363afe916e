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
import { orders, type StaticOrder } from './static-order.ts';
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
  seed?: number;
  /** In place of the folder's own. */
  prompts?: PromptOptions;
}

/** What the teacher makes of each token alone, [V, D]; rows of special tokens are 0. */
export interface TokenTable {
  dimensions: number;
  data: Float32Array;
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
  const settings = { order: 'none' as const, width: 64, buckets: 131_072, seed: 0, ...options };
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
    graph: trainingGraph(table, settings),
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
    inferenceGraph: (weights) => servedGraph(table, settings, special, weights),
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

type Settings = Required<Omit<StaticOptions, 'prompts'>>;

function inputsOf(graph: Graph): { ids: Expr; mask: Expr } {
  const dims = ['batch', 'sequence'];
  return {
    ids: new Expr(graph, graph.input('input_ids', 'int64', dims)),
    mask: new Expr(graph, graph.input('attention_mask', 'int64', dims)),
  };
}

const weight = (graph: Graph, name: string, { dims, data }: Pick<Tensor<'float32'>, 'dims' | 'data'>): Expr =>
  new Expr(graph, graph.constant({ dtype: 'float32', dims, data }, name));

function trainingGraph({ dimensions: D, data }: TokenTable, settings: Settings): Graph {
  const graph = new Graph(OPSET);
  const { ids, mask } = inputsOf(graph);
  const V = data.length / D;
  const vectors = weight(graph, 'static.embeddings', { dims: [V, D], data }).gather(ids); // [B, L, D]
  const scale = weight(graph, 'static.weights', { dims: [V, 1], data: new Float32Array(V) })
    .gather(ids)
    .exp();
  const x = vectors.mul(scale);
  const order = orders[settings.order](D, settings);
  const hidden = x.matmul(weight(graph, 'static.layer', identity(D)));
  const parts = order.maps.map((m) => x.matmul(weight(graph, m.name, m)));
  const given = order.weights.map((w) => weight(graph, w.name, w));
  const present = mask.float().unsqueeze(-1);
  const added = order.add(parts, given, { ids, present });
  const out = added ? hidden.add(added) : hidden;
  out.value.name = 'last_hidden_state';
  graph.output(out.value);
  return graph;
}

/** Tables and what cannot be folded: [hidden | parts | present] of each token behind one Gather. */
async function servedGraph(
  table: TokenTable,
  settings: Settings,
  special: ReadonlySet<number>,
  weights: Weights,
): Promise<Graph> {
  const D = table.dimensions;
  const V = table.data.length / D;
  const order = orders[settings.order](D, settings);
  const folded = await fold(table, order.maps, weights);
  const columns = [D, ...order.maps.map((m) => m.dims[1])];
  // Without word order nothing asks which tokens are present.
  const width = columns.reduce((a, b) => a + b, 0) + (settings.order === 'none' ? 0 : 1);
  const rows = new Float32Array(V * width);
  for (let t = 0; t < V; t++) {
    if (special.has(t)) continue;
    let at = t * width;
    for (const [k, part] of folded.entries()) {
      rows.set(part.subarray(t * columns[k], (t + 1) * columns[k]), at);
      at += columns[k];
    }
    if (settings.order !== 'none') rows[at] = 1;
  }
  const graph = new Graph(OPSET);
  const { ids, mask } = inputsOf(graph);
  const all = weight(graph, 'table', { dims: [V, width], data: rows }).gather(ids);
  let out = all;
  if (settings.order !== 'none') {
    const at = columns.map((_, k) => columns.slice(0, k).reduce((a, b) => a + b, 0));
    const part = (k: number): Expr => all.slice(at[k], at[k] + columns[k], 2);
    const present = all.slice(width - 1, width, 2).mul(mask.float().unsqueeze(-1));
    const given = order.weights.map((w) => weight(graph, w.name, tensorOf(weights, w)));
    const parts = order.maps.map((_, k) => part(k + 1));
    const added = order.add(parts, given, { ids, present });
    out = added ? part(0).add(added) : part(0);
  } else {
    // Every loader feeds a mask; a graph that has no such input is refused by some.
    out = all.mul(mask.float().unsqueeze(-1));
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
