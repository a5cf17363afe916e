/** @file What a student is: texts to tokens, a graph that is trained, a graph and modules that are saved. */
import type { TextTokenizer, Tokens } from '../data/tokenizer.ts';
import { Expr } from '../engine/expressions/expr.ts';
import type { Pooling } from '../engine/expressions/pooling.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import type { ModelFolder } from '../models/model-folder.ts';
import type { Head, Similarity } from '../models/modules/head.ts';
import type { Prompts } from '../models/modules/prompts.ts';

export type Weights = ReadonlyMap<string, Tensor>;

/** What a student whose documents are weights over the vocabulary has in addition. */
export interface SparseParts {
  /** Name of the word table among the graph's constants. */
  table: string;
  /** [V, 1] before training. */
  bias: Tensor<'float32'>;
  /** [V, 1] weights of query tokens before training. */
  queries: Tensor<'float32'>;
  learned: boolean;
  /** Tokens of the vocabulary that a training step computes. */
  columns: number;
  /** Token states, without the head. */
  encoder: Graph;
}

export interface Student {
  /** Folder of what it starts from. */
  folder: ModelFolder;
  tokenizer: TextTokenizer;
  /** What is trained: ids and mask in; token vectors out, or pooled vectors where `pooling` is `none`. */
  graph: Graph;
  /** The same graph with what losses read of its layers as further outputs, named as inputs of losses; absent where there is none. */
  observed?: Graph;
  /** How a training step pools what the graph gives. */
  pooling: Pooling | 'none';
  /** Whether vectors are compared at unit length. */
  normalize: boolean;
  /** What is saved behind the graph, before training. */
  head: Head;
  prompts: Prompts;
  similarity: Similarity;
  /** Whether texts are put in lower case first. */
  lowerCase: boolean;
  /** Tokens that it has positions for. */
  positions: number;
  /** Tokens that its folder cuts texts at. */
  maxLength: number;
  /** What was guessed or left out when its folder was read, in sentences. */
  notes: readonly string[];
  /** config.json of what is saved. */
  config: Record<string, unknown>;
  /** Tokens of a query as training feeds them, its prompt included. @param limit special tokens included */
  queryTokens(text: string, limit: number): Tokens;
  /** As `queryTokens`, of a document. */
  documentTokens(text: string, limit: number): Tokens;
  /** The graph that is saved and searched with, with weights by their names in `graph`: its output is token vectors. */
  inferenceGraph(weights: Weights): Graph | Promise<Graph>;
  /** What is saved behind that graph. */
  headWith(weights: Weights): Head;
  /** Where its vectors are weights over the vocabulary: `graph` then gives what is multiplied by the word table. */
  sparse?: SparseParts;
}

/** Puts a linear map behind a graph's token vectors, which are then its only output. @param matrix [from, to] */
export function mapped(graph: Graph, matrix: Tensor<'float32'>, name: string): Graph {
  const hidden = graph.outputs.find((v) => v.name === HIDDEN) ?? graph.outputs[0];
  hidden.name = graph.freshName(`before_${name}`);
  const out = new Expr(graph, hidden).matmul(new Expr(graph, graph.constant(matrix, name))).value;
  out.name = HIDDEN;
  graph.setOutputs(out);
  graph.prune();
  return graph;
}

/** A copy of a graph with other weights, by the names of its constants. */
export function withWeights(graph: Graph, weights: Weights): Graph {
  const copy = graph.clone();
  for (const v of copy.constants) {
    const trained = weights.get(v.name);
    if (trained && v.constant) v.constant = { ...trained, dims: v.constant.dims } as Tensor;
  }
  return copy;
}

const HIDDEN = 'last_hidden_state';
/** The name that the training graph gives its map into the teacher's space. */
export const PROJECTION = 'projection';

/** How many weights a graph holds. */
export const parameterCount = (graph: Graph): number =>
  graph.constants.reduce((n, v) => n + (v.constant?.dims.length ? sizeOf(v.constant.dims) : 0), 0);
