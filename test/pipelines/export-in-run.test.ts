/** @file `export:` in a run's config: the same folder as `distill export`, measured, kept while nothing changes, refused in time. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import { exportCheckpoint } from '../../checkpoints/export-checkpoint.ts';
import { renderReport } from '../../cli/terminal/report.ts';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { distill, planRun, type RunReport } from '../../pipelines/distill.ts';
import { makeWorld, type World } from './world.ts';

// Runs of several models each, on machines that may be busy.
vi.setConfig({ testTimeout: 240_000 });

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

const compact = { dtype: ['int8', 'fp16'], dimensions: 8, vocabulary: 'corpus', reserve: 3, tolerance: 10 } as const;
const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { model: world.student },
  candidates: { count: 4 },
  train: { steps: 2, batchSize: 8, candidates: 4, warmupSteps: 1, threads: 1, provider: 'cpu' },
  evaluate: { teacher: false, before: false, bm25: false },
  export: { ...compact, dtype: [...compact.dtype] },
  ...more,
});

async function run(config: ConfigInput): Promise<{ report: RunReport; notes: string[] }> {
  const notes: string[] = [];
  const report = await distill(config, { onProgress: (p) => p.note && notes.push(p.note) });
  return { report, notes };
}

const planOf = async (config: ConfigInput): Promise<string[]> =>
  (await planRun(config)).filter((s) => ['training', 'evaluation', 'export'].includes(s.stage)).map((s) => s.status);

const snapshot = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => statSync(join(folder, name)).isFile())
      .map((name) => [name, readFileSync(join(folder, name)).toString('base64')]),
  );

test('what `distill export` writes, as rows of the table and in report.json; made once', async () => {
  const { report } = await run(options('compact'));
  const folder = join(world.folder, 'runs', 'compact', 'export');
  const names = ['student', 'student int8, 8 dimensions, cut vocabulary', 'student fp16, 8 dimensions, cut vocabulary'];
  expect(report.systems.map((s) => s.name)).toEqual(names);
  for (const [i, file] of ['model_quantized', 'model_fp16'].entries())
    expect(report.systems[i + 1].bytes).toBe(statSync(join(folder, 'onnx', `${file}.onnx`)).size);
  expect(renderReport(report)).toContain(names[1]);
  const written = JSON.parse(readFileSync(report.report, 'utf8'));
  expect(written.systems.map((s: { name: string }) => s.name)).toEqual(names);
  expect(written.export.files.map((f: { dtype: string }) => f.dtype)).toEqual(['int8', 'fp16']);
  expect(written.perQuery.systems[names[1]]['ndcg@10']).toHaveLength(20);

  // The same bytes as the verb makes of the same checkpoint.
  const output = join(world.folder, 'by-hand');
  await exportCheckpoint({
    ...compact,
    dtype: [...compact.dtype],
    checkpoint: report.checkpoint,
    output,
    data: world.data,
  });
  expect(snapshot(folder)).toEqual(snapshot(output));

  const model = join(folder, 'onnx', 'model_fp16.onnx');
  const made = (): number => statSync(model).ino;
  const before = made();
  const again = await run(options('compact'));
  expect(made()).toBe(before);
  expect(again.notes.some((n) => n.startsWith('nothing that the compact files depend on has changed'))).toBe(true);
  expect(again.report.stages).toMatchObject({ training: 'reused', evaluation: 'reused', export: 'reused' });
  expect(again.report.export).toEqual(JSON.parse(JSON.stringify(report.export)));
  expect(again.report.systems.map((s) => [s.name, s.metrics])).toEqual(report.systems.map((s) => [s.name, s.metrics]));

  // A torn file and a changed option are seen.
  writeFileSync(model, readFileSync(model).subarray(0, 1000));
  await run(options('compact'));
  expect(statSync(model).size).toBe(report.systems[2].bytes);
  expect(await planOf(options('compact'))).toEqual(['reused', 'reused', 'reused']);
  const other = await run(options('compact', { export: { dtype: 'q4', safetensors: false, tolerance: 10 } }));
  expect(other.report.systems.map((s) => s.name)).toEqual(['student', 'student q4']);
  expect(other.report.stages).toMatchObject({ training: 'reused', evaluation: 'reused', export: 'made' });
  expect(existsSync(model)).toBe(false);
});

test("the checkpoint's card has the figures of the report", async () => {
  const { report } = await run(
    options('card', { export: undefined, evaluate: { teacher: true, before: true, bm25: true } }),
  );
  const card = readFileSync(join(report.checkpoint, 'README.md'), 'utf8');
  const figures = JSON.parse(readFileSync(report.report, 'utf8'));
  expect(figures.systems).toHaveLength(4);
  for (const { name, metrics } of figures.systems) {
    const values = ['ndcg@10', 'mrr@10', 'recall@100'].map((m) => metrics[m].toFixed(4));
    expect(card).toContain(`| ${name} | ${values.join(' | ')} |`);
  }
  const [{ retention }] = figures.comparisons[0].rows;
  expect(card).toContain(`${(100 * retention.low).toFixed(1)} to ${(100 * retention.high).toFixed(1)}`);
  expect(card).toContain(figures.fidelity.kendallTau.toFixed(3));
});

test('a query tower is measured over a prefix of its documents, a static one from its table', async () => {
  const inherit = await run(
    options('inherit', {
      pipeline: 'inherit-documents',
      teacher: undefined,
      embedder: { model: world.dualEncoder },
      losses: [{ kind: 'embedding-matching' }],
      export: { dtype: 'int8', dimensions: 16, tolerance: 10 },
    }),
  );
  expect(inherit.report.systems.map((s) => s.name)).toEqual(['student', 'student int8, 16 dimensions']);
  const fixed = await run(
    options('static', {
      pipeline: 'static-queries',
      teacher: undefined,
      embedder: { model: world.dualEncoder },
      student: {},
      generate: { count: 60 },
      train: { steps: 40, spans: 16, learningRate: 1e-2, threads: 1, provider: 'cpu' },
      export: { dtype: ['fp32', 'static-int8'], tolerance: 10 },
    }),
  );
  const [student, whole, table] = fixed.report.systems.map((s) => s.metrics['ndcg@10']);
  expect(whole).toBeCloseTo(student, 6);
  expect(Math.abs(table - student)).toBeLessThan(0.1);
});

test('what cannot be exported is refused before training; what loses too much, after the figures are written', async () => {
  const wide = options('wide', { export: { dtype: 'int8', dimensions: 17 } });
  await expect(run(wide)).rejects.toMatchObject({ code: 'export.dimensions', exitCode: 2 });
  expect(existsSync(join(world.folder, 'runs', 'wide', 'checkpoint'))).toBe(false);
  for (const [more, said] of [
    [{ data: { path: world.data, splits: { dev: null } }, export: { strict: true } }, /dev split/],
    [{ export: { dtype: 'static-int8' } }, /static-queries/],
    [
      {
        pipeline: 'static-queries',
        embedder: { model: world.dualEncoder },
        student: { static: { order: 'convolution' } },
        export: { dtype: 'static-int8' },
      },
      /a table of tokens, alone or with a gate; use .*'student.static.order' none or gate/,
    ],
    [{ export: { dtypes: 'int8' } }, /'export.dtypes' is not a known key.*dtype/],
  ] as const)
    expect(() => parseConfig({ ...options('x'), ...more })).toThrow(said);

  const train = {
    steps: 40,
    batchSize: 8,
    candidates: 4,
    learningRate: 1e-2,
    warmupSteps: 2,
    threads: 1,
    provider: 'cpu' as const,
  };
  const strict = options('strict', { train, export: { dtype: 'fp32', dimensions: 1, strict: true, tolerance: 0 } });
  await expect(run(strict)).rejects.toMatchObject({ code: 'export.quality', exitCode: 2 });
  const folder = join(world.folder, 'runs', 'strict');
  expect(existsSync(join(folder, 'export'))).toBe(false);
  const report = JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8'));
  expect(report.systems.map((s: { name: string }) => s.name)).toEqual(['student']);
  const loose = await run({ ...strict, export: { dtype: 'fp32', dimensions: 1, tolerance: 0 } });
  expect(loose.report.export?.warnings[0]).toMatch(/loses \d/);
  expect(loose.notes.some((n) => /^warning: .*loses/.test(n))).toBe(true);
});
