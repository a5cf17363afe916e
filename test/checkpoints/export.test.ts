import { cpSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { exportCheckpoint } from '../../checkpoints/export-checkpoint.ts';
import { main } from '../../cli/program.ts';
import { writeWhole } from '../../common/files.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { findLayers } from '../../engine/passes/layers.ts';
import { freshModel } from '../../models/new-model.ts';
import { openEncoder } from '../../serving/encoder/encoder.ts';
import { storedType } from '../../serving/encoder/file-encoder.ts';
import { exportFolder } from '../../students/export/export-folder.ts';

const folder = mkdtempSync(join(tmpdir(), 'export-'));
const [checkpoint, data] = [join(folder, 'checkpoint'), join(folder, 'data')];
const words = ['kernel', 'editor', 'music', 'network', 'printer', 'camera', 'font', 'mail', 'game', 'archive'];
const documents = words.flatMap((w, i) => words.slice(0, 4).map((v, j) => `${w} ${v} tool number ${i} ${j}`));

beforeAll(async () => {
  await freshModel(join(folder, 'fresh'), { length: documents.length, text: (i) => documents[i] }, { hidden: 32 });
  await exportFolder(join(folder, 'fresh'), checkpoint, { dtypes: ['fp32'], seal: false });
  // A graph as training saves it, without the outputs of an export.
  await writeWhole(
    join(checkpoint, 'onnx', 'model.onnx'),
    encodeGraph(await loadGraph(join(folder, 'fresh', 'onnx', 'model.onnx'))),
  );
  const lines = (texts: readonly string[], prefix: string): string =>
    texts.map((text, i) => JSON.stringify({ _id: `${prefix}${i}`, text })).join('\n');
  await writeWhole(join(data, 'corpus.jsonl'), lines(documents, 'd'));
  await writeWhole(join(data, 'queries.jsonl'), lines(documents.slice(0, 20), 'q'));
  const rows = (from: number, to: number): string =>
    Array.from({ length: to - from }, (_, i) => `q${from + i}\td${from + i}\t1`).join('\n');
  await writeWhole(join(data, 'qrels', 'train.tsv'), `query-id\tcorpus-id\tscore\n${rows(0, 10)}\n`);
  await writeWhole(join(data, 'qrels', 'dev.tsv'), `query-id\tcorpus-id\tscore\n${rows(10, 20)}\n`);
});

test('files are compared with the checkpoint, and the card says what was measured', async () => {
  const output = join(folder, 'int8');
  const report = await exportCheckpoint({
    checkpoint,
    output,
    data,
    dtype: ['int8', 'q4'],
    vocabulary: 'corpus',
    reserve: 0,
  });
  expect(report.source.figures?.['ndcg@10']).toBeGreaterThan(0.9); // the documents are the queries
  expect(report.files.map((f) => f.file)).toEqual(['onnx/model_quantized.onnx', 'onnx/model_q4.onnx']);
  expect(report.files[0].figures?.cosine).toBeGreaterThan(0.99);
  expect(report.vocabulary?.after).toBeLessThanOrEqual(report.vocabulary?.before ?? 0);
  expect(readFileSync(join(output, 'README.md'), 'utf8')).toContain('onnx/model_q4.onnx');
  expect(JSON.parse(readFileSync(join(output, 'distill.json'), 'utf8')).export).toMatchObject({ vocabulary: 'corpus' });
});

test('with --strict a file that loses too much is refused, and what stood there stays', async () => {
  const output = join(folder, 'strict');
  await exportCheckpoint({ checkpoint, output, data, dtype: 'fp32' });
  const before = readFileSync(join(output, 'distill.json'), 'utf8');
  const options = { checkpoint, output, data, dtype: 'fp32', dimensions: 1, strict: true } as const;
  await expect(exportCheckpoint(options)).rejects.toMatchObject({ code: 'export.quality', exitCode: 2 });
  expect(readFileSync(join(output, 'distill.json'), 'utf8')).toBe(before);
  expect(existsSync(`${output}.export`)).toBe(false);
  const loose = await exportCheckpoint({ ...options, strict: false, output: join(folder, 'loose') });
  expect(loose.warnings[0]).toMatch(/loses \d/);
});

test('from the command, with what is missing or wrong said in one sentence', async () => {
  const run = async (...argv: string[]): Promise<{ code: number; out: string; err: string }> => {
    const [out, err] = [[], []] as [string[], string[]];
    const screen = (to: string[]) => ({ write: (s: string) => void to.push(s) });
    const code = await main(argv, { out: screen(out), err: screen(err) }, new AbortController().signal);
    return { code, out: out.join(''), err: err.join('') };
  };
  const output = join(folder, 'cli');
  const done = await run('export', checkpoint, '--dtype', 'fp16', '--output', output, '--data', data, '--json');
  expect(done.code).toBe(0);
  expect(JSON.parse(done.out).files[0]).toMatchObject({ dtype: 'fp16', file: 'onnx/model_fp16.onnx' });
  // The type is said by the file's name, or found in its weights.
  const half = join(output, 'onnx', 'model_fp16.onnx');
  cpSync(half, join(output, 'onnx', 'model.onnx'));
  for (const file of [half, join(output, 'onnx', 'model.onnx')]) expect(await storedType(file)).toBe('float16');
  const encoder = await openEncoder(output);
  expect(await encoder.describe()).toMatchObject({ name: 'cli', dtype: 'float16' });
  await encoder.dispose();
  expect((await run('export', checkpoint, '--vocabulary', 'corpus', '--output', output)).err).toMatch(/--data/);
  expect((await run('export', checkpoint, '--dimensions', '999', '--output', output)).code).toBe(2);
  const wrong = await run('export', checkpoint, '--dtype', 'int7', '--output', output);
  expect(wrong.code).toBe(2);
  expect(wrong.err).toMatch(/fp16.*int7/);
  writeFileSync(join(folder, 'other.txt'), '');
  expect((await run('export', checkpoint, '--output', folder)).err).toMatch(/holds something else/);
});

test('an exported encoder is a student again: its layers are found behind the token put back at its end', async () => {
  const output = join(folder, 'sealed');
  await exportFolder(checkpoint, output, { dtypes: ['fp32'] });
  const [before, after] = await Promise.all(
    [checkpoint, output].map(async (f) => loadGraph(join(f, 'onnx', 'model.onnx'))),
  );
  expect(before.nodes.some((n) => n.op === 'CumSum')).toBe(false);
  expect(after.nodes.some((n) => n.op === 'CumSum')).toBe(true);
  const layers = findLayers(before).length;
  expect(layers).toBeGreaterThan(0);
  expect(findLayers(after)).toHaveLength(layers);
});
