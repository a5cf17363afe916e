/**
 * @file Operators without a kernel in ONNX Runtime's WebGPU provider, written in those that have one. The provider leaves the others to
 * the CPU: what they read is copied to the host, and the run waits for the device.
 */
import { Expr } from '../expressions/expr.ts';
import { afterPass } from '../graph/checker.ts';
import type { Graph, Node, Value } from '../graph/ir.ts';
import { isFloat } from '../graph/tensor.ts';

type Write = (inputs: readonly Expr[], node: Node) => Expr;

const inOthers: Readonly<Record<string, Write>> = {
  LogSoftmax: ([x], node) => {
    const axes = [node.int('axis', -1)];
    const below = x.sub(x.reduceMax(axes, true));
    return below.sub(below.exp().sum(axes, true).log());
  },
  // NaN stays NaN.
  Sign: ([x]) => x.greater(0).where(1, x.op('Less', [x.number(0)]).where(-1, x.mul(0))),
  Or: ([a, b]) => a.not().op('And', [b.not()]).not(),
};

/** Changes a graph in place; inputs and outputs keep their names. @param graph of opset 13 or above */
export function inWebgpuOperators(graph: Graph): void {
  const gone = new Set<Node>();
  for (const node of [...graph.nodes]) {
    const write = node.domain === '' ? inOthers[node.op] : undefined;
    const [made] = node.outputs;
    // Signs of integers are of shapes, which are the CPU's in any case; an output's name belongs to its node.
    if (!write || graph.outputs.includes(made) || (node.op !== 'Or' && !isFloat(made.dtype ?? 'float32'))) continue;
    const e = write(
      node.inputs.map((v) => new Expr(graph, v as Value)),
      node,
    );
    [e.value.dtype, e.value.dims] = [made.dtype, made.dims];
    graph.replace(made, e.value);
    gone.add(node);
  }
  graph.removeNodes(gone);
  graph.sort();
  afterPass(graph);
}
