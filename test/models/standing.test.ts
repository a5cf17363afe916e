/** @file Encoders that this engine does not read as graphs, but ONNX Runtime runs: they give what the same encoder gives as a graph. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import {
  AttributeProtoSchema,
  FunctionProtoSchema,
  GraphProtoSchema,
  AttributeProto_AttributeType as Kind,
  NodeProtoSchema,
  TensorProto_DataType as Onnx,
  OperatorSetIdProtoSchema,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { padBatch } from '../../data/batches.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import type { DType } from '../../engine/graph/tensor.ts';
import { loadGraph, onnxType } from '../../engine/io/onnx-file.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Encoder, type EncoderOptions } from '../../models/encoder.ts';
import { tokenInputs } from '../../models/encoder-graph.ts';
import { freshModel } from '../../models/new-model.ts';
import { dualEncoder, dualEncoderKey } from '../../teachers/dual-encoder.ts';
import { changeFile, copyWithGraph, enlargeTable, sampleTexts, smallShape } from '../model-variants.ts';

const dir = mkdtempSync(join(tmpdir(), 'standing-'));
afterAll(() => rmSync(dir, { recursive: true }));
const base = join(dir, 'base');
const texts = sampleTexts;

beforeAll(async () => {
  await freshModel(base, { length: texts.length, text: (i) => texts[i] }, smallShape);
});

async function vectors(folder: string, options?: EncoderOptions): Promise<Float32Array> {
  const encoder = await Encoder.load(folder, options);
  try {
    const together = await encoder.encode(texts);
    // A vector does not depend on its neighbours.
    for (const [i, t] of texts.entries())
      near(await encoder.encode([t]), together.subarray(i * encoder.dimensions, (i + 1) * encoder.dimensions));
    return together;
  } finally {
    await encoder.dispose();
  }
}

function near(a: Float32Array, b: Float32Array, tolerance = 2e-6): void {
  expect(a.length).toBe(b.length);
  for (const [i, x] of a.entries())
    expect(Math.abs(x - b[i]) / Math.max(1, Math.abs(b[i])), `${i}: ${x} and ${b[i]}`).toBeLessThan(tolerance);
}

/** A folder of another graph. */
const variant = (name: string, change: (graph: Graph) => void): Promise<string> =>
  copyWithGraph(base, join(dir, name), change);

/** A copy of a folder in which the whole graph is a branch of an If whose condition is known only when it runs. */
function branched(from: string): string {
  const folder = `${from}-if`;
  cpSync(from, folder, { recursive: true });
  changeFile(folder, (model, graph) => {
    const branch = (name: string) =>
      create(AttributeProtoSchema, {
        name,
        type: Kind.GRAPH,
        g: create(GraphProtoSchema, {
          name,
          node: graph.node,
          initializer: graph.initializer,
          output: graph.output.map((o) => create(ValueInfoProtoSchema, { name: o.name, type: o.type })),
        }),
      });
    const to = create(AttributeProtoSchema, { name: 'to', type: Kind.INT, i: BigInt(Onnx.BOOL) });
    const outer = graph.output.map((o) => o.name);
    const inner = { first: branch('then_branch'), other: branch('else_branch') };
    model.graph = create(GraphProtoSchema, {
      name: 'outer',
      input: graph.input,
      output: graph.output,
      node: [
        create(NodeProtoSchema, { opType: 'Size', input: ['input_ids'], output: ['outer/size'] }),
        create(NodeProtoSchema, { opType: 'Cast', input: ['outer/size'], output: ['outer/any'], attribute: [to] }),
        create(NodeProtoSchema, {
          opType: 'If',
          input: ['outer/any'],
          output: outer.map((n) => `${n}/chosen`),
          attribute: [inner.first, inner.other],
        }),
        ...outer.map((n) => create(NodeProtoSchema, { opType: 'Identity', input: [`${n}/chosen`], output: [n] })),
      ],
    });
  });
  return folder;
}

/** The type that an input is read in. */
function retype(graph: Graph, name: string, dtype: DType): void {
  const input = graph.inputs.find((v) => v.name === name);
  if (!input) throw new Error(name);
  const readers = [...input.readers];
  const own = new Expr(graph, input).cast('int64').value;
  for (const n of readers) n.setInputs(n.inputs.map((v) => (v === input ? own : v)));
  input.dtype = dtype;
}

