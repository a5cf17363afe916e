import { mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { writeWhole } from '../../common/files.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { StaticEncoder } from '../../static/index.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { texts } from '../loads/tools.ts';
import { shared } from '../shared.ts';
import { staticTower } from './tower.ts';

const folder = mkdtempSync(join(tmpdir(), 'static-'));
const [source, out] = [join(folder, 'source'), join(folder, 'out')];
const WIDTH = 48;
const odd = [
  ...texts,
  'tabs\tand\nlines\u0000\u200b with \ufffd controls',
  'ΑΘΉΝΑ İstanbul ÅNGSTRÖM ﬁ',
  '[CLS] not [mask] but [MASK]',
  `${'x'.repeat(101)} ${'y'.repeat(100)}`,
  'a+b=c<d>e^f`g|h~i $5',
  '𠀀漢 emoji 🎉 end',
];

beforeAll(async () => {
  await freshModel(join(folder, 'fresh'), { length: odd.length, text: (i) => odd[i] }, { vocabulary: 400, hidden: 16 });
  await staticTower(source, join(folder, 'fresh'), WIDTH);
  await exportFolder(source, out, { dtypes: ['static-int8', 'int8'] });
});

const open = (): StaticEncoder => new StaticEncoder(readFileSync(join(out, 'static.safetensors')));

test('texts become the tokens that the tokenizer makes of them', async () => {
  const tokenizer = await TextTokenizer.load(out);
  const encoder = open();
  for (const text of odd)
    expect(encoder.tokenize(text), text.slice(0, 40)).toEqual([...tokenizer.encode(text, 40).ids]);
});

test.skipIf(!shared)('also with the vocabulary of a real model over real texts', async () => {
  const model = join(shared ?? '', 'models/minilm-l6');
  const [from, to] = [join(folder, 'real'), join(folder, 'real-out')];
  mkdirSync(from, { recursive: true });
  await staticTower(from, model, WIDTH);
  await exportFolder(from, to, { dtypes: ['static-int8'] });
  const encoder = new StaticEncoder(readFileSync(join(to, 'static.safetensors')));
  const tokenizer = await TextTokenizer.load(to);
  const lines = readFileSync(join(shared ?? '', 'data/boolq/queries.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .slice(0, 1500);
  for (const line of [...lines.map((l) => JSON.parse(l).text as string), ...odd])
    expect(encoder.tokenize(line), line).toEqual([...tokenizer.encode(line, 40).ids]);
});

test('vectors are those of the ONNX file, and a text without tokens is all zeros', async () => {
  const encoder = open();
  const onnx = await Encoder.load(source);
  const rows = await onnx.encode(odd);
  await onnx.dispose();
  for (const [r, text] of odd.entries()) {
    const row = rows.subarray(r * WIDTH, (r + 1) * WIDTH);
    const vector = encoder.embed(text);
    const length = Math.hypot(...row);
    if (length === 0) expect(Math.hypot(...vector)).toBe(0);
    else {
      let cosine = 0;
      for (let i = 0; i < WIDTH; i++) cosine += row[i] * vector[i];
      expect(cosine / length, text.slice(0, 40)).toBeGreaterThan(1 - 1e-3);
    }
  }
  expect(encoder.embed('').every((x) => x === 0)).toBe(true);
  const tokenizer = await TextTokenizer.load(out);
  expect(encoder.embed(tokenizer.encode('kernel module', 40).ids)).toEqual(encoder.embed('kernel module'));
});

test('special tokens with rows of their own take part, as in the ONNX file', async () => {
  const [from, to] = [join(folder, 'special'), join(folder, 'special-out')];
  await staticTower(from, join(folder, 'fresh'), WIDTH);
  const graph = new Graph(14);
  const ids = new Expr(graph, graph.input('input_ids', 'int64', ['batch', 'sequence']));
  graph.input('attention_mask', 'int64', ['batch', 'sequence']);
  const V = (await TextTokenizer.load(from)).vocabularySize;
  const random = Random.of(4, 'table');
  const data = Float32Array.from({ length: V * WIDTH }, () => random.normal());
  graph.output(
    new Expr(graph, graph.constant({ dtype: 'float32', dims: [V, WIDTH], data }, 'table')).gather(ids).value,
    'last_hidden_state',
  );
  await writeWhole(join(from, 'onnx', 'model.onnx'), encodeGraph(graph));
  await exportFolder(from, to, { dtypes: ['static-int8'], dimensions: 32 });
  const encoder = new StaticEncoder(readFileSync(join(to, 'static.safetensors')));
  expect(encoder.dimensions).toBe(32);
  const onnx = await Encoder.load(from);
  const [row] = [await onnx.encode(['kernel module'])];
  await onnx.dispose();
  const vector = encoder.embed('kernel module');
  let [dot, square] = [0, 0];
  for (let i = 0; i < 32; i++) {
    dot += row[i] * vector[i];
    square += row[i] ** 2;
  }
  expect(dot / Math.sqrt(square)).toBeGreaterThan(1 - 1e-3);
});

test('the module imports nothing, and a transformer is refused', async () => {
  expect(readdirSync('static')).toEqual(['index.ts', 'search.ts']);
  // Types alone are no module that a browser would have to load.
  for (const file of readdirSync('static'))
    expect(readFileSync(join('static', file), 'utf8'), file).not.toMatch(/^import (?!type )|require\(|import\(/m);
  await expect(exportFolder(join(folder, 'fresh'), out, { dtypes: ['static-int8'] })).rejects.toMatchObject({
    code: 'export.not-static',
  });
  expect(() => new StaticEncoder(readFileSync(join(out, 'tokenizer.json')))).toThrow();
});
