/** @file Activation memory of a training step between the forward and the backward pass. */
import type { Shape } from '../engine/autodiff/shapes.ts';
import type { Graph, Value } from '../engine/graph/ir.ts';
import { isFloat, type Tensor, tensor } from '../engine/graph/tensor.ts';
import { probe } from '../engine/runtime/infer-shapes.ts';

/**
 * Bytes of the forward values that the backward pass reads, for any number of texts and tokens a text.
 * @param graph normalised and fused, as training has it; it runs twice on a few tokens
 * @throws InputError where ONNX Runtime cannot run it
 */
export async function keptBytes(graph: Graph): Promise<(texts: number, tokens: number) => number> {
  const sample = (rows: number, length: number): Record<string, Tensor> =>
    Object.fromEntries(
      graph.inputs.map((v) => [
        v.name,
        tensor(
          v.dtype === 'int32' ? 'int32' : 'int64',
          [rows, length],
          new Float64Array(rows * length).fill(v.name === 'token_type_ids' ? 0 : 1),
        ),
      ]),
    );
  const shapes = await probe(graph, [sample(2, 5), sample(3, 7)]);
  const kept = graph.nodes.flatMap((n) => n.outputs.filter(isKept));
  return (texts, tokens) => kept.reduce((n, v) => n + bytesOf(v, shapes.get(v), texts, tokens), 0);
}

/** Operators whose gradient reads none of their inputs, and those whose gradient reads their output. */
const linear = new Set(
  'Add Sub Neg Sum Concat Split Slice Pad Reshape Flatten Squeeze Unsqueeze Transpose Expand Identity Cast Where ReduceSum ReduceMean Gather Shape'.split(
    ' ',
  ),
);
const readsOutput = new Set(
  'Softmax LogSoftmax Tanh Sigmoid Exp Relu Sqrt Reciprocal ReduceL2 LayerNormalization'.split(' '),
);

/** Whether the backward pass reads a forward value, which must be held until then. */
const isKept = (v: Value): boolean =>
  readsOutput.has(v.producer?.op ?? '') || [...v.readers].some((n) => !linear.has(n.op));

function bytesOf(v: Value, shape: Shape | undefined, texts: number, tokens: number): number {
  if (!v.name || !shape || !isFloat(shape.dtype as 'float32')) return 0;
  return shape.dims.reduce<number>((n, d) => n * (typeof d === 'number' ? d : scaled(d, texts, tokens)), 4);
}

/** A dimension seen as a at 2 texts of 5 tokens and b at 3 of 7, at another size. */
function scaled(name: string, texts: number, tokens: number): number {
  const [a, b] = name.slice(1).split('_').map(Number);
  for (const byTexts of [0, 1, 2])
    for (const byTokens of [0, 1, 2]) {
      const each = a / (2 ** byTexts * 5 ** byTokens);
      if (Math.abs(each * 3 ** byTexts * 7 ** byTokens - b) < 1e-9) return each * texts ** byTexts * tokens ** byTokens;
    }
  return texts * tokens;
}