const poolings = ['mean', 'cls', 'lasttoken', 'max', 'mean_sqrt_len_tokens', 'weightedmean'] as const;

describe('an If that is known only when the graph runs', () => {
  let folder: string;
  beforeAll(async () => {
    folder = branched(base);
    await expect(loadGraph(join(folder, 'onnx/model.onnx'))).rejects.toThrow('node If');
  });

  test.each(poolings)('%s, scaled and not', async (pooling) => {
    for (const normalize of [true, false])
      near(await vectors(folder, { pooling, normalize }), await vectors(base, { pooling, normalize }));
  });

  test('as a teacher, with its key, and in evaluate as student and as teacher', async () => {
    const [a, b] = [await dualEncoder(base), await dualEncoder(folder)];
    const pairs = texts.map((document, i) => ({ queryId: 'q', documentId: `${i}`, query: 'open file', document }));
    near(await b.score(pairs), await a.score(pairs));
    expect(b.key).not.toBe(a.key);
    expect(b.key).toBe(await dualEncoderKey(folder));
    for (const t of [a, b]) await t.dispose();
    const data = join(dir, 'data');
    const rows = texts.slice(0, 3).map((t) => JSON.stringify({ query: `${t} open`, positive: t }));
    mkdirSync(data);
    writeFileSync(join(data, 'test.jsonl'), rows.join('\n'));
    const options = { data, cache: join(dir, 'cache'), cost: true, samples: 10 };
    const right = await evaluate({ ...options, student: base, teacher: base });
    const found = await evaluate({ ...options, student: folder, teacher: folder });
    expect(found.systems.map((s) => [s.name, s.metrics])).toEqual(right.systems.map((s) => [s.name, s.metrics]));
    expect(found.fidelity?.kendallTau).toBe(1);
    expect(found.cost?.map((c) => c.parameters > 0)).toEqual(right.cost?.map(() => true));
  });
});

test('a function of the model is run', async () => {
  const folder = join(dir, 'function');
  cpSync(base, folder, { recursive: true });
  changeFile(folder, (model, graph) => {
    const opset = (domain: string, version: bigint) => create(OperatorSetIdProtoSchema, { domain, version });
    const [{ name }] = graph.output;
    model.opsetImport.push(opset('local', 1n));
    model.functions.push(
      create(FunctionProtoSchema, {
        name: 'Same',
        domain: 'local',
        input: ['x'],
        output: ['y'],
        opsetImport: [opset('', model.opsetImport[0].version)],
        node: [create(NodeProtoSchema, { opType: 'Identity', input: ['x'], output: ['y'] })],
      }),
    );
    for (const n of graph.node) n.output = n.output.map((o) => (o === name ? 'inner' : o));
    for (const n of graph.node) n.input = n.input.map((o) => (o === name ? 'inner' : o));
    graph.node.push(create(NodeProtoSchema, { opType: 'Same', domain: 'local', input: ['inner'], output: [name] }));
  });
  near(await vectors(folder), await vectors(base));
});

