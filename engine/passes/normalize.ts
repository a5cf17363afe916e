/**
 * @file Normalises graphs for the gradient rules: any opset from 11 on is rewritten to opset 20, in float32, without Dropout
 * nodes and composite operators.
 */
import { InputError } from '../../common/errors.ts';
import { afterPass } from '../graph/checker.ts';
import type { Graph, Value } from '../graph/ir.ts';
import { castFloat, isFloat, type Tensor, tensor } from '../graph/tensor.ts';
import { fromOnnxType, onnxType } from '../io/onnx-file.ts';
import { expand } from './expand.ts';
import { axisOfFourier, liftOpset } from './opset.ts';

export const CANONICAL_OPSET = 20;
const OLDEST_OPSET = 11;

/**
 * Rewrites a graph in place to the form that the gradient rules cover.
 * @throws InputError where the opset is older than 11
 */
export function normalize(graph: Graph, file = 'the model'): Graph {
  if (graph.opset < OLDEST_OPSET)
    throw new InputError({
      code: 'onnx.opset',
      subject: `${file} uses opset ${graph.opset}`,
      expected: `opset ${OLDEST_OPSET} or newer`,
      remedy: `export the model again with opset 14 or newer`,
    });
  graph.float = 'float32';
  halfToFloat32(graph);
  upgrade(graph);
  expand(graph);
  dropIdentities(graph);
  graph.prune();
  afterPass(graph);
  return graph;
}

/** Converts half precision to float32: weights, constants, casts and inputs. */
export function halfToFloat32(graph: Graph): void {
  const half = (t: Tensor): boolean => t.dtype === 'float16' || t.dtype === 'bfloat16';
  for (const v of graph.constants)
    if (v.constant && half(v.constant)) v.constant = restored(castFloat(v.constant, 'float32'));
  for (const v of graph.values().values()) if (v.dtype === 'float16' || v.dtype === 'bfloat16') v.dtype = 'float32';
  for (const node of graph.nodes)
    for (const [name, a] of node.attributes) {
      if (a.kind === 'tensor' && half(a.value))
        node.attributes.set(name, { kind: 'tensor', value: castFloat(a.value, 'float32') });
      const target = name === 'to' && a.kind === 'int' ? fromOnnxType(a.value) : undefined;
      if (target && isFloat(target) && target !== 'float64')
        node.attributes.set(name, { kind: 'int', value: onnxType('float32') });
    }
}

/**
 * Restores a constant that half precision rounded: the square root of 2 in GELU, one over the square root (or the fourth root) of
 * a head's width in attention. A constant is only replaced by one that rounds to it.
 */
function restored(t: Tensor<'float32'>): Tensor<'float32'> {
  if (t.data.length !== 1 || !Number.isFinite(t.data[0])) return t;
  const value = t.data[0];
  const roots = Array.from({ length: 64 }, (_, i) => 4 * (i + 1)).flatMap((d) => [d ** -0.5, d ** -0.25, d ** 0.5]);
  const known = [Math.SQRT2, Math.SQRT1_2, Math.sqrt(2 / Math.PI), 0.044715, ...roots];
  const exact = known.find((k) => Math.abs(k - value) <= 2 ** (Math.floor(Math.log2(Math.abs(value))) - 11));
  return exact === undefined ? t : tensor('float32', t.dims, [exact]);
}

function upgrade(graph: Graph): void {
  const from = graph.opset;
  liftOpset(graph, CANONICAL_OPSET);
  // Newer graphs may omit what is required here.
  for (const node of graph.nodes) {
    if (node.domain !== '') continue;
    if (node.op === 'Split' && !node.inputs[1] && !node.attributes.has('num_outputs'))
      node.attributes.set('num_outputs', { kind: 'int', value: node.outputs.length });
    if (node.op === 'DFT' && from >= 20 && !node.inputs[2]) axisOfFourier(graph, node, -2);
  }
}

/** Removes Identity, Dropout outside training and casts of float32 to float32. */
function dropIdentities(graph: Graph): void {
  for (const node of graph.nodes) {
    const [x] = node.inputs;
    if (!x || node.domain !== '') continue;
    const inferenceDropout =
      node.op === 'Dropout' &&
      !node.outputs[1]?.readers.size &&
      !(node.inputs[2]?.constant?.data[0] === 1) &&
      (!node.inputs[2] || node.inputs[2].constant);
    const sameCast = node.op === 'Cast' && x.dtype === 'float32' && fromOnnxType(node.int('to', 0)) === 'float32';
    if (node.op !== 'Identity' && !inferenceDropout && !sameCast) continue;
    const y: Value = node.outputs[0];
    if (y.detached || (graph.outputs.includes(y) && !x.producer)) continue;
    if (graph.outputs.includes(y) && !graph.outputs.includes(x)) {
      // The output keeps its name, which moves to the value that is now the output.
      graph.replace(y, x);
      const name = y.name;
      y.name = x.name;
      x.name = name;
    } else graph.replace(y, x);
  }
}

/** Lifts constants to inputs of the same name, so that weights can be given to each run and the file stays small. */
export function liftConstants(graph: Graph, values: readonly Value[]): Map<Value, Tensor> {
  const lifted = new Map<Value, Tensor>();
  for (const v of values) {
    if (!v.constant) continue;
    lifted.set(v, graph.makeInput(v));
  }
  return lifted;
}
