/** @file What every word order of a static tower must hold: nothing before training, an exact fold, padding, short texts, exports. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { writeCheckpoint } from '../../models/checkpoint.ts';
import { Encoder } from '../../models/encoder.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { specialTokens, staticStudent } from '../../students/static-encoder.ts';
import { orderNames, type StaticOrder } from '../../students/static-order.ts';
import { type Student, withWeights } from '../../students/student.ts';
import { makeWorld } from '../pipelines/world.ts';

const [D, V, RANK] = [12, 300, 3];
const random = Random.of(2);
const normal = (n: number, scale = 1) => Float32Array.from({ length: n }, () => scale * random.normal());
const table = normal(V * D);
let folder: string;
beforeAll(async () => {
  folder = (await makeWorld()).dualEncoder;
});

const student = (order: StaticOrder): Promise<Student> =>
  staticStudent(folder, { dimensions: D, data: table }, { order, width: 8, buckets: 41, rank: RANK, seed: 5 });

/** Other weights than those before training, by their names. */
const trained = ({ graph }: Student): Map<string, Tensor> =>
  new Map(
    graph.constants
      .filter((v) => v.name.startsWith('static.'))
      .map((v) => [v.name, { ...v.constant, data: normal(v.constant!.data.length, 0.4) } as Tensor]),
  );

/** Token vectors of rows of ids, where -1 is padding, [rows][L x D]. */
async function run(graph: Graph, rows: number[][]): Promise<number[][]> {
  const session = await Session.load(graph.clone());
  const dims = [rows.length, rows[0].length];
  const ids = rows.flat();
  const out = await session.run({
    input_ids: { dtype: 'int64', dims, data: BigInt64Array.from(ids, (id) => BigInt(Math.max(0, id))) },
    attention_mask: { dtype: 'int64', dims, data: BigInt64Array.from(ids, (id) => BigInt(id >= 0 ? 1 : 0)) },
  });
  await session.release();
  const all = Array.from(out.last_hidden_state.data as Float32Array);
  return rows.map((_, r) => all.slice(r * dims[1] * D, (r + 1) * dims[1] * D));
}

const apart = (a: number[], b: number[]): number => Math.max(...a.map((x, i) => Math.abs(x - b[i])));
const TEXT = [40, 51, 77, 120, 51];

describe.each(orderNames)('%s', (order) => {
  test('adds nothing before training, as it is trained and as it is served', async () => {
    const [own, plain] = [await student(order), await student('none')];
    const [expected] = await run(plain.graph, [TEXT]);
    expect(apart(expected, [...TEXT.flatMap((t) => [...table.subarray(t * D, (t + 1) * D)])])).toBeLessThan(1e-6);
    expect(apart((await run(own.graph, [TEXT]))[0], expected)).toBeLessThan(1e-6);
    expect(apart((await run(await own.inferenceGraph(new Map()), [TEXT]))[0], expected)).toBeLessThan(1e-6);
  });

  test('trained, it is served as it was trained; padding, special tokens and length change nothing', async () => {
    const own = await student(order);
    const weights = trained(own);
    const [served, unfolded] = [await own.inferenceGraph(weights), withWeights(own.graph, weights)];
    const [whole] = await run(unfolded, [TEXT]);
    expect(apart(whole, (await run(await (await student('none')).inferenceGraph(weights), [TEXT]))[0]) > 1e-3).toBe(
      order !== 'none',
    );
    const padded = await run(unfolded, [
      [...TEXT, -1],
      [60, -1, -1, -1, -1, -1],
    ]);
    expect(apart(padded[0].slice(0, whole.length), whole)).toBeLessThan(1e-5);
    const around = [...own.tokenizer.wrap(TEXT).ids];
    const special = await specialTokens(folder, own.tokenizer);
    const begin = around.findIndex((id) => !special.has(id));
    const rows = await run(served, [TEXT.concat(-1, -1), around, [60, -1, -1, -1, -1, -1, -1]]);
    expect(apart(rows[0].slice(0, whole.length), whole)).toBeLessThan(1e-5);
    expect(apart(rows[1].slice(begin * D, begin * D + whole.length), whole)).toBeLessThan(1e-5);
    expect(apart(rows[2].slice(0, D), (await run(unfolded, [[60]]))[0])).toBeLessThan(1e-5);
    expect(apart(padded[1].slice(0, D), rows[2].slice(0, D))).toBeLessThan(1e-5);
    for (const row of rows) for (const x of [...row.slice(-D)]) expect(Math.abs(x)).toBe(0);
  });

  test('exported with fewer pieces it gives the same vectors; a text cut off keeps its last word', async () => {
    const at = (name: string): string => join(mkdtempSync(join(tmpdir(), 'order-')), name);
    const [checkpoint, out] = [at('checkpoint'), at('out')];
    const own = await student(order);
    const { config, head, tokenizer } = own;
    await writeCheckpoint(checkpoint, {
      model: encodeGraph(await own.inferenceGraph(trained(own))),
      tokenizerFrom: folder,
      ...{ config, head, provenance: {}, card: '', similarity: 'cosine', tokenWidth: D, maxLength: 40 },
    });
    const texts = ['the red lamp is still in good order', 'good lamp, red chair; red lamp', 'year'];
    const used = new Set(texts.flatMap((t) => tokenizer.plain(t)));
    const { kept } = await exportFolder(checkpoint, out, { dtypes: ['fp32', 'fp16', 'int8', 'q4'], used });
    expect(kept?.length).toBeLessThan(tokenizer.vocabularySize);
    expect([...used].some((id) => kept?.indexOf(id) !== id)).toBe(true);
    const embed = async (path: string): Promise<number[]> => {
      const encoder = await Encoder.load(path);
      const found = await encoder.encode(texts);
      await encoder.dispose();
      return [...found];
    };
    const expected = await embed(checkpoint);
    for (const [name, most] of [['', 1e-5], ['_fp16', 0.01], ['_quantized', 0.05], ['_q4', 0.3]] as const) // biome-ignore format: one line
      expect(apart(await embed(join(out, `onnx/model${name}.onnx`)), expected), name).toBeLessThan(most);
    const file = await loadGraph(join(out, 'onnx/model.onnx'));
    const ids = [...tokenizer.wrap(tokenizer.plain(texts[1])).ids].map((id) => kept?.indexOf(id) as number);
    const [whole, cut] = [(await run(file, [ids]))[0], (await run(file, [ids.slice(0, -1)]))[0]];
    expect(apart(cut, whole.slice(0, cut.length))).toBeLessThan(1e-5);
    expect(Math.max(...cut.slice(-D).map(Math.abs))).toBeGreaterThan(0.01);
  });
});

