import { expect, test } from 'vitest';
import { Expr } from '../../../engine/expressions/expr.ts';
import { Graph } from '../../../engine/graph/ir.ts';
import { sizeOf } from '../../../engine/graph/tensor.ts';
import { Session } from '../../../engine/runtime/session.ts';
import { ROW, readFromVector } from '../../../training/updates/parameter-views.ts';

const dims = [[5, 7], [2, ROW], [3], [ROW * 3], [], [4], [6], [ROW + 1], [2]];
/** Long parameters begin with a row, short ones follow each other, and some rows at the end belong to none. */
const long = [0, 1, 3, 4];
const offsets = new Map<number, number>();
let length = 0;
for (const i of long) {
  offsets.set(i, length);
  length += Math.ceil(sizeOf(dims[i]) / ROW) * ROW;
}
for (const i of [2, 5, 6, 7, 8]) {
  offsets.set(i, length);
  length += sizeOf(dims[i]);
}
length = (Math.ceil(length / ROW) + 2) * ROW;
const order = [...offsets.keys()];

test.each([2, 3, 7, Number.POSITIVE_INFINITY])(
  'parts of the vector in place of parameters, %d outputs a Split',
  async (most) => {
    for (const opset of [12, 13, 20])
      for (const unread of [[], [1, 5], [2, 8], [3, 6, 7], order.slice(1)]) {
        const graph = new Graph(opset);
        const vector = new Expr(graph, graph.input('vector', 'float32', [length]));
        const placed = order.map((i) => ({
          value: graph.input(`p${i}`, 'float32', dims[i]),
          dims: dims[i],
          offset: offsets.get(i) as number,
          short: !long.includes(i),
        }));
        const read = order.filter((i) => !unread.includes(i));
        for (const [k, i] of order.entries())
          if (read.includes(i)) graph.output(new Expr(graph, placed[k].value).mul(2).value, `twice${i}`);
        readFromVector(vector, length, placed, most);
        expect(graph.inputs.map((v) => v.name)).toEqual(['vector']);
        for (const node of graph.nodes) if (node.op === 'Split') expect(node.outputs.length).toBeLessThanOrEqual(most);
        const session = await Session.load(graph, { threads: 1 });
        const data = Float32Array.from({ length }, (_, i) => i);
        const out = await session.run({ vector: { dtype: 'float32', dims: [length], data } });
        await session.release();
        for (const i of read) {
          expect(out[`twice${i}`].dims).toEqual(dims[i]);
          const from = offsets.get(i) as number;
          expect(Array.from(out[`twice${i}`].data as Float32Array)).toEqual(
            Array.from(data.subarray(from, from + sizeOf(dims[i])), (v) => 2 * v),
          );
        }
      }
  },
);
