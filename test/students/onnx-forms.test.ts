/** @file ONNX files as exporters write them: half precision, old and new opsets, other inputs, fixed sizes. */
import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { liftOpset, lowerOpset } from '../../engine/passes/opset.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { distill } from '../../pipelines/distill.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { computeHalf } from '../../students/export/half.ts';
import { checkStudent } from '../../training/check-student.ts';
import { shared } from '../shared.ts';

const texts = ['open the red file', 'a', 'the kernel said nothing at all, and then it said more than that'];
const root = mkdtempSync(join(tmpdir(), 'forms-'));
const base = join(root, 'base');
let expected: Float32Array;

beforeAll(async () => {
  await freshModel(
    base,
    { length: 3, text: (i) => texts[i] },
    { vocabulary: 120, hidden: 16, heads: 2, maxLength: 24 },
  );
  expected = await vectors(base);
});

async function vectors(folder: string): Promise<Float32Array> {
  const encoder = await Encoder.load(folder);
  const found = await encoder.encode(texts);
  await encoder.dispose();
  return found;
}

const largest = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), a.length === b.length ? 0 : Number.POSITIVE_INFINITY);

/** The base folder with its graph changed, as a person might have it. */
async function variant(name: string, change: (graph: Graph) => void): Promise<string> {
  const folder = join(root, name);
  cpSync(base, folder, { recursive: true });
  const graph = await loadGraph(join(base, 'onnx/model.onnx'));
  change(graph);
  writeFileSync(join(folder, 'onnx/model.onnx'), encodeGraph(graph));
  return folder;
}

/** Half precision inside, and at the output where that is asked for, as optimum's --dtype fp16 gives. */
const half = (output: boolean) => (graph: Graph) => {
  computeHalf(graph);
  if (!output) return;
  const [back] = graph.outputs;
  const inner = back.producer?.inputs[0];
  if (!inner) throw new Error('no cast');
  [back.name, inner.name] = [inner.name, back.name];
  Object.assign(inner, { dtype: 'float16', dims: back.dims ?? ['batch', 'sequence', 16] });
  graph.setOutputs(inner);
  graph.prune();
};

const renamed: [string, (graph: Graph) => void, number][] = [
  ['half precision inside', half(false), 3e-3],
  ['half precision at the output', half(true), 3e-3],
  ...[11, 12, 13, 14, 15, 17, 18, 19, 20].map((opset): [string, (graph: Graph) => void, number] => [
    `opset ${opset}`,
    (graph) => {
      lowerOpset(liftOpset(graph, 20), opset);
      expect(graph.opset).toBe(opset);
    },
    1e-6,
  ]),
  [
    'int32 inputs',
    (graph) => {
      for (const v of graph.inputs) {
        const readers = [...v.readers];
        v.dtype = 'int32';
        const wide = new Expr(graph, v).cast('int64').value;
        for (const node of readers) node.replaceInput(v, wide);
      }
      graph.sort();
    },
    1e-6,
  ],
  [
    'positions as an input',
    (graph) => {
      const table = graph.constants.find((v) => v.name.includes('position_embeddings'));
      const [lookup] = table?.readers ?? [];
      const places = graph.input('position_ids', 'int64', ['batch', 'sequence']);
      const rows = new Expr(graph, table as never).gather(new Expr(graph, places));
      graph.replace(lookup.outputs[0], rows.value);
      graph.prune();
      graph.sort();
    },
    1e-6,
  ],
];

describe.each(renamed)('%s', (name, change, tolerance) => {
  test('reads as the model that it was made of, and a step is taken', { timeout: 100_000 }, async () => {
    const folder = await variant(name, change);
    expect(largest(await vectors(folder), expected)).toBeLessThan(tolerance);
    const found = await checkStudent(folder);
    expect([found.trainable, found.problem]).toEqual([true, undefined]);
    const written = join(root, `${name} written`);
    await exportFolder(folder, written, { dtypes: ['fp32', 'fp16', 'int8'], opset: 18 });
    expect((await loadGraph(join(written, 'onnx/model.onnx'))).opset).toBe(18);
    expect(largest(await vectors(written), expected)).toBeLessThan(tolerance + 1e-6);
    expect(largest(await vectors(join(written, 'onnx/model_fp16.onnx')), expected)).toBeLessThan(5e-3);
    expect(largest(await vectors(join(written, 'onnx/model_quantized.onnx')), expected)).toBeLessThan(0.1);
  });
});

