/**
 * @file Bytes that the operators of a training step read and write, by operator: minilm-l6's step as the graph is written, without
 * what ONNX Runtime fuses. Shapes are those of two small runs on the CPU, extended to the sizes asked for.
 *
 *   npm run bench -- bytes [sequences] [length] [--precision float16] [--lean] [--largest 30]
 */
import { parseArgs } from 'node:util';
import type { Dim, Node, Value } from '../../engine/graph/ir.ts';
import { arrayTypes, type DType } from '../../engine/graph/tensor.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import { dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import { emitGradients } from '../../training/step/single-run.ts';
import { LOSS_SCALE, wantedFeeds } from '../../training/step/training-step.ts';
import { SHARED } from '../peers/peers.ts';
import { randomBatch, stepOptions } from '../peers/step.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    precision: { type: 'string', default: 'float32' },
    largest: { type: 'string', default: '0' },
    lean: { type: 'boolean', default: false },
  },
});
const [sequences = 576, length = 190] = positionals.map(Number);
const precision = values.precision as 'float32' | 'float16';
const step = await dualEncoderStep(
  { ...(await stepOptions(SHARED)), groups: 1, precision, forms: values.lean ? 'cuda' : 'plain' },
  false,
);
emitGradients(step.graph, step.gradients);
const small = [
  { sequences: 10, length: 9 },
  { sequences: 14, length: 11 },
];
const scale = { [LOSS_SCALE]: { dtype: 'float32', dims: [1], data: Float32Array.of(1) } } as const;
const feeds = small.map((s) =>
  wantedFeeds(
    step.graph.inputs.map((v) => v.name),
    Object.fromEntries(step.start),
    step.feeds(randomBatch(s.sequences, s.length), 0),
    scale,
  ),
);
const shapes = await probe(step.graph, [feeds[0], feeds[1]]);

/** A dimension at the sizes asked for: a multiple of sequences, tokens and the like in both small runs. */
function sized(dim: Dim): number {
  if (typeof dim === 'number') return dim;
  const [a, b] = dim.slice(1).split('_').map(Number);
  const bases = (s: number, l: number): number[] => [s * l, s, l, s / 2, (s / 2) * l];
  const [one, other, wanted] = [...small.map((s) => bases(s.sequences, s.length)), bases(sequences, length)];
  const at = one.findIndex((base, i) => Number.isInteger(a / base) && a / base === b / other[i]);
  if (at < 0) throw new Error(`no size is known for ${dim}`);
  return (a / one[at]) * wanted[at];
}
const bytesOf = (v: Value): number => {
  const shape = shapes.get(v);
  if (!shape) return 0;
  return arrayTypes[shape.dtype as DType].BYTES_PER_ELEMENT * shape.dims.reduce((n: number, d) => n * sized(d), 1);
};
const views = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Flatten', 'Identity', 'Shape']);
const bytes = (node: Node): number => {
  if (views.has(node.op)) return 0;
  const read = [...new Set(node.inputs.filter((v): v is Value => !!v))];
  const rows = node.op === 'Gather' ? [node.inputs[1] as Value, ...node.outputs] : read;
  return [...rows, ...node.outputs].reduce((n, v) => n + bytesOf(v), 0);
};
const totals = new Map<string, { count: number; bytes: number }>();
for (const node of step.graph.nodes) {
  const own = totals.get(node.op) ?? { count: 0, bytes: 0 };
  totals.set(node.op, { count: own.count + 1, bytes: own.bytes + bytes(node) });
}
const gigabytes = (n: number): string => (n / 1e9).toFixed(2).padStart(8);
const print = (name: string, n: number, more = ''): void => console.log(`${gigabytes(n)} GB  ${name}${more}`);
for (const [op, t] of [...totals].sort((a, b) => b[1].bytes - a[1].bytes))
  if (t.bytes >= 5e6) print(op, t.bytes, ` (${t.count})`);
print(
  'in all',
  [...totals.values()].reduce((n, t) => n + t.bytes, 0),
  ` (${step.graph.nodes.length})`,
);
const shown = Number(values.largest);
if (shown) {
  const groups = new Map<string, { n: number; bytes: number }>();
  const text = (v: Value | null): string => (v ? `${shapes.get(v)?.dtype}[${shapes.get(v)?.dims.map(sized)}]` : '');
  for (const node of step.graph.nodes) {
    const key = `${node.op} ${node.inputs.map(text)} -> ${node.outputs.map(text)}`;
    const own = groups.get(key) ?? { n: 0, bytes: 0 };
    groups.set(key, { n: own.n + 1, bytes: own.bytes + bytes(node) });
  }
  for (const [key, g] of [...groups].sort((a, b) => b[1].bytes - a[1].bytes).slice(0, shown))
    print(key, g.bytes, ` (${g.n})`);
}
