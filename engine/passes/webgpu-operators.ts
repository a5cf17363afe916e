/**
 * @file Operators without a kernel in ONNX Runtime's WebGPU provider, written in those that have one. The provider leaves the others to
 * the CPU: what they read is copied to the host, and the run waits for the device.
 */
import { Expr } from '../expressions/expr.ts';
import { afterPass } from '../graph/checker.ts';
import type { Graph, Node, Value } from '../graph/ir.ts';
import type { DType } from '../graph/tensor.ts';
import { outputType } from './to-half.ts';

type Write = (inputs: readonly Expr[], node: Node) => Expr;

const inOthers: Readonly<Record<string, Write>> = {
  LogSoftmax: ([x], node) => {
    const axes = [node.int('axis', -1)];
    const below = x.sub(x.reduceMax(axes, true));
    return below.sub(below.exp().sum(axes, true).log());
  },
  // NaN stays NaN.
  Sign: ([x]) => x.greater(0).where(1, x.less(0).where(-1, x.mul(0))),
  Or: ([a, b]) => a.not().op('And', [b.not()]).not(),
};

/** Changes a graph in place; inputs and outputs keep their names. @param graph of opset 13 or above */
export function inWebgpuOperators(graph: Graph): void {
  const gone = new Set<Node>();
  // Files need not say the types of what is computed.
  const types = new Map<Value, DType>();
  const typeOf = (v: Value): DType => v.constant?.dtype ?? v.dtype ?? types.get(v) ?? 'float32';
  for (const node of [...graph.nodes]) {
    for (const [i, v] of node.outputs.entries()) types.set(v, outputType(node, i, typeOf));
    const write = node.domain === '' ? inOthers[node.op] : undefined;
    const [made] = node.outputs;
    // Signs of integers are of shapes, which are the CPU's in any case; an output's name belongs to its node.
    if (!write || graph.outputs.includes(made) || (node.op !== 'Or' && typeOf(made) !== graph.float)) continue;
    const e = write(
      node.inputs.map((v) => new Expr(graph, v as Value)),
      node,
    );
    [e.value.dtype, e.value.dims] = [made.dtype, made.dims];
    types.set(e.value, typeOf(made));
    graph.replace(made, e.value);
    gone.add(node);
  }
  graph.removeNodes(gone);
  graph.sort();
  afterPass(graph);
}
