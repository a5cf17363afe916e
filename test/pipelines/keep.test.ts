/** @file `student.keep` in runs: what is kept and of which encoder, resumed, planned, passed on by a chain, and refused. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { chainOptions } from '../../config/recipes/chain-recipes.ts';
import { effortOf } from '../../config/recipes/effort.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
let general: string;
beforeAll(async () => {
  world = await makeWorld();
  general = join(world.folder, 'general');
  mkdirSync(general);
  writeFileSync(
    join(general, 'a.txt'),
    Array.from({ length: 40 }, (_, i) => `A paragraph number ${i} about rivers, mountains and the sea ${i}.`).join(
      '\n\n',
    ),
  );
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

type Keep = NonNullable<NonNullable<ConfigInput['student']>['keep']>;
const options = (name: string, keep: Keep | undefined, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  student: { model: world.dualEncoder, ...(keep && { keep }) },
  candidates: { source: 'bm25', count: 6 },
  losses: [{ kind: 'info-nce' }],
  evaluate: { metrics: ['ndcg@10'], bm25: false },
  train: { steps: 12, batchSize: 8, candidates: 4, threads: 1, provider: 'cpu', learningRate: 5e-3, warmupSteps: 1 },
  ...more,
});
const logOf = (name: string): { terms: number[] }[] =>
  JSON.parse(readFileSync(join(world.folder, 'runs', name, 'training/trained.json'), 'utf8')).log;
/** Mean squared distance of texts to the encoder as it was. */
async function moved(name: string, texts: readonly string[]): Promise<number> {
  const [was, is] = await Promise.all(
    [world.dualEncoder, join(world.folder, 'runs', name, 'checkpoint')].map(async (folder) => {
      const encoder = await Encoder.load(folder, { session: { threads: 1 } });
      const vectors = await encoder.encode(texts, { maxLength: 64, role: 'query' });
      await encoder.dispose();
      return vectors;
    }),
  );
  return was.reduce((s, v, i) => s + (v - is[i]) ** 2, 0) / texts.length;
}

test('a whole student begins at no distance, stays nearer with it than without, and its stages follow the options', async () => {
  const keep = { texts: general, count: 16, tokens: [3, 12] as [number, number], weight: 20 };
  const report = await distill(options('kept', keep));
  await distill(options('free', undefined));
  const log = logOf('kept');
  expect(log[0].terms).toHaveLength(2);
  expect(log[0].terms[1]).toBeLessThan(1e-6);
  expect(log[11].terms[1]).toBeGreaterThan(1e-6);
  expect(logOf('free')[0].terms).toHaveLength(1);
  const texts = ['the sea and rivers', 'A paragraph number 7 about mountains'];
  expect(await moved('kept', texts)).toBeLessThan(0.7 * (await moved('free', texts)));
  expect(report.training.keep?.last).toBeCloseTo(log.reduce((s, e) => s + e.terms[1], 0) / log.length, 6);
  expect(readFileSync(join(world.folder, 'runs/kept/report.html'), 'utf8')).toContain('general spans');

  const status = async (more: Keep) =>
    Object.fromEntries((await planRun(options('kept', { ...keep, ...more }))).map((s) => [s.stage, s.status]));
  const same = await status({});
  expect([same['kept texts'], same.training, same.evaluation]).toEqual(['reused', 'reused', 'reused']);
  for (const other of [{ weight: 3 }, { count: 8 }, { tokens: [2, 9] as [number, number] }, { texts: world.data }]) {
    const now = await status(other);
    expect([now.student ?? 'reused', now.training], JSON.stringify(other)).toEqual(['reused', 'made']);
  }
  // The same texts in another place are the same texts.
  const copy = join(world.folder, 'copy');
  cpSync(general, copy, { recursive: true });
  expect((await status({ texts: copy })).training).toBe('reused');
  expect((await planRun(options('new', keep))).find((s) => s.stage === 'kept texts')?.missing?.count).toBe(0);
});

test('an estimate counts the spans that are embedded, and those of a step', async () => {
  const plan = await planRun(options('estimated', { count: 8, texts: general }), {}, { estimate: true });
  const of = (name: string) => plan.find((s) => s.stage === name);
  const spans = of('kept texts');
  expect(spans?.missing?.count).toBeGreaterThan(100);
  expect(spans?.estimate?.seconds).toBeGreaterThan(0);
  expect(spans?.estimate?.how).toBe('timed on a few texts here');
  // 8 queries, 8 x 4 documents and 8 spans.
  expect(of('training')?.estimate?.how).toContain('12 steps as 3 forward passes of 48 texts');
});

test('a stopped training goes on to the same bytes', async () => {
  const keep = { count: 8 };
  const train = { ...options('', keep).train, saveEvery: 4 };
  await distill(options('whole', keep, { train }));
  const stop = new AbortController();
  const onProgress = (p: { stage?: string; done: number }) => {
    if (p.stage === 'train' && p.done === 6) stop.abort();
  };
  await expect(distill(options('stopped', keep, { train }), { signal: stop.signal, onProgress })).rejects.toThrow();
  await distill(options('stopped', keep, { train }));
  const weights = (name: string) => readFileSync(join(world.folder, 'runs', name, 'training/trained.safetensors'));
  expect(weights('stopped').equals(weights('whole'))).toBe(true);
});

