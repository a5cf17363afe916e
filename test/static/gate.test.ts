/** @file A static tower with a gate as a static file: recognised, cut, embedded as its ONNX file, refused by who cannot read it. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import { Random } from '../../math/random.ts';
import { writeCheckpoint } from '../../models/checkpoint.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { openFileEncoder } from '../../serving/encoder/file-encoder.ts';
import { StaticEncoder } from '../../static/index.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { staticTables } from '../../students/export/static-file.ts';
import { staticStudent } from '../../students/static-encoder.ts';
import type { StaticOrder } from '../../students/static-order.ts';
import { texts } from '../loads/tools.ts';

const folder = mkdtempSync(join(tmpdir(), 'gate-'));
const at = (name: string): string => join(folder, name);
const [WIDTH, RANK] = [48, 4];

/** A checkpoint of a tower with random weights. */
async function checkpoint(order: StaticOrder): Promise<void> {
  const { vocabularySize: V } = await TextTokenizer.load(at('fresh'));
  const random = Random.of(3, order);
  const normal = (n: number, scale = 1) => Float32Array.from({ length: n }, () => scale * random.normal());
  const options = { order, width: 8, rank: RANK };
  const student = await staticStudent(at('fresh'), { dimensions: WIDTH, data: normal(V * WIDTH) }, options);
  const weights = new Map([
    ['static.gate', { dtype: 'float32' as const, dims: [V, 4 * RANK], data: normal(V * 4 * RANK, 0.7) }],
  ]);
  await writeCheckpoint(at(order), {
    model: encodeGraph(await student.inferenceGraph(weights)),
    tokenizerFrom: at('fresh'),
    config: { model_type: 'bert', hidden_size: WIDTH, vocab_size: V },
    head: student.head,
    similarity: 'cosine',
    tokenWidth: WIDTH,
    maxLength: 40,
    provenance: {},
    card: '# static\n',
  });
}

beforeAll(async () => {
  await freshModel(at('fresh'), { length: texts.length, text: (i) => texts[i] }, { vocabulary: 400, hidden: 16 });
  await checkpoint('gate');
  await exportFolder(at('gate'), at('out'), { dtypes: ['static-int8', 'int8'] });
});

const bytes = (from = 'out'): Uint8Array => readFileSync(join(at(from), 'static.safetensors'));
const cosine = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let [dot, x, y] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    x += a[i] ** 2;
    y += b[i] ** 2;
  }
  return x && y ? dot / Math.sqrt(x * y) : Number(x === y);
};

/** Least cosine between what an ONNX file and a static file make of each text. */
async function likeness(onnx: string, encoder: StaticEncoder): Promise<number> {
  const model = await Encoder.load(onnx);
  const rows = await model.encode(texts);
  await model.dispose();
  return Math.min(...texts.map((t, r) => cosine(rows.subarray(r * WIDTH, (r + 1) * WIDTH), encoder.embed(t))));
}

test('vectors are those of the ONNX file, whose int8 is near them too', async () => {
  const encoder = new StaticEncoder(bytes());
  expect(await likeness(at('gate'), encoder)).toBeGreaterThan(1 - 1e-3);
  expect(await likeness(join(at('out'), 'onnx', 'model_int8.onnx'), encoder)).toBeGreaterThan(1 - 1e-3);
  // Without the gate they are others: the same rows as a file of the first format.
  const { tensors, metadata } = parts();
  const { needs: _, ...rest } = metadata;
  const plain = new Map([...tensors].filter(([name]) => name === 'rows' || name === 'scales'));
  const alone = new StaticEncoder(encodeSafetensors(plain, { ...rest, format: 'onnx-distill-static-1' }));
  expect(await likeness(at('gate'), alone)).toBeLessThan(0.98);
  expect(encoder.embed('').every((x) => x === 0)).toBe(true);
  const [one] = encoder.terms('kernel');
  expect(encoder.embed([one])).toEqual(alone.embed([one]));
  // Ids outside of the vocabulary are left out, as without a gate.
  expect(encoder.embed([one, 1e6, -1])).toEqual(encoder.embed([one]));
});

