/** @file The forms in which re-rankers are exported, each made here from one model: what is read of them, and what is refused. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import { castFloat, type DType } from '../../engine/graph/tensor.ts';
import { readModelFile } from '../../engine/io/model-file.ts';
import { loadGraph, onnxType } from '../../engine/io/onnx-file.ts';
import { Session } from '../../engine/runtime/session.ts';
import { freshModel } from '../../models/new-model.ts';
import { type CrossEncoderOptions, crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';
import { planInputs } from '../../teachers/reading/inputs.ts';
import { logitOf } from '../../teachers/reading/output.ts';
import type { Pair } from '../../teachers/teacher.ts';
import {
  changeFile,
  copyWithGraph,
  enlargeTable,
  sampleTexts,
  smallShape,
  storeExternally,
} from '../model-variants.ts';

const dir = mkdtempSync(join(tmpdir(), 'forms-'));
afterAll(() => rmSync(dir, { recursive: true }));
const base = join(dir, 'base');
const documents = sampleTexts;
const pairs: Pair[] = documents.map((document, i) => ({
  queryId: 'q',
  documentId: `d${i}`,
  query: 'open list',
  document,
}));
let right: number[] = [];

beforeAll(async () => {
  const texts = { length: documents.length, text: (i: number) => documents[i] };
  await freshModel(base, texts, { kind: 'cross-encoder', ...smallShape });
  right = await scoresOf(base);
  expect(new Set(right).size).toBe(pairs.length);
});

async function scoresOf(folder: string, options?: CrossEncoderOptions): Promise<number[]> {
  const teacher = await crossEncoder(folder, options);
  try {
    const together = await teacher.score(pairs);
    // A score does not depend on its neighbours.
    for (const [i, p] of pairs.entries()) expect((await teacher.score([p]))[0]).toBeCloseTo(together[i], 5);
    return [...together];
  } finally {
    await teacher.dispose();
  }
}

const factsOf = async (folder: string, options?: CrossEncoderOptions) => {
  const teacher = await crossEncoder(folder, options);
  await teacher.dispose();
  return teacher.facts;
};

/** A copy of the folder whose graph and config are changed. */
async function variant(
  name: string,
  change: (graph: Graph, logits: Expr) => void,
  config: Record<string, unknown> = {},
): Promise<string> {
  const folder = await copyWithGraph(base, join(dir, name), (graph) =>
    change(graph, new Expr(graph, graph.outputs[0])),
  );
  const own = JSON.parse(readFileSync(join(base, 'config.json'), 'utf8'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...own, ...config }));
  return folder;
}

/** Puts a value in the place of the graph's output. */
function replace(graph: Graph, value: Value, dtype: DType, dims: (number | string)[], name = 'logits'): void {
  for (const v of graph.outputs) v.name = graph.freshName('before');
  graph.setOutputs();
  [value.dtype, value.dims] = [dtype, dims];
  graph.output(value, name);
  value.name = name;
}

const redirect = (nodes: readonly Node[], from: Value, to: Value): void => {
  for (const n of nodes) n.setInputs(n.inputs.map((x) => (x === from ? to : x)));
};

const close = (a: readonly number[], b: readonly number[], tolerance = 1e-5): void => {
  for (const [i, x] of a.entries()) expect(Math.abs(x - b[i]), `${i}: ${x} and ${b[i]}`).toBeLessThan(tolerance);
};

