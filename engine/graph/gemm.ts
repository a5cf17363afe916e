/** @file Gemm written as MatMul, for providers that are faster at it. */
import { type Graph, Node, Value } from './ir.ts';

/** Rewrites Gemm nodes without factors as MatMul of transposed sides, plus the third input. @returns how many */
export function gemmToMatMul(graph: Graph): number {
  let count = 0;
  graph.nodes = graph.nodes.flatMap((node) => {
    if (node.op !== 'Gemm' || node.float('alpha', 1) !== 1 || node.float('beta', 1) !== 1) return [node];
    count++;
    const made: Node[] = [];
    const add = (op: string, inputs: readonly Value[], perm?: readonly number[]): Value => {
      const value = new Value(graph.freshName(`${node.outputs[0].name}_${op}`));
      made.push(new Node(op, inputs, [value], { attributes: perm ? { perm } : {} }));
      return value;
    };
    const [a, b, c] = node.inputs as [Value, Value, Value | null | undefined];
    const side = (v: Value, flag: string): Value => (node.int(flag, 0) ? add('Transpose', [v], [1, 0]) : v);
    let out = add('MatMul', [side(a, 'transA'), side(b, 'transB')]);
    if (c) out = add('Add', [out, c]);
    const [y] = node.outputs;
    const last = made[made.length - 1];
    node.setInputs([]);
    last.outputs = [y];
    y.producer = last;
    return made;
  });
  return count;
}