describe('as a graph and as an unchanged file', () => {
  const both = async (name: string, how: (graph: Graph) => void, tolerance?: number): Promise<void> => {
    const graph = await variant(name, how);
    const right = await vectors(base);
    near(await vectors(graph), right, tolerance);
    near(await vectors(branched(graph)), right, tolerance);
  };

  test.each(['float16', 'float64', 'bfloat16'] as const)('vectors of %s', async (dtype) => {
    const tolerance = { float16: 1e-3, float64: 2e-6, bfloat16: 1e-2 }[dtype];
    await both(
      dtype,
      (graph) => {
        const [hidden] = graph.outputs;
        const cast = new Expr(graph, hidden).op('Cast', [], { to: onnxType(dtype) }).value;
        hidden.name = graph.freshName('inner');
        graph.setOutputs();
        [cast.dtype, cast.dims] = [dtype, ['batch', 'sequence', 16]];
        graph.output(cast, 'last_hidden_state');
        cast.name = 'last_hidden_state';
      },
      tolerance,
    );
  });

  test.each(['int32', 'float32', 'bool'] as const)('an attention_mask of %s', (dtype) =>
    both(`mask-${dtype}`, (graph) => retype(graph, 'attention_mask', dtype)),
  );

  test('input_ids of int32', () => both('ids-int32', (graph) => retype(graph, 'input_ids', 'int32')));

  test('fixed shapes, rows and length', () =>
    both('fixed', (graph) => {
      for (const v of graph.inputs) v.dims = [2, 24];
    }));

  test('a mask that nothing reads: texts of one length alone share a batch', async () => {
    const blind = await variant('blind', (graph) => {
      const mask = graph.inputs.find((v) => v.name === 'attention_mask');
      const ids = graph.inputs.find((v) => v.name === 'input_ids');
      if (!mask || !ids) throw new Error('no input');
      const shown = new Expr(graph, ids).mul(constant(graph, 'int64', [], [0])).add(constant(graph, 'int64', [], [1]));
      for (const n of [...mask.readers]) n.setInputs(n.inputs.map((v) => (v === mask ? shown.value : v)));
    });
    const right = await vectors(base);
    near(await vectors(blind), right);
    near(await vectors(branched(blind)), right);
  });

  test('position_ids of a batch and of one text', async () => {
    const positions = (shared: boolean) => (graph: Graph) => {
      const hidden = new Expr(graph, graph.outputs[0]);
      const input = graph.input('position_ids', 'int64', shared ? [1, 'sequence'] : ['batch', 'sequence']);
      const places = new Expr(graph, input).float().unsqueeze(-1);
      const moved = hidden.mul(places.add(1)).value;
      hidden.value.name = graph.freshName('inner');
      graph.setOutputs();
      [moved.dtype, moved.dims] = ['float32', ['batch', 'sequence', 16]];
      graph.output(moved, 'last_hidden_state');
      moved.name = 'last_hidden_state';
    };
    const [own, shared] = [await variant('positions', positions(false)), await variant('shared', positions(true))];
    const right = await vectors(own);
    // weightedmean weighs by position from 1, as these graphs do: divided by another sum, of the same direction.
    near(right, await vectors(base, { pooling: 'weightedmean' }));
    for (const folder of [shared, branched(own), branched(shared)]) near(await vectors(folder), right);
  });
});