test('a cut vocabulary and fewer dimensions keep the gate', async () => {
  const tokenizer = await TextTokenizer.load(at('gate'));
  const used = new Set(texts.slice(0, 3).flatMap((t) => [...tokenizer.encode(t, 40).ids]));
  const { kept } = await exportFolder(at('gate'), at('cut'), { dtypes: ['static-int8'], used });
  expect(kept!.length).toBeLessThan(tokenizer.vocabularySize);
  const [whole, cut] = [new StaticEncoder(bytes()), new StaticEncoder(bytes('cut'))];
  for (const t of texts.slice(0, 3)) expect(cosine(whole.embed(t), cut.embed(t))).toBeCloseTo(1, 5);
  await exportFolder(at('gate'), at('narrow'), { dtypes: ['static-int8'], dimensions: 32 });
  const narrow = new StaticEncoder(bytes('narrow'));
  for (const t of texts) expect(cosine(whole.embed(t).subarray(0, 32), narrow.embed(t))).toBeGreaterThan(1 - 1e-3);
});

test('other orders, and a graph that is nearly the one of a gate, are refused', async () => {
  await checkpoint('convolution');
  const refused = (from: string) =>
    expect(exportFolder(at(from), at('none'), { dtypes: ['static-int8'] })).rejects.toThrow(
      /the student is not a static tower.*'student.static.order' none or gate/,
    );
  await refused('convolution');
  const graph = await loadGraph(join(at('gate'), 'onnx', 'model.onnx'));
  expect(staticTables(graph)?.gates?.dims).toEqual([staticTables(graph)?.rows.dims[0], 4 * RANK]);
  const near = (change: (copy: Graph) => void): unknown => {
    const copy = graph.clone();
    change(copy);
    return staticTables(copy);
  };
  const node = (g: Graph, op: string) => g.nodes.find((n) => n.op === op)!;
  expect(near(() => {})).toBeDefined();
  expect(near((g) => Object.assign(node(g, 'Tanh'), { op: 'Relu' }))).toBeUndefined();
  // Another column, the other neighbour, and both of one side.
  const slices = (g: Graph) => g.nodes.filter((n) => n.op === 'Slice');
  for (const [k] of slices(graph).entries())
    expect(
      near((g) => {
        const [first, start, ...rest] = slices(g)[k].inputs;
        const { dims, data } = start!.constant as Tensor<'int64'>;
        const other: Tensor = { dtype: 'int64', dims, data: data.map((v) => v + 1n) };
        slices(g)[k].setInputs([first, g.constant(other, 'other'), ...rest]);
      }),
      `slice ${k}`,
    ).toBeUndefined();
});

/** Arrays and metadata of the exported file. */
function parts() {
  const file = bytes();
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const { __metadata__ } = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  return { tensors: parseSafetensors(file), metadata: __metadata__ as Record<string, string> };
}

test('a file that needs what a reader does not know is refused by name; one without its gate is incomplete', async () => {
  const { tensors, metadata } = parts();
  // What versions before the gate refuse: they read the first format alone.
  expect(metadata).toMatchObject({ format: 'onnx-distill-static-2', needs: '["gate"]' });
  const encoded = (more: Record<string, string>, without: string[] = []) =>
    encodeSafetensors(new Map([...tensors].filter(([name]) => !without.includes(name))), { ...metadata, ...more });
  const opened = (...given: Parameters<typeof encoded>) => expect(() => new StaticEncoder(encoded(...given)));
  opened({}).not.toThrow();
  opened({ needs: '["gate","phrases"]' }).toThrow(/this version can read: it needs phrases; update onnx-distill/);
  opened({ format: 'onnx-distill-static-3' }).toThrow(/it needs the format onnx-distill-static-3;/);
  opened({ needs: '[]' }).toThrow(/it needs the array 'gates', the array 'gate_scales';/);
  opened({ needs: 'gate' }).toThrow(/or is incomplete/);
  for (const name of ['gates', 'gate_scales']) opened({}, [name]).toThrow(/or is incomplete/);
  const narrow = { dtype: 'int8' as const, dims: [tensors.get('rows')!.dims[0], 6] };
  const shape = new Map(tensors).set('gates', { ...narrow, data: new Int8Array(narrow.dims[0] * 6) });
  expect(() => new StaticEncoder(encodeSafetensors(shape, metadata))).toThrow(/or is incomplete/);
  const file = join(at('out'), 'newer.safetensors');
  writeFileSync(file, encoded({ needs: '["phrases"]' }, ['gates', 'gate_scales']));
  await expect(openFileEncoder(file)).rejects.toThrow(
    `${file} is not a static encoder of onnx-distill that this version`,
  );
});
