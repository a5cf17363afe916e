/** @file The student: an encoder cut to chosen layers, whose graph stays as its exporter wrote it. */
import { InputError } from '../common/errors.ts';
import { TextTokenizer, type Tokens } from '../data/tokenizer.ts';
import { Expr } from '../engine/expressions/expr.ts';
import type { Pooling } from '../engine/expressions/pooling.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { castFloat, sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { keepLayers } from '../engine/passes/layers.ts';
import { configWithLayers } from '../models/checkpoint.ts';
import { checkVocabulary } from '../models/encoder.ts';
import { type ModelFolder, readModelFolder } from '../models/model-folder.ts';
import { checkTrainable } from '../models/trainability.ts';

export type Weights = ReadonlyMap<string, Tensor>;

export interface Student {
  /** Folder of what it starts from. */
  folder: ModelFolder;
  tokenizer: TextTokenizer;
  /** What is trained: ids and mask in, token vectors out. */
  graph: Graph;
  pooling: Pooling;
  normalize: boolean;
  /** config.json of what is saved. */
  config: Record<string, unknown>;
  /** Tokens of a query as training feeds them. @param limit special tokens included */
  queryTokens(text: string, limit: number): Tokens;
  /** The graph that is saved and searched with, with weights by their names in `graph`. */
  inferenceGraph(weights: Weights): Graph | Promise<Graph>;
}

export interface StudentOptions {
  layers?: readonly number[];
  pooling?: Pooling;
  normalize?: boolean;
}

/** @throws InputError where files are missing or layers do not exist */
export async function loadStudent(folder: string, options: StudentOptions = {}): Promise<Student> {
  const files = await readModelFolder(folder);
  const tokenizer = await TextTokenizer.load(files.folder);
  const graph = await loadGraph(files.model);
  checkVocabulary(graph, tokenizer, folder);
  checkTrainable(graph, files.model);
  if (options.layers) keepLayers(graph, options.layers);
  const pooling = options.pooling ?? files.pooling;
  return {
    folder: files,
    tokenizer,
    graph,
    pooling,
    normalize: options.normalize ?? files.normalize,
    config: configWithLayers(files.config, options.layers?.length),
    queryTokens: (text, limit) => tokenizer.encode(text, limit),
    inferenceGraph: (weights) => served(graph, weights, pooling),
  };
}

/**
 * The graph with other weights in it. A learned projection goes behind the token vectors: pooling by mean, by the first or by
 * the last token is linear, so this is the projection of what is pooled.
 *
 * @throws InputError where a projection meets pooling by maximum
 */
function served(graph: Graph, weights: Weights, pooling: Pooling): Graph {
  const copy = withWeights(graph, weights);
  const projection = weights.get(PROJECTION);
  if (!projection) return copy;
  if (pooling === 'max')
    throw new InputError({
      code: 'student.projection',
      subject: 'a student pooled by maximum cannot carry a projection into its token vectors',
      remedy: 'use student.pooling mean or cls, or an embedder of the same width',
    });
  return mapped(copy, castFloat(projection, 'float32'), PROJECTION);
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
const PROJECTION = 'projection';

/** How many weights a graph holds. */
export const parameterCount = (graph: Graph): number =>
  graph.constants.reduce((n, v) => n + (v.constant?.dims.length ? sizeOf(v.constant.dims) : 0), 0);