test('a family in which padding reaches the text: texts of one length alone share a batch', async () => {
  // Each token takes a part of the one after it, padding too.
  const leaks = await variant('leaks', (graph) => {
    const hidden = new Expr(graph, graph.outputs[0]);
    const after = hidden.slice(1, Number.MAX_SAFE_INTEGER, 1).concat([hidden.slice(0, 1, 1)], 1);
    const moved = hidden.add(after).value;
    hidden.value.name = graph.freshName('inner');
    graph.setOutputs();
    [moved.dtype, moved.dims] = ['float32', ['batch', 'sequence', 16]];
    graph.output(moved, 'last_hidden_state');
    moved.name = 'last_hidden_state';
  });
  const file = join(leaks, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  const options = { normalize: false };
  await expect(vectors(leaks, options)).rejects.toThrow(/expected/);
  writeFileSync(file, JSON.stringify({ ...config, model_type: 'convbert' }));
  // `vectors` holds that neighbours change nothing.
  near(await vectors(branched(leaks), options), await vectors(leaks, options));
});

test('check says that a model that is only run gives vectors, with exit code 2 as it cannot be trained', async () => {
  const said = { out: '', err: '' };
  const screen = (to: 'out' | 'err') => ({
    write: (s: string) => {
      said[to] += s;
    },
  });
  const { main } = await import('../../cli/program.ts');
  const status = await main(
    ['check', branched(await variant('checked', () => {}))],
    { out: screen('out'), err: screen('err') },
    new AbortController().signal,
  );
  expect(status).toBe(2);
  expect(said.out).toMatch(
    /^it gives vectors, so it can be an embedder or a dual-encoder teacher\nit cannot be trained here: .*node If/,
  );
});

test('weights over 2 GiB', async () => {
  const folder = join(dir, 'large');
  cpSync(base, folder, { recursive: true });
  enlargeTable(folder);
  near(await vectors(folder), await vectors(base));
  rmSync(folder, { recursive: true });
});

describe('refused in one sentence', () => {
  const inputs = async (name: string, add: (graph: Graph) => void) => branched(await variant(name, add));

  test('an input that is not understood', async () => {
    const folder = await inputs('bbox', (graph) => {
      const box = new Expr(graph, graph.input('bbox', 'int64', ['batch', 'sequence', 4]));
      const hidden = new Expr(graph, graph.outputs[0]);
      const moved = hidden.add(box.float().sum([-1], true)).value;
      hidden.value.name = graph.freshName('inner');
      graph.setOutputs();
      graph.output(moved, 'last_hidden_state');
      moved.name = 'last_hidden_state';
    });
    await expect(Encoder.load(folder)).rejects.toThrow(
      /needs an input 'bbox': expected input_ids and perhaps attention_mask, token_type_ids and position_ids; export the encoder without it/,
    );
  });

  test('a file that is cut short', async () => {
    const folder = branched(await variant('cut', () => {}));
    const file = join(folder, 'onnx/model.onnx');
    writeFileSync(file, readFileSync(file).subarray(0, 200));
    await expect(Encoder.load(folder)).rejects.toThrow(/is not a whole ONNX file .*; export or download it again/);
  });
});

describe('a tokenizer that pads on the left', () => {
  /** The word of a token weighs its place in the block, so that shifted positions show. */
  const placed = (graph: Graph): void => {
    const hidden = new Expr(graph, graph.outputs[0]);
    const ids = graph.inputs.find((v) => v.name === 'input_ids');
    if (!ids) throw new Error('no input');
    const zero = new Expr(graph, ids).mul(constant(graph, 'int64', [], [0]));
    const places = zero.add(constant(graph, 'int64', [], [1])).op('CumSum', [constant(graph, 'int64', [], [1])]);
    const moved = hidden.mul(places.float().unsqueeze(-1)).value;
    hidden.value.name = graph.freshName('inner');
    graph.setOutputs();
    [moved.dtype, moved.dims] = ['float32', ['batch', 'sequence', 16]];
    graph.output(moved, 'last_hidden_state');
    moved.name = 'last_hidden_state';
  };
  const leftwards = (folder: string): string => {
    const file = join(folder, 'tokenizer_config.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), padding_side: 'left' }));
    return folder;
  };

  test.each(poolings)('%s: where lengths are free, a text has the vector that it has alone', async (pooling) => {
    const [right, left] = [join(dir, `free-${pooling}`), join(dir, `left-${pooling}`)];
    await variant(`free-${pooling}`, placed);
    cpSync(right, left, { recursive: true });
    leftwards(left);
    const options = { pooling, normalize: false };
    // `vectors` holds that neighbours change nothing.
    near(await vectors(left, options), await vectors(right, options), 1e-4);
    near(await vectors(branched(left), options), await vectors(right, options), 1e-4);
  });

  test('where the length is fixed, padding is on the side of the tokenizer', async () => {
    const fixed = (graph: Graph): void => {
      placed(graph);
      for (const v of graph.inputs) v.dims = ['batch', 24];
    };
    const right = await variant('fixed-right', fixed);
    const left = leftwards(await variant('fixed-left', fixed));
    const options = { pooling: 'lasttoken', normalize: false } as const;
    const [r, l] = [await vectors(right, options), await vectors(left, options)];
    const encoder = await Encoder.load(base, options);
    const plain = await encoder.encode(texts);
    const lengths = texts.map((t) => encoder.tokenizer.encode(t, 24).ids.length);
    await encoder.dispose();
    for (const [i, n] of lengths.entries())
      for (let k = 0; k < 16; k++) {
        expect(Math.abs(r[16 * i + k] - n * plain[16 * i + k])).toBeLessThan(1e-3);
        // The last token of every text stands at the end of the block, with other positions than alone.
        expect(Number.isFinite(l[16 * i + k])).toBe(true);
      }
    const tokenizer = (await Encoder.load(left)).tokenizer;
    const ids = tokenizer.encode(texts[0], 24).ids;
    const batch = padBatch([tokenizer.encode(texts[0], 24)], tokenizer.padId, { rows: 1, length: 24 }, 'left');
    expect(Array.from(batch.ids.subarray(24 - ids.length), Number)).toEqual([...ids]);
    expect(Array.from(batch.mask, Number)).toEqual(Array.from({ length: 24 }, (_, i) => Number(i >= 24 - ids.length)));
    const graph = await loadGraph(join(left, 'onnx/model.onnx'));
    const session = await Session.load(graph);
    const feeds = tokenInputs(batch);
    const { data } = (await session.run(Object.fromEntries(session.inputs.map((n) => [n, feeds[n]]))))[
      session.outputs[0]
    ];
    near(l.subarray(0, 16), (data as Float32Array).subarray(23 * 16, 24 * 16));
    await session.release();
  });
});
