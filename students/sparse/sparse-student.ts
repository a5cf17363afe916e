/**
 * @file A student whose documents are weights over the vocabulary and whose queries are weights of their tokens: an encoder, a head
 * to its own word table, and a table of query weights that needs no inference.
 */
import { InputError } from '../../common/errors.ts';
import type { Texts } from '../../data/dataset.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { castFloat, type Tensor } from '../../engine/graph/tensor.ts';
import { withPrompt } from '../../models/modules/prompts.ts';
import type { SentenceOptions } from '../../models/sentence-folder.ts';
import { loadStudent } from '../encoder-student.ts';
import { specialTokens } from '../static-encoder.ts';
import { type Student, type Weights, withWeights } from '../student.ts';
import { type SparseHead, startHead } from './start-head.ts';

/** How a sparse student is made. */
export interface SparseOptions extends SentenceOptions {
  layers?: readonly number[];
  /** Whether the weights of query tokens are their inverse document frequencies, or are trained from these on. */
  query: 'idf' | 'learned';
  /** Tokens of the vocabulary that a training step computes. */
  columns?: number;
  seed: number;
}

/** Names of the head's weights, as BertForMaskedLM has them. */
export const HEAD = {
  dense: 'cls.predictions.transform.dense.weight',
  denseBias: 'cls.predictions.transform.dense.bias',
  scale: 'cls.predictions.transform.LayerNorm.weight',
  shift: 'cls.predictions.transform.LayerNorm.bias',
  bias: 'cls.predictions.bias',
} as const;
export const QUERY_WEIGHTS = 'query.weight';
const EPSILON = 1e-12;

/** Documents that the head's start is fitted to. */
const FITTED = 400;
const FITTED_TOKENS = 64;

/**
 * @param documents of the collection: document frequencies, and texts that the head's start is fitted to
 * @throws InputError where files are missing, the encoder pools by itself or its word table is not found
 */
export async function sparseStudent(folder: string, documents: Texts, options: SparseOptions): Promise<Student> {
  const own = await loadStudent(folder, { ...options, onlySaved: true });
  const { tokenizer, prompts } = own;
  if (own.pooling === 'none')
    throw new InputError({
      code: 'sparse.encoder',
      subject: `${folder} gives one vector a text (its graph pools, or modules follow its pooling)`,
      expected: 'an encoder whose token states (last_hidden_state) are pooled and nothing else',
      remedy: 'export it with last_hidden_state, or choose another encoder',
    });
  const encoder = own.graph;
  const words = wordTable(encoder, folder);
  const start = castFloat(words.constant as Tensor, 'float32');
  const [vocabulary] = start.dims;
  const special = await specialTokens(own.folder.folder, tokenizer);
  const plain = (role: 'query' | 'document', text: string, limit: number): number[] =>
    tokenizer.plain(withPrompt(prompts[role], text), limit);
  const idf = inverseDocumentFrequencies(documents, vocabulary, special, (text) =>
    plain('document', text, own.positions),
  );
  const every = Math.max(1, Math.floor(documents.length / FITTED));
  const fitted = Array.from({ length: Math.min(FITTED, documents.length) }, (_, i) =>
    own.documentTokens(documents.text(i * every), Math.min(FITTED_TOKENS, own.positions)),
  );
  const head = await startHead(encoder, start, fitted, special, options.seed);
  return {
    ...own,
    graph: withHead(encoder, head),
    pooling: 'none',
    normalize: false,
    similarity: 'dot',
    head: AS_IT_IS,
    headWith: () => AS_IT_IS,
    queryTokens(text, limit) {
      const ids = Int32Array.from(plain('query', text, limit));
      return { ids, typeIds: new Int32Array(ids.length) };
    },
    inferenceGraph: (weights) => weightsGraph(withWeights(withHead(encoder, head), weights), words.name, bias(weights)),
    sparse: {
      table: words.name,
      bias: head.bias,
      queries: { dtype: 'float32', dims: [vocabulary, 1], data: idf },
      learned: options.query === 'learned',
      columns: options.columns ?? 2048,
      encoder,
    },
  };

  function bias(weights: Weights): Tensor<'float32'> {
    return (weights.get(HEAD.bias) as Tensor<'float32'> | undefined) ?? head.bias;
  }
}

