/** @file What is probably wrong is said with figures, in the run's notes, its table, report.json and report.html; a clean run is silent. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { renderReport } from '../../cli/terminal/report.ts';
import type { ConfigInput } from '../../config/config.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
  // Every query is one of a kind.
  const file = join(world.data, 'queries.jsonl');
  const rows = readFileSync(file, 'utf8').trim().split('\n');
  writeFileSync(file, rows.map((r, i) => `${r.replace('"}', ` number ${i}"}`)}\n`).join(''));
});

const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { model: world.student },
  candidates: { source: 'bm25', count: 4 },
  evaluate: { bm25: false, before: false, teacher: false },
  train: { provider: 'cpu', steps: 2, batchSize: 8, candidates: 4, warmupSteps: 1, threads: 1 },
  ...more,
});

/** A copy of the data with a file changed. */
function data(name: string, file: string, change: (text: string) => string): { path: string } {
  const path = join(world.folder, name);
  cpSync(world.data, path, { recursive: true });
  writeFileSync(join(path, file), change(readFileSync(join(path, file), 'utf8')));
  return { path };
}

/** A copy of a model some of whose weights are other numbers. */
async function changed(folder: string, name: string, change: (t: Tensor, name: string) => number | undefined) {
  const copy = join(world.folder, name);
  cpSync(folder, copy, { recursive: true });
  const file = join(copy, 'onnx', 'model.onnx');
  const graph = await loadGraph(file);
  for (const v of graph.constants) {
    const value = v.constant?.dtype === 'float32' ? change(v.constant, v.name) : undefined;
    if (v.constant && value !== undefined) {
      const data = Float32Array.from(v.constant.data as Float32Array).fill(value);
      v.constant = { ...v.constant, data } as Tensor;
    }
  }
  writeFileSync(file, encodeGraph(graph));
  return copy;
}

/** The warnings of a run; they are the same wherever a person looks. */
async function warnings(input: ConfigInput): Promise<string[]> {
  const notes: string[] = [];
  const report = await distill(input, { onProgress: (p) => p.note?.startsWith('warning: ') && notes.push(p.note) });
  expect(notes.map((n) => n.replace('warning: ', ''))).toEqual(report.warnings);
  expect(JSON.parse(readFileSync(report.report, 'utf8')).warnings).toEqual(report.warnings);
  const page = readFileSync(join(input.output as string, 'report.html'), 'utf8');
  for (const w of report.warnings) {
    expect(renderReport(report)).toContain(`warning     ${w}\n`);
    expect(page).toContain(`Warning: ${w.replaceAll("'", '&#39;')}`);
  }
  return report.warnings;
}

test('a clean run is silent', async () => {
  expect(await warnings(options('clean'))).toEqual([]);
});

describe('data', () => {
  const judged = (from: number, to: number, document: (i: number) => string): string =>
    `query-id\tcorpus-id\tscore\n${Array.from({ length: to - from }, (_, i) => `q${from + i}\t${document(from + i)}\t1\n`).join('')}`;

  test('labels that are all one document', async () => {
    const one = data('one', 'qrels/train.tsv', () => judged(0, 80, () => 'd7'));
    expect(await warnings(options('one', { data: one }))).toEqual([
      "80 of 80 labelled queries of the split 'train' (100 %) have the same relevant document, 'd7'",
    ]);
  });

  test('queries of the test that are trained on, under the same id or another', async () => {
    const same = data('same', 'qrels/test.tsv', () => judged(78, 100, (i) => `d${i}`));
    expect(await warnings(options('same', { data: same }))).toEqual([
      "2 of 22 queries of the split 'test' (9.1 %) are trained on too, by their text: e.g. 'q78'; figures of this split are too good",
    ]);
    const twin = data('twin', 'queries.jsonl', (text) => {
      const rows = text
        .trim()
        .split('\n')
        .map((l) => JSON.parse(l));
      rows[95].text = `  ${rows[3].text.toUpperCase()} `;
      return rows.map((r) => `${JSON.stringify(r)}\n`).join('');
    });
    expect(await warnings(options('twin', { data: twin }))).toEqual([
      "1 of 20 queries of the split 'test' (5.0 %) are trained on too, by their text: e.g. 'q95' is 'q3'; figures of this split are too good",
    ]);
  });

  test('relevant documents of the test that occur in the corpus under another id', async () => {
    const twins = data('twins', 'corpus.jsonl', (text) => {
      const rows = text
        .trim()
        .split('\n')
        .map((l) => JSON.parse(l));
      rows[4] = { ...rows[91], _id: 'd4' };
      rows[115] = { ...rows[92], _id: 'd115' };
      return rows.map((r) => `${JSON.stringify(r)}\n`).join('');
    });
    expect(await warnings(options('twins', { data: twins }))).toEqual([
      "2 of 20 documents that are relevant in the split 'test' (10.0 %) occur in the corpus under another id too, e.g. 'd91' and 'd4', and count as wrong there; 1 of them are relevant in 'train' under the other id",
    ]);
  });
});

test('a teacher that gives every pair the same score', async () => {
  const model = await changed(world.crossEncoder, 'constant', (t, name) =>
    /classifier|logit/i.test(name) || t.dims.at(-1) === 1 ? 0 : undefined,
  );
  expect(await warnings(options('constant', { teacher: { kind: 'cross-encoder', model } }))).toEqual([
    expect.stringMatching(
      /^the teacher gives all candidates the same score for (\d+) of \1 queries \(100 %\); its scores are between 0\.?0* and 0\.?0*$/,
    ),
  ]);
});

test('a student that has collapsed, in a run and in an evaluation', async () => {
  // All token vectors alike.
  const model = await changed(world.student, 'collapsed', (t) =>
    t.dims.length === 2 && t.dims[0] > 64 ? 0.01 : undefined,
  );
  const input = options('collapsed', { student: { model } });
  const said =
    /^the student has collapsed: its embeddings use 1\.\d\d of 16 directions \(effective rank\), mean cosine (0\.9\d\d|1\.000) over \d+ documents$/;
  expect(await warnings(input)).toEqual([expect.stringMatching(said)]);
  const report = await evaluate({
    student: join(input.output as string, 'checkpoint'),
    data: world.data,
    cache: join(world.folder, 'cache'),
    cost: false,
    samples: 50,
  });
  expect(report.notes.join('\n')).toMatch(
    /warning: the student has collapsed: its embeddings use 1\.\d\d of 16 directions/,
  );
});
