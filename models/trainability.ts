/** @file Checks before any costly work whether a model can be trained, and estimates the memory of a step. */

import { InputError } from '../common/errors.ts';
import { withoutRule } from '../engine/autodiff/differentiate.ts';
import type { Dim, Graph, Value } from '../engine/graph/ir.ts';
import { sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { fuse } from '../engine/passes/fuse.ts';
import { findLayers } from '../engine/passes/layers.ts';
import { normalize } from '../engine/passes/normalize.ts';
import { trainableConstants } from '../engine/passes/trainable-parameters.ts';
import { keptBytes } from './activation-memory.ts';
import { encoderOutput } from './encoder.ts';
import { readModelFolder } from './model-folder.ts';

/** The content of a model folder, and whether it can be trained. */
export interface ModelCheck {
  file: string;
  opset: number;
  inputs: { name: string; dtype: string; dims: readonly Dim[] }[];
  outputs: { name: string; dims: readonly Dim[] }[];
  /** How many layers were found; absent where none were, with the reason. */
  layers?: number;
  layersProblem?: string;
  parameters: number;
  /** Operators between weights and output that have no gradient rule, or why the model runs at one size alone. */
  withoutRule: string[];
  /** Megabytes of a training step of 32 texts of 64 tokens: weights, gradients, AdamW's moments and forward values. */
  stepMegabytes?: number;
  trainable: boolean;
}

const TEXTS = 32;
const TOKENS = 64;

/**
 * Reads a model folder and reports whether every operator between weights and output has a gradient rule; runs nothing.
 * @throws InputError if the folder or file cannot be read as a model
 */
export async function checkModel(folder: string): Promise<ModelCheck> {
  const { model: file } = await readModelFolder(folder);
  const graph = await loadGraph(file);
  const { opset } = graph;
  const inputs = graph.inputs.map((v) => ({ name: v.name, dtype: String(v.dtype), dims: v.dims ?? [] }));
  const outputs = graph.outputs.map((v) => ({ name: v.name, dims: v.dims ?? [] }));
  let layers: number | undefined;
  let layersProblem: string | undefined;
  try {
    layers = findLayers(graph).length;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    layersProblem = error.message;
  }
  const weights = trainableConstants(graph);
  const parameters = weights.reduce((n, v) => n + sizeOf((v.constant as Tensor).dims), 0);
  let missing: string[];
  try {
    normalize(graph, file);
    missing = [...new Set(withoutRule(graph, weights).map((n) => n.title))];
  } catch (error) {
    // A use of a fused operator without a rule.
    if (!(error instanceof InputError) || error.code !== 'onnx.fused') throw error;
    missing = [error.message];
  }
  fuse(graph);
  let forward: number | undefined;
  try {
    forward = (await keptBytes(graph))(TEXTS, TOKENS);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    if (error.code === 'runtime.sizes') missing.push(error.message);
  }
  return {
    file,
    opset,
    inputs,
    outputs,
    layers,
    layersProblem,
    parameters,
    withoutRule: missing,
    stepMegabytes: forward === undefined ? undefined : Math.round((forward + 16 * parameters) / 1e6),
    trainable: missing.length === 0,
  };
}

/**
 * Checks before any costly work that every operator between an encoder's weights and its vectors has a gradient rule.
 * @throws InputError that names the operator and its node
 */
export function checkTrainable(graph: Graph, file: string): void {
  const copy = graph.clone();
  const kept = copy.outputs.find((v) => v.name === encoderOutput(graph, file).name) as Value;
  copy.setOutputs(kept);
  copy.prune();
  const weights = trainableConstants(copy);
  normalize(copy, file);
  const [node] = withoutRule(copy, weights);
  if (node)
    throw new InputError({
      code: 'autodiff.no-rule',
      subject: `${file}: the operator ${node.title} has no gradient rule`,
      remedy: 'export the model without it; `distill check` lists all such operators of a model',
    });
}