/** One vector a text comes out of the graph: nothing follows it. */
const AS_IT_IS: Student['head'] = { pooling: ['mean'], includePrompt: true, modules: [] };

/** The weights of query tokens [V]: as trained, or inverse document frequencies. */
export const queryWeights = ({ sparse }: Student, weights: Weights): Float32Array =>
  (weights.get(QUERY_WEIGHTS)?.data as Float32Array | undefined) ?? (sparse?.queries.data as Float32Array);

/** idf_t = ln(1 + (N - df + 0.5) / (df + 0.5)), 0 for special tokens; one that stands in no document counts as one of a single one. */
export function inverseDocumentFrequencies(
  documents: Texts,
  vocabulary: number,
  special: ReadonlySet<number>,
  tokens: (text: string) => readonly number[],
): Float32Array {
  const N = documents.length;
  const frequencies = new Int32Array(vocabulary);
  for (let d = 0; d < N; d++) for (const t of new Set(tokens(documents.text(d)))) frequencies[t]++;
  return Float32Array.from(frequencies, (found, t) => {
    const df = Math.min(N, Math.max(1, found));
    return special.has(t) ? 0 : Math.log1p((N - df + 0.5) / (df + 0.5));
  });
}

/** The table that ids are looked up in. @throws InputError where there is none */
export function wordTable(graph: Graph, folder: string): Value {
  const ids = new Set(graph.inputs.filter((v) => v.name === 'input_ids'));
  for (const node of graph.nodes) {
    const [table, indices] = node.inputs;
    if (['Cast', 'Identity'].includes(node.op) && table && ids.has(table)) ids.add(node.outputs[0]);
    if (node.op === 'Gather' && indices && ids.has(indices) && table?.constant?.dims.length === 2) return table;
  }
  throw new InputError({
    code: 'sparse.table',
    subject: `${folder} has no word table that its input_ids are looked up in`,
    remedy: 'export the encoder as BERT is exported, with its word embeddings as a Gather of a constant',
  });
}

/** The encoder with dense, GELU and LayerNorm behind its token states. */
function withHead(encoder: Graph, { dense, denseBias, scale, shift }: SparseHead): Graph {
  const graph = encoder.clone();
  const [last] = graph.outputs;
  last.name = graph.freshName('states');
  const weight = (t: Tensor, name: string): Expr => new Expr(graph, graph.constant(t, name));
  const x = new Expr(graph, last).matmul(weight(dense, HEAD.dense)).add(weight(denseBias, HEAD.denseBias));
  const gelu = x.mul(x.div(Math.SQRT2).op('Erf').add(1)).mul(0.5);
  // From the primitive operators: encoders of older opsets have no LayerNormalization.
  const centred = gelu.sub(gelu.mean([-1], true));
  const deviation = centred.square().mean([-1], true).add(EPSILON).sqrt();
  const out = centred.div(deviation).mul(weight(scale, HEAD.scale)).add(weight(shift, HEAD.shift)).value;
  out.name = 'last_hidden_state';
  graph.setOutputs(out);
  graph.prune();
  return graph;
}

/** log(1 + relu(max over tokens of h E + b)), [batch, V], behind token states. */
function weightsGraph(graph: Graph, table: string, bias: Tensor<'float32'>): Graph {
  const [states] = graph.outputs;
  states.name = graph.freshName('transformed');
  const words = graph.constants.find((v) => v.name === table) as Value;
  const [vocabulary] = (words.constant as Tensor).dims;
  const mask =
    graph.inputs.find((v) => v.name === 'attention_mask') ??
    graph.input('attention_mask', 'int64', ['batch', 'sequence']);
  const hidden = new Expr(graph, mask).cast('float32').sub(1).mul(1e4).unsqueeze(2);
  const products = new Expr(graph, states).matmul(new Expr(graph, words).transpose(1, 0));
  const added = constant(graph, 'float32', [vocabulary], bias.data);
  const out = products.add(hidden).reduceMax([1]).add(added).relu().add(1).log().value;
  out.name = 'sentence_embedding';
  out.dtype = 'float32';
  out.dims = ['batch', vocabulary];
  graph.setOutputs(out);
  graph.prune();
  graph.sort();
  return graph;
}
