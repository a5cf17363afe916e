import { expect, test } from 'vitest';
import { Expr } from '../../../engine/expressions/expr.ts';
import { Graph } from '../../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../../engine/graph/tensor.ts';
import { inWebgpuOperators } from '../../../engine/passes/webgpu-operators.ts';
import { Session } from '../../../engine/runtime/session.ts';

async function run(graph: Graph, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
  const session = await Session.load(graph, { threads: 1 });
  const out = await session.run(feeds);
  await session.release();
  return out;
}

const signed = tensor('float32', [2, 3, 2], [0, -0, 1.5, -2, 1e-30, -1e-30, 88, -1e9, 1e9, 3, Infinity, Number.NaN]);
const logits = tensor('float32', [2, 3, 2], [0, -1e9, 1.5, -1e9, -3, -1e9, 1e4, 88, -1e4, 89, 3, 90]);

test.each([13, 17, 18, 20])('operators that WebGPU lacks give the same in others, opset %d', async (opset) => {
  const made = (): Graph => {
    const graph = new Graph(opset);
    const [x, y] = ['signed', 'logits'].map((n) => new Expr(graph, graph.input(n, 'float32', ['a', 3, 2])));
    graph.output(x.sign().mul(2).value, 'sign');
    for (const axis of [-1, 1, 0]) graph.output(y.logSoftmax(axis).mul(1).value, `log_softmax_${axis}`);
    graph.output(
      y
        .greater(0)
        .op('Or', [x.greater(1)])
        .float().value,
      'or',
    );
    graph.output(y.op('LogSoftmax').value, 'output');
    return graph;
  };
  const [plain, other] = [made(), made()];
  inWebgpuOperators(other);
  expect(other.outputs.map((v) => v.name)).toEqual(plain.outputs.map((v) => v.name));
  const left = other.nodes.filter((n) => ['Sign', 'LogSoftmax', 'Or'].includes(n.op));
  expect(left.map((n) => n.outputs[0].name)).toEqual(['output']);
  const [a, b] = [await run(plain, { signed, logits }), await run(other, { signed, logits })];
  for (const [name, { data }] of Object.entries(a))
    for (const [i, v] of (data as Float32Array).entries()) {
      const own = (b[name].data as Float32Array)[i];
      if (Number.isFinite(v))
        expect(Math.abs(own - v), `${name} ${i}`).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(v)));
      else expect(own, `${name} ${i}`).toBe(v);
    }
});

test('signs of integers stay, whether or not the file says that they are integers', async () => {
  const made = (): Graph => {
    const graph = new Graph(17);
    const x = new Expr(graph, graph.input('x', 'int64', ['n']));
    const places = x.sub(x.ints(2)).sign();
    graph.output(places.mul(x).value, 'whole');
    graph.output(places.float().sign().mul(0.5).value, 'half');
    return graph;
  };
  const graph = made();
  inWebgpuOperators(graph);
  expect(graph.nodes.filter((n) => n.op === 'Sign')).toHaveLength(1);
  const feeds = { x: tensor('int64', [4], [0, 1, 2, 5]) };
  expect(await run(graph, feeds)).toEqual(await run(made(), feeds));
});
