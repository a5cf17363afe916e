/** @file The student: an encoder cut to chosen layers, whose graph stays as its exporter wrote it. */

import { TextTokenizer } from '../data/tokenizer.ts';
import type { Pooling } from '../engine/expressions/pooling.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { keepLayers } from '../engine/graph/layers.ts';
import { encodeGraph, loadGraph } from '../engine/graph/proto.ts';
import { sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import { checkVocabulary } from './encoder.ts';
import { type ModelFolder, readModelFolder } from './folder.ts';

export interface Student {
  folder: ModelFolder;
  tokenizer: TextTokenizer;
  /** As loaded and cut, before training. */
  graph: Graph;
  /** Indices kept; all where none were chosen. */
  layers: readonly number[] | undefined;
  pooling: Pooling;
  normalize: boolean;
}

export interface StudentOptions {
  layers?: readonly number[];
  pooling?: Pooling;
  normalize?: boolean;
}

/** @throws InputError where files are missing or layers do not exist */
export async function loadStudent(folder: string, options: StudentOptions = {}): Promise<Student> {
  const files = await readModelFolder(folder);
  const tokenizer = await TextTokenizer.load(folder);
  const graph = await loadGraph(files.model);
  checkVocabulary(graph, tokenizer, folder);
  if (options.layers) keepLayers(graph, options.layers);
  return {
    folder: files,
    tokenizer,
    graph,
    layers: options.layers,
    pooling: options.pooling ?? files.pooling,
    normalize: options.normalize ?? files.normalize,
  };
}

/** The student's graph with other weights, as the bytes of an ONNX file. */
export function encodeStudent(graph: Graph, weights: ReadonlyMap<string, Tensor>): Uint8Array {
  const copy = graph.clone();
  for (const v of copy.constants) {
    const trained = weights.get(v.name);
    if (trained && v.constant) v.constant = { ...trained, dims: v.constant.dims } as Tensor;
  }
  return encodeGraph(copy);
}

/** How many weights a graph holds. */
export const parameterCount = (graph: Graph): number =>
  graph.constants.reduce((n, v) => n + (v.constant && v.constant.dims.length ? sizeOf(v.constant.dims) : 0), 0);