describe('what a step could not be taken with is said before any', () => {
  const refused: [string, (graph: Graph) => void, string][] = [
    [
      'a fixed size',
      (graph) => {
        for (const v of graph.inputs) v.dims = [1, 24];
      },
      'takes texts of one size alone, [1, 24]',
    ],
    [
      'no mask',
      (graph) => {
        const mask = graph.inputs.find((v) => v.name === 'attention_mask');
        const ids = graph.inputs.find((v) => v.name === 'input_ids');
        if (!mask || !ids) throw new Error('no inputs');
        const ones = new Expr(graph, ids)
          .sub(new Expr(graph, ids))
          .add(new Expr(graph, graph.constant({ dtype: 'int64', dims: [], data: BigInt64Array.of(1n) })));
        for (const node of [...mask.readers]) node.replaceInput(mask, ones.value);
        graph.removeInput(mask);
        graph.sort();
      },
      'has no attention_mask: it would read the padding of a batch',
    ],
  ];
  test.each(refused)('%s: it encodes, and is not a student', { timeout: 100_000 }, async (name, change, problem) => {
    const folder = await variant(name, change);
    expect(largest(await vectors(folder), expected)).toBeLessThan(1e-6);
    const found = await checkStudent(folder);
    expect(found.trainable).toBe(false);
    expect(found.problem).toContain(problem);
  });
});

test('an operator that an older opset cannot say is refused by its name', async () => {
  const graph = await loadGraph(join(base, 'onnx/model.onnx'));
  liftOpset(graph, 20);
  graph.setOutputs(new Expr(graph, graph.outputs[0]).op('Mish').value);
  expect(() => lowerOpset(graph, 17, 'the file')).toThrow(/the file: the operator Mish .*has no form of opset 17/);
});

describe.skipIf(!shared)('the folders of ../shared/cases', () => {
  const at = (...path: string[]): string => join(shared as string, 'cases', ...path);
  const ndcg = async (student: string, data: string): Promise<number> =>
    (await evaluate({ student, data, cost: false, metrics: ['ndcg@10'], cache: join(root, 'cache') })).systems[0]
      .metrics['ndcg@10'];
  const run = (name: string, student: string, data: string, teacher: string) =>
    distill({
      output: join(root, name),
      cache: join(root, 'cache'),
      data: { path: data },
      teacher: { kind: 'cross-encoder', model: teacher },
      student: { model: student },
      candidates: { source: 'bm25', count: 4 },
      train: { steps: 3, batchSize: 4, candidates: 3, provider: 'cpu' },
      evaluate: { before: false },
    });

  test.each([
    ['prompts', 'prompts-dropped/e5tiny', 'prompts-dropped/world', 1],
    ['cosine without Normalize', 'similarity-cosine/nonorm', 'similarity-cosine/world', 1],
    ['texts cut where the model cuts', '../models/minilm-l6', 'evaluate-cuts-tokens/tail', 0.9565],
    ['queries cut where the model cuts', '../models/minilm-l6', 'evaluate-cuts-tokens/longq', 0.975],
  ])('%s', { timeout: 200_000 }, async (_, student, data, value) => {
    expect(await ndcg(at(student), at(data))).toBeCloseTo(value, 3);
  });

  test('prompts stay where a folder is exported', { timeout: 100_000 }, async () => {
    await exportFolder(at('prompts-dropped/e5tiny'), join(root, 'e5-int8'), { dtypes: ['int8'] });
    expect(await ndcg(join(root, 'e5-int8'), at('prompts-dropped/world'))).toBeCloseTo(1, 3);
  });

  test.each([
    ['fp16-student', 'student'],
    ['old-opsets', 'opset11'],
    ['old-opsets', 'max14'],
    ['opset-20-checkpoint', 'student'],
  ])('%s, %s: checked, trained and read again', { timeout: 200_000 }, async (name, student) => {
    expect(await checkStudent(at(name, student))).toMatchObject({ trainable: true });
    const report = await run(`${name}-${student}`, at(name, student), at(name, 'data'), at(name, 'teacher'));
    const encoder = await Encoder.load(report.checkpoint);
    expect((await encoder.encode(['a text'])).every(Number.isFinite)).toBe(true);
    await encoder.dispose();
    const said = report.warnings.some((n) => n.includes('@xenova/transformers 2.17 loads up to 18'));
    expect(said).toBe(name === 'opset-20-checkpoint');
  });

  test('RoBERTa counts positions from its padding: 32 of 34 rows are read', { timeout: 200_000 }, async () => {
    const encoder = await Encoder.load(at('roberta-positions/encoder'));
    expect(encoder.maxLength).toBe(32);
    expect((await encoder.encode(['word '.repeat(200)], { maxLength: 500 })).every(Number.isFinite)).toBe(true);
    await encoder.dispose();
    await run(
      'roberta',
      at('roberta-positions/encoder'),
      at('roberta-positions/datal'),
      at('roberta-positions/teacher'),
    );
  });
});