describe('types of the output', () => {
  test.each([
    ['float16', 2e-3],
    ['bfloat16', 2e-2],
    ['float64', 1e-6],
  ] as const)('%s', async (dtype, tolerance) => {
    const folder = await variant(dtype, (graph, logits) => {
      const cast = logits.op('Cast', [], { to: onnxType(dtype) });
      replace(graph, cast.value, dtype, ['batch', 1]);
    });
    const found = await scoresOf(folder);
    close(found, right, tolerance);
    expect(found).not.toEqual(dtype === 'float64' ? [] : right);
    // Versions before this one left integers in the cache.
    expect(await crossEncoderKey(folder)).not.toBe(await crossEncoderKey(base));
  });

  test('halves of every kind are read as float32 has them', () => {
    const bits = Uint16Array.of(0x3c00, 0xc0b4, 0x0001, 0x8000, 0x7bff, 0x7c00, 0xfc00);
    const read = castFloat({ dtype: 'float16', dims: [7], data: bits }, 'float32').data;
    expect([...read]).toEqual([1, -2.3515625, 2 ** -24, -0, 65504, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
  });
});

describe('shapes and names of the output', () => {
  test('[batch], another name, and further outputs', async () => {
    const flat = await variant('flat', (graph, logits) =>
      replace(graph, logits.reshape(-1).value, 'float32', ['batch']),
    );
    close(await scoresOf(flat), right);
    const named = await variant('named', (graph, logits) => {
      const hidden = logits.mul(2).reshape(-1, 1, 1).value;
      replace(graph, logits.mul(1).value, 'float32', ['batch', 1], 'score');
      [hidden.dtype, hidden.dims] = ['float32', ['batch', 1, 1]];
      graph.output(hidden, 'last_hidden_state');
    });
    close(await scoresOf(named), right);
  });

  test('two that could be the score are refused, until one is named', async () => {
    const folder = await variant('two', (graph, logits) => {
      const other = logits.mul(3);
      replace(graph, logits.mul(1).value, 'float32', ['batch', 1], 'score');
      [other.value.dtype, other.value.dims] = ['float32', ['batch', 1]];
      graph.output(other.value, 'other');
    });
    await expect(crossEncoder(folder)).rejects.toThrow(
      /has the outputs score, other: expected logits; give a cross-encoder .*name its output as 'teacher.output'/,
    );
    close(
      await scoresOf(folder, { output: 'other' }),
      right.map((x) => 3 * x),
      1e-4,
    );
    await expect(crossEncoder(folder, { output: 'none' })).rejects.toThrow(
      "has the outputs score, other: expected none; name one of them as 'teacher.output'",
    );
  });
});

describe('labels', () => {
  /** Columns x, -x, 2x ... as factors say. */
  const columns = (name: string, factors: number[], id2label?: Record<string, string>) =>
    variant(
      name,
      (graph, logits) => {
        const [first, ...others] = factors.map((f) => logits.mul(f));
        replace(graph, first.concat(others, 1).value, 'float32', ['batch', factors.length]);
      },
      { id2label },
    );
  const times = (f: number): number[] => right.map((x) => f * x);

  test.each([
    [{ 0: 'LABEL_0', 1: 'LABEL_1' }, -2],
    [undefined, -2],
    [{ 0: 'entailment', 1: 'not_entailment' }, 2],
    [{ 0: 'Not-Relevant', 1: 'Relevant' }, -2],
    [{ 0: 'positive', 1: 'negative' }, 2],
    [{ 0: 'no', 1: 'yes' }, -2],
    [{ 0: 'duplicate', 1: 'not duplicate' }, 2],
    [{ 0: 'fits', 1: 'irrelevant' }, 2],
  ])('two logits called %o', async (id2label, factor) => {
    const folder = await columns(`two-${JSON.stringify(id2label)}`.replace(/\W+/g, '-'), [1, -1], id2label as never);
    close(await scoresOf(folder), times(factor), 1e-4);
    const { notes = [] } = (await factsOf(folder)) ?? {};
    expect(notes).toEqual(
      !id2label || id2label[0] === 'LABEL_0'
        ? ["two logits without names: the second is taken for relevance; say otherwise with 'teacher.label'"]
        : [],
    );
    close(await scoresOf(folder, { label: 0 }), times(2), 1e-4);
  });

  test('three of inference: entailment minus the log-sum-exp of the others', async () => {
    const folder = await columns('nli', [1, 2, 3], { 0: 'contradiction', 1: 'entailment', 2: 'neutral' });
    const expected = right.map((x) => 2 * x - Math.log(Math.exp(x) + Math.exp(3 * x)));
    close(await scoresOf(folder), expected, 1e-4);
    expect((await factsOf(folder))?.score).toBe(
      "the logit of 'entailment' minus the log-sum-exp of 'contradiction', 'neutral'",
    );
    expect(await crossEncoderKey(folder, { label: 'neutral' })).not.toBe(await crossEncoderKey(folder));
  });

  test('labels that do not say which is relevance are refused with their names, and can be said', async () => {
    const folder = await columns('stars', [1, 2, 3], { 0: '1 star', 1: '2 stars', 2: '3 stars' });
    await expect(crossEncoder(folder)).rejects.toThrow(
      /gives 3 logits a pair \(0: 1 star, 1: 2 stars, 2: 3 stars\), of which none or several mean relevance: expected one label .*; name it or give its place as 'teacher.label'/,
    );
    const expected = right.map((x) => 3 * x - Math.log(Math.exp(x) + Math.exp(2 * x)));
    for (const label of [2, '2', '3 STARS']) close(await scoresOf(folder, { label }), expected, 1e-4);
    await expect(crossEncoder(folder, { label: 'four' })).rejects.toThrow(/of which none is 'four'/);
    await expect(crossEncoder(folder, { label: 3 })).rejects.toThrow(/of which none is '3'/);
    const both = await columns('both', [1, -1], { 0: 'relevant', 1: 'positive' });
    await expect(crossEncoder(both)).rejects.toMatchObject({ code: 'teacher.label', exitCode: 2 });
  });
});

test("sentence-transformers' fields of config.json: an activation of predictions is not part of the score", async () => {
  const same = (name: string, config: Record<string, unknown>) => variant(name, () => {}, config);
  const activations = {
    none: {},
    new: { sentence_transformers: { activation_fn: 'torch.nn.modules.activation.Sigmoid', version: '5.7.0' } },
    identity: { sentence_transformers: { activation_fn: 'torch.nn.modules.linear.Identity' } },
    old: { sbert_ce_default_activation_function: 'torch.nn.modules.activation.Sigmoid' },
  };
  const said: (string | undefined)[] = [];
  for (const [name, config] of Object.entries(activations)) {
    const folder = await same(`activation-${name}`, config);
    close(await scoresOf(folder), right);
    said.push((await factsOf(folder))?.score);
  }
  const without = 'the logit, without the Sigmoid that config.json names for predictions';
  expect(said).toEqual(['the logit', without, 'the logit', without]);
  const labels = { id2label: { 0: 'no', 1: 'yes', 2: 'perhaps' } };
  expect((await factsOf(await same('more-labels', labels)))?.notes).toEqual([
    'config.json names 3 labels (no, yes, perhaps) and the file gives 1',
  ]);
});

describe('probabilities', () => {
  test('a sigmoid or softmax at the end is left out and said', async () => {
    const sigmoid = await variant('sigmoid', (graph, logits) =>
      replace(graph, logits.op('Sigmoid').reshape(-1).value, 'float32', ['batch']),
    );
    close(await scoresOf(sigmoid), right);
    expect((await factsOf(sigmoid))?.notes).toEqual(["'logits' ends with a Sigmoid: the value before it is the score"]);
    const softmax = await variant('softmax', (graph, logits) =>
      replace(graph, logits.mul(-1).concat([logits], 1).softmax(-1).value, 'float32', ['batch', 2]),
    );
    close(
      await scoresOf(softmax),
      right.map((x) => 2 * x),
      1e-4,
    );
    const half = await variant('sigmoid16', (graph, logits) => {
      const cast = logits.op('Sigmoid').op('Cast', [], { to: onnxType('bfloat16') });
      replace(graph, cast.value, 'bfloat16', ['batch', 1]);
    });
    close(await scoresOf(half), right, 2e-2);
  });

  test('where the graph does not show how they are made, their logit is the score', async () => {
    const hidden = await variant('probabilities', (graph, logits) => {
      const p = logits.mul(-1).exp().add(1).op('Reciprocal');
      replace(graph, p.value, 'float32', ['batch', 1], 'probability');
    });
    close(await scoresOf(hidden), right, 1e-4);
    expect((await factsOf(hidden))?.notes).toEqual([
      "'probability' is taken for probabilities: the score is their logit",
    ]);
  });

  test('notes are told once, when it scores', async () => {
    const teacher = await crossEncoder(join(dir, 'sigmoid'), { name: 'ours' });
    const notes: string[] = [];
    for (let i = 0; i < 2; i++) await teacher.score(pairs, { onProgress: ({ note }) => note && notes.push(note) });
    await teacher.dispose();
    expect(notes).toEqual(["ours: 'logits' ends with a Sigmoid: the value before it is the score"]);
  });
});

describe('inputs', () => {
  /** An input put in front of what the graph reads. */
  const retyped = (name: string, dtype: DType) =>
    variant(`${name}-${dtype}`, (graph) => {
      const v = graph.inputs.find((i) => i.name === name) as Value;
      const readers = [...v.readers];
      const cast = new Expr(graph, v).op('Cast', [], { to: onnxType('int64') }).value;
      redirect(readers, v, cast);
      graph.sort();
      v.dtype = dtype;
    });

  test.each([
    ['input_ids', 'int32'],
    ['token_type_ids', 'int32'],
    ['attention_mask', 'int32'],
    ['attention_mask', 'float32'],
    ['attention_mask', 'float16'],
    ['attention_mask', 'bool'],
  ] as const)('%s of %s', async (name, dtype) => close(await scoresOf(await retyped(name, dtype)), right));

  test.each([
    [1, 24],
    [3, 24],
    [2, 'sequence'],
    ['batch', 24],
  ])('a fixed shape [%s, %s]', async (rows, length) => {
    const folder = await variant(`fixed-${rows}-${length}`, (graph) => {
      for (const v of graph.inputs) v.dims = [rows, length];
    });
    close(await scoresOf(folder), right);
  });

  test('texts are cut to a fixed length, and asking for more is said', async () => {
    const folder = await variant('short', (graph) => {
      for (const v of graph.inputs) v.dims = [2, 7];
    });
    close(await scoresOf(folder), await scoresOf(base, { maxLength: 7 }));
    expect((await factsOf(folder, { maxLength: 20 }))?.notes).toEqual([
      'maxLength 20 is more than the 7 tokens that the model reads',
    ]);
    expect((await factsOf(folder))?.limit).toBe(
      '7 tokens a pair, every batch is padded to 7 tokens, every batch has 2 pairs',
    );
  });

  test('without a mask texts of one length share a batch, with a fixed length too it is refused', async () => {
    const unmasked = (dims?: number[]) =>
      variant(`unmasked-${dims}`, (graph) => {
        const mask = graph.inputs.find((v) => v.name === 'attention_mask') as Value;
        const ids = new Expr(graph, graph.inputs.find((v) => v.name === 'input_ids') as Value);
        const ones = ids.mul(constant(graph, 'int64', [], [0])).add(constant(graph, 'int64', [], [1])).value;
        redirect([...mask.readers], mask, ones);
        graph.sort();
        graph.removeInput(mask);
        if (dims) for (const v of graph.inputs) v.dims = dims;
      });
    const folder = await unmasked();
    close(await scoresOf(folder), right);
    expect((await factsOf(folder))?.inputs.at(-1)).toBe(
      'texts of one length alone share a batch: nothing masks padding',
    );
    await expect(crossEncoder(await unmasked([2, 24]))).rejects.toThrow(
      /has a fixed length of 24 tokens and no attention_mask, so that shorter texts cannot be told from padding; export it with dynamic axes/,
    );
  });

  test('what is not understood is refused by name before anything runs', async () => {
    const folder = await variant('bbox', (graph) => {
      graph.input('bbox', 'int64', ['batch', 'sequence', 4]);
    });
    for (const open of [() => crossEncoder(folder), () => crossEncoderKey(folder)])
      await expect(open()).rejects.toThrow(
        /needs an input 'bbox', which is not understood; export it without that input; understood are input_ids, attention_mask, token_type_ids, position_ids/,
      );
  });
});

test('weights over 2 GiB are read by ONNX Runtime from their file, unchanged and with an activation removed', async () => {
  const folder = join(dir, 'large');
  cpSync(join(dir, 'sigmoid'), folder, { recursive: true });
  const file = join(folder, 'onnx/model.onnx');
  enlargeTable(folder);
  await expect(loadGraph(file)).rejects.toThrow(
    /keeps weights in 'weights.bin', which has more than 2 GiB; use it as teacher or embedder/,
  );
  const model = await readModelFile(file);
  const plan = planInputs(model, { padId: 0, firstPosition: 0 });
  const feeds = plan.feeds([{ ids: Int32Array.of(2, 7, 3, 9, 3), typeIds: new Int32Array(5) }], { rows: 1, length: 5 });
  const found: number[] = [];
  for (const source of [await model.source(), await model.source({ output: 'logits', beforeActivation: true })]) {
    const session = await Session.open(source);
    found.push(Number((await session.run(feeds, {}, ['logits'])).logits.data[0]));
    await session.release();
  }
  const [p, logit] = found;
  expect(Math.abs(logit - logitOf(p))).toBeLessThan(1e-5);
  rmSync(folder, { recursive: true });
});

test('external data in several folders below the model', async () => {
  const folder = join(dir, 'scattered');
  cpSync(join(dir, 'sigmoid'), folder, { recursive: true });
  changeFile(folder, (_, graph) => {
    const large = graph.initializer.filter((t) => t.rawData.length > 500);
    expect(large.length).toBeGreaterThan(2);
    mkdirSync(join(folder, 'onnx/deep'), { recursive: true });
    for (const [i, t] of large.entries()) {
      const location = i % 2 ? `part-${i}.bin` : `deep/part-${i}.bin`;
      writeFileSync(join(folder, 'onnx', location), t.rawData);
      storeExternally(t, { location });
    }
  });
  close(await scoresOf(folder), right);
  const key = await crossEncoderKey(folder);
  const bytes = readFileSync(join(folder, 'onnx/deep/part-0.bin'));
  bytes[3] ^= 64;
  writeFileSync(join(folder, 'onnx/deep/part-0.bin'), bytes);
  expect(await crossEncoderKey(folder)).not.toBe(key);
});