describe('gate', () => {
  test('a token counts 1 + tanh(<a, b of the one before> + <c, d of the one after>) times', async () => {
    const own = await student('gate');
    const weights = trained(own);
    const of = (name: string, t: number, width: number) =>
      [...(weights.get(name) as Tensor<'float32'>).data].slice(t * width, (t + 1) * width);
    const dot = (x: number[], y: number[]): number => x.reduce((s, v, k) => s + v * y[k], 0);
    const part = (t: number | undefined, k: number): number[] =>
      t === undefined ? new Array(RANK).fill(0) : of('static.gate', t, 4 * RANK).slice(k * RANK, (k + 1) * RANK);
    const layer = Array.from({ length: D }, (_, i) => of('static.layer', i, D));
    const expected = TEXT.flatMap((t, i) => {
      const heard = dot(part(t, 0), part(TEXT[i - 1], 2)) + dot(part(t, 1), part(TEXT[i + 1], 3));
      const factor = (1 + Math.tanh(heard)) * Math.exp(of('static.weights', t, 1)[0]);
      const row = of('static.embeddings', t, D).map((x) => x * factor);
      return layer[0].map((_, k) => row.reduce((s, x, j) => s + x * layer[j][k], 0));
    });
    expect(apart((await run(await own.inferenceGraph(weights), [TEXT]))[0], expected)).toBeLessThan(1e-5);
    // A text of one token has no neighbours: it is its row.
    const [alone] = await run(withWeights(own.graph, weights), [[60]]);
    expect(apart(alone, (await run(await (await student('none')).inferenceGraph(weights), [[60]]))[0])).toBeLessThan(
      1e-5,
    );
  });

  test('what a token says begins as a projection of its vector: equal vectors say the same, and nothing says nothing', async () => {
    const data = table.slice();
    data.copyWithin(D, 0, D);
    data.fill(0, 2 * D, 3 * D);
    const { graph } = await staticStudent(folder, { dimensions: D, data }, { order: 'gate', rank: RANK });
    const rows = graph.constants.find((v) => v.name === 'static.gate')!.constant as Tensor<'float32'>;
    const row = (t: number) => [...rows.data.slice(t * 4 * RANK, (t + 1) * 4 * RANK)];
    expect(rows.dims).toEqual([V, 4 * RANK]);
    expect(row(0).slice(0, 2 * RANK)).toEqual(new Array(2 * RANK).fill(0));
    expect(row(1)).toEqual(row(0));
    expect(row(2)).toEqual(new Array(4 * RANK).fill(0));
    const lengths = Array.from({ length: V }, (_, t) => Math.hypot(...row(t).slice(2 * RANK, 3 * RANK)));
    expect(lengths.reduce((a, b) => a + b) / V).toBeGreaterThan(0.5);
    expect(lengths.reduce((a, b) => a + b) / V).toBeLessThan(2);
  });
});
