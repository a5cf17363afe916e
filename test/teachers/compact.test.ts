import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Texts } from '../../data/dataset.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import { spearman } from '../../math/rank-correlation.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { checkedCompact, keyIn, toCompact } from '../../teachers/compact.ts';
import { crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';
import { dualEncoder, dualEncoderKey } from '../../teachers/dual-encoder.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';

const dir = mkdtempSync(join(tmpdir(), 'int8-'));
const words = 'open file list process network packet editor text image audio video server client mail'.split(' ');
const text = (i: number): string => Array.from({ length: 3 + (i % 9) }, (_, k) => words[(i * (k + 3)) % 14]).join(' ');
const pairs: Pair[] = Array.from({ length: 40 }, (_, i) => ({
  queryId: 'q',
  documentId: `d${i}`,
  query: text(i % 5),
  document: text(i),
}));

beforeAll(() =>
  freshModel(dir, { length: 40, text }, { hidden: 32, layers: 2, heads: 2, vocabulary: 200, kind: 'cross-encoder' }),
);
afterAll(() => rmSync(dir, { recursive: true }));

test('an int8 teacher ranks as the float32 one, says how near it is and has a key of its own', async () => {
  const [whole, small] = [await crossEncoder(dir), await crossEncoder(dir, { dtype: 'int8' })];
  expect(small.key).toBe(keyIn('int8', whole.key));
  expect(await crossEncoderKey(dir, { dtype: 'int8' })).toBe(small.key);
  const notes: string[] = [];
  const scores = await small.score(pairs, { onProgress: ({ note }) => void (note && notes.push(note)) });
  const exact = await whole.score(pairs);
  expect(scores).not.toEqual(exact);
  expect(spearman(scores, exact)).toBeGreaterThan(0.95);
  expect(notes.at(-1)).toMatch(
    /in int8 compared with float32 on 40 pairs: rank correlation 0\.9\d+, largest difference 0\.\d+ of scores/,
  );
  await Promise.all([whole.dispose(), small.dispose()]);
});

describe('an embedder', () => {
  const texts = Array.from({ length: 60 }, (_, i) => text(i));

  test('its vectors are compared with float32, and the figures are said once', async () => {
    const folder = join(dir, 'dual');
    await freshModel(
      folder,
      { length: 40, text },
      { hidden: 32, layers: 2, heads: 2, vocabulary: 200, kind: 'encoder' },
    );
    const [whole, small] = [await dualEncoder(folder), await dualEncoder(folder, { dtype: 'int8' })];
    expect(small.key).toBe(keyIn('int8', whole.key));
    expect(await dualEncoderKey(folder, { dtype: 'int8' })).toBe(small.key);
    expect(await dualEncoderKey(folder, { dtype: 'fp32' })).toBe(whole.key);
    const notes: string[] = [];
    const onProgress = ({ note }: { note?: string }): void => void (note && notes.push(note));
    const { data, dimensions } = await small.embed(texts, 'document', { onProgress });
    await small.embed(texts, 'query', { onProgress });
    const exact = await whole.embed({ length: texts.length, text: (i) => texts[i] }, 'document');
    expect(dimensions).toBe(32);
    expect(data).not.toEqual(exact.data);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toMatch(
      /in int8 compared with float32 on 60 texts: cosine [01]\.\d+ on average, 0\.9\d+ at least, rank correlation of 1770 products 0\.9\d+/,
    );
    await Promise.all([whole.dispose(), small.dispose()]);
  });

  const embedder = (
    name: string,
    vector: (t: string) => number[],
    open: Set<string>,
  ): Teacher & Required<Pick<Teacher, 'embed'>> => ({
    name,
    kind: 'dual-encoder',
    key: 'k',
    score: async () => new Float32Array(0),
    embed: async (all: readonly string[] | Texts) => ({
      dimensions: 2,
      data: Float32Array.from((all as string[]).flatMap(vector)),
    }),
    dispose: async () => void open.delete(name),
  });
  const angle = (t: string): number => texts.indexOf(t) / 40;
  const at = (a: number): number[] => [Math.cos(a), Math.sin(a)];

  test.each([
    [
      'is turned',
      (t: string) => at(angle(t) + 0.4),
      /cosine 0\.92\d+ on average, 0\.92\d+ at least, rank correlation of \d+ products 0\.999\d/,
    ],
    [
      'has another order',
      (t: string) => at(((texts.indexOf(t) * 37) % 60) / 40),
      /rank correlation of \d+ products -?0\.[0-4]\d+/,
    ],
    ['is not finite', () => [Number.NaN, 1], /cosine 0\.0000 on average.*products NaN/],
  ] as const)('one that %s is refused, and both are closed', async (_, vector, message) => {
    const open = new Set(['whole', 'small']);
    const checked = checkedCompact(
      embedder('whole', (t) => at(angle(t)), open),
      embedder('small', vector, open),
      'int8',
    );
    const refused = checked.embed(texts, 'document');
    await expect(refused).rejects.toMatchObject({ code: 'teacher.int8', exitCode: 2 });
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toThrow(/small embeds 60 texts differently in int8 .*remove 'dtype: int8'/);
    await checked.dispose();
    expect(open.size).toBe(0);
  });

  test('a graph without products is refused', async () => {
    const graph = new Graph(17);
    const x = new Expr(graph, graph.input('x', 'float32', [2, 3]));
    graph.setOutputs(x.mul(2).value);
    await expect(toCompact('int8', graph, 'table.onnx')).rejects.toThrow(
      /table.onnx has no product with stored float32 weights.*remove 'dtype: int8'/,
    );
  });
});

describe('a sample of scores', () => {
  const compared = (whole: (i: number) => number, small: (i: number) => number, open = new Set(['whole', 'small'])) => {
    const teacher = (name: string, score: (i: number) => number): Teacher => ({
      name,
      kind: 'cross-encoder',
      key: 'k',
      score: async (all) => Float32Array.from(all, (_, i) => score(i)),
      dispose: async () => void open.delete(name),
    });
    return checkedCompact(teacher('whole', whole), teacher('small', small), 'fp16');
  };

  test.each([
    ['has another order', (i: number) => (i % 5 === 0 ? -i : i), /\(rank correlation 0\.\d+, /],
    ['is no number', () => Number.NaN, /\(40 of 40 scores are not finite, rank correlation NaN, /],
    [
      'overflows once',
      (i: number) => (i === 39 ? Infinity : i),
      /\(1 of 40 scores are not finite, rank correlation 1\.0000, /,
    ],
    [
      'is the same throughout',
      () => 3,
      /\(rank correlation NaN, largest difference 36\.000 of scores from 0\.00 to 39\.00\)/,
    ],
  ])('one that %s is refused, and both are closed', async (_, small, figures) => {
    const open = new Set(['whole', 'small']);
    const checked = compared((i) => i, small, open);
    const refused = checked.score(pairs);
    await expect(refused).rejects.toMatchObject({ code: 'teacher.fp16' });
    await expect(refused).rejects.toThrow(/small ranks 40 pairs differently in fp16 .*remove 'dtype: fp16'/);
    await expect(refused).rejects.toThrow(figures);
    await checked.dispose();
    expect(open.size).toBe(0);
  });

  test('a model that gives one score throughout, or no number itself, has no order to differ in', async () => {
    expect(
      (
        await compared(
          () => 1,
          (i) => 1 + i / 1e4,
        ).score(pairs)
      ).length,
    ).toBe(40);
    const some = (i: number): number => (i % 2 ? Number.NaN : i);
    expect((await compared(some, some).score(pairs))[1]).toBeNaN();
    expect(
      (
        await compared(
          () => Number.NaN,
          (i) => i,
        ).score(pairs)
      ).length,
    ).toBe(40);
  });
});

test('a compact form of a folder with exits is refused, not left out', async () => {
  const folder = join(dir, 'exits');
  mkdirSync(folder);
  writeFileSync(join(folder, 'exits.json'), '{}');
  await expect(crossEncoder(folder, { dtype: 'int8' })).rejects.toThrow(
    /has exits, whose segments compute in float32; remove 'dtype: int8'/,
  );
});

test('a type that is none of a teacher is refused, also from plain JavaScript', async () => {
  for (const open of [crossEncoder, dualEncoder])
    for (const dtype of ['float16', 'q8', '', 'constructor'])
      await expect(open(dir, { dtype: dtype as 'fp16' })).rejects.toThrow(
        `'dtype: ${dtype}' of ${dir} is not known; use fp32, int8, fp16`,
      );
});

describe('half precision', () => {
  test('is for CUDA: refused elsewhere before the model is read', async () => {
    for (const [open, provider] of [
      [crossEncoder, undefined],
      [dualEncoder, 'webgpu'],
    ] as const) {
      const opened = open(dir, { dtype: 'fp16', ...(provider && { session: { provider } }) });
      await expect(opened).rejects.toMatchObject({ code: 'teacher.fp16', exitCode: 2 });
      await expect(opened).rejects.toThrow(
        `'dtype: fp16' is for cuda, and ${dir} computes on ${provider ?? 'cpu'} here; remove it`,
      );
    }
    expect(await crossEncoderKey(dir, { dtype: 'fp16' })).toBe(keyIn('fp16', await crossEncoderKey(dir)));
    expect(keyIn('fp16', 'k')).not.toBe(keyIn('int8', 'k'));
  });

  test('its vectors are near those of float32 and not the same', async () => {
    const folder = join(dir, 'half');
    const shape = { hidden: 32, layers: 2, heads: 2, vocabulary: 200, kind: 'encoder' } as const;
    await freshModel(folder, { length: 40, text }, shape);
    const texts = Array.from({ length: 20 }, (_, i) => text(i));
    const found: Float32Array[] = [];
    for (const rewrite of [undefined, (graph: Graph) => toCompact('fp16', graph, folder)]) {
      const encoder = await Encoder.load(folder, { comparable: true, ...(rewrite && { rewrite }) });
      found.push(await encoder.encode(texts));
      await encoder.dispose();
    }
    const [whole, half] = found;
    expect(half).not.toEqual(whole);
    expect(Math.max(...whole.map((x, i) => Math.abs(x - half[i])))).toBeLessThan(5e-3);
  });
});