test('query towers keep to their embedder: a narrower one behind its projection, and a static one', async () => {
  const keep = { texts: [general, world.data], count: 8, tokens: [3, 12] as [number, number] };
  for (const [name, more] of [
    ['tower', { pipeline: 'inherit-documents', student: { model: world.student, keep } }],
    ['static', { pipeline: 'static-queries', student: { static: {}, keep }, losses: [{ kind: 'embedding-matching' }] }],
  ] as [string, Partial<ConfigInput>][]) {
    await distill(
      options(name, undefined, {
        embedder: { model: world.dualEncoder },
        generate: { count: 50 },
        train: {
          steps: 12,
          batchSize: 8,
          threads: 1,
          provider: 'cpu',
          learningRate: 1e-2,
          warmupSteps: 1,
          spans: null,
        },
        ...more,
      }),
    );
    const terms = logOf(name).map((e) => e.terms.at(-1) as number);
    expect(logOf(name)[0].terms.length, name).toBe(2);
    expect(terms[0], name).toBeGreaterThan(1e-3);
    expect(terms[11], name).toBeLessThan(terms[0]);
  }
});

test('random tokens need no text: a student begins at no distance, and ids of another vocabulary are refused', async () => {
  const keep = { kind: 'tokens' as const, count: 8 };
  await distill(options('tokens', keep));
  const log = logOf('tokens');
  expect(log[0].terms[1]).toBeLessThan(1e-6);
  expect(log[11].terms[1]).toBeGreaterThan(1e-6);
  expect((await planRun(options('again', keep))).find((s) => s.stage === 'kept texts')?.missing?.count).toBe(0);
  const other = join(world.folder, 'other student');
  const texts = { length: 2, text: (i: number) => ['a lamp and a chair', 'the kettle is red'][i] };
  await freshModel(other, texts, { vocabulary: 60, hidden: 16, layers: 1, heads: 2, maxLength: 64 });
  await expect(
    distill(
      options('other tokens', undefined, {
        pipeline: 'inherit-documents',
        embedder: { model: world.dualEncoder },
        student: { model: other, keep },
      }),
    ),
  ).rejects.toThrow(/draws ids of the encoder's vocabulary, and the student has another tokenizer; use 'kind: spans'/);
});

test('a chain keeps its assistant, and its towers where general texts are named', () => {
  const chain = (keep: Keep) =>
    parseConfig({
      pipeline: 'chain',
      data: { path: 'd' },
      student: { model: 'e', keep },
      teacher: { kind: 'cross-encoder', model: 'c' },
    });
  const data = {
    queries: 100,
    labelled: true,
    generatedTrain: false,
    generatedDev: false,
    listed: false,
    effort: effortOf('large', 100),
  };
  const of = (keep: Keep, part: 'assistant' | 'query' | 'static') =>
    parseConfig(chainOptions(chain(keep), part, data, 'a') as ConfigInput).student.keep;
  const filled = { kind: 'spans', count: 64, tokens: [5, 64], weight: 4 };
  expect(of({ model: 'm', texts: 't', weight: 4 }, 'assistant')).toEqual({ ...filled, model: 'm', texts: 't' });
  for (const part of ['query', 'static'] as const) {
    // Their space is that of the assistant's documents.
    expect(of({ model: 'm', texts: 't', weight: 4 }, part)).toEqual({ ...filled, texts: 't' });
    expect(of({ weight: 4 }, part)).toBeUndefined();
    expect(of({ kind: 'tokens', weight: 4 }, part)).toEqual({ ...filled, kind: 'tokens' });
  }
});

test('what cannot be kept is refused in one sentence, before anything is made', async () => {
  const plan = (keep: Keep, more: Partial<ConfigInput> = {}) => planRun(options('none', keep, more));
  await expect(plan({ model: world.student })).rejects.toThrow(
    /'student.keep.model': .*student gives 16 columns and the student's embeddings have 32; name an encoder of the same width, or leave it out/,
  );
  await expect(
    plan(
      {},
      {
        pipeline: 'inherit-documents',
        embedder: { model: world.dualEncoder },
        student: { model: world.student, keep: { model: world.student } },
      },
    ),
  ).rejects.toThrow(/gives 16 columns and the documents of the embedder have 32/);
  await expect(plan({ texts: join(world.folder, 'absent') })).rejects.toThrow(/there is no data .*absent/);
  const parse =
    (student: ConfigInput['student'], more: Partial<ConfigInput> = {}) =>
    () =>
      parseConfig({ data: { path: 'd' }, losses: [{ kind: 'info-nce' }], student, ...more });
  expect(parse({ model: 'm', keep: { tokens: [9, 3] } })).toThrow(/expected the smaller number first/);
  expect(parse({ model: 'm', keep: { kind: 'tokens', texts: 't' } })).toThrow(
    "'student.keep.kind: tokens' reads no texts",
  );
  expect(
    parse(
      { model: 'm', keep: { kind: 'tokens' } },
      { pipeline: 'inherit-documents', embedder: { kind: 'http', url: 'http://127.0.0.1:9', format: 'tei' } },
    ),
  ).toThrow("'student.keep.kind: tokens' asks for the embeddings of token ids, which a service does not take");
  expect(parse({ fresh: {}, keep: {} })).toThrow(
    "'student.keep' has no encoder as it was: the student starts from none",
  );
  expect(parse({ model: 'm', pooling: 'cls', keep: {} })).toThrow(
    "'student.keep' reads the encoder as its folder says",
  );
  expect(
    parse({ model: 'm', keep: {} }, { pipeline: 'inherit-documents', embedder: { kind: 'vectors', files: 'v.npy' } }),
  ).toThrow("'student.keep' embeds spans, which vectors of a file cannot");
  expect(parse({ model: 'e', keep: {} }, { pipeline: 'chain', embedder: { model: 'm' } })).toThrow(
    "'student.keep' without texts is read by the assistant alone, and this chain trains none",
  );
});
