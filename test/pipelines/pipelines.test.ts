/** @file Every pipeline from end to end on a tiny world: what is saved is what was measured. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { env, pipeline } from '@huggingface/transformers';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { losses } from '../../losses/index.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill, type RunReport } from '../../pipelines/distill.ts';
import { score } from '../../teachers/jobs/score.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { relabeled } from '../../training/batches/examples.ts';
import type { weightings } from '../../weighting/index.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  embedder: { model: world.dualEncoder },
  student: { model: world.student },
  candidates: { source: 'bm25', count: 6 },
  ...more,
  train: { steps: 6, batchSize: 8, candidates: 4, learningRate: 1e-3, warmupSteps: 2, threads: 1, ...more.train },
});

const names = (report: RunReport): string[] => report.systems.map((s) => s.name);
const figures = (report: RunReport, name: string): Record<string, number> | undefined =>
  report.systems.find((s) => s.name === name)?.metrics;

describe('cross-to-dual', () => {
  test('every loss of the registry can be named, alone and nested', async () => {
    // A user's own loss is in a file next to the config.
    // Others read what only a sparse student or another architecture gives.
    const elsewhere = ['flops', 'load-balance', 'activation-l1'];
    const kinds = (Object.keys(losses) as (keyof typeof losses)[]).filter((kind) => !elsewhere.includes(kind));
    writeFileSync(
      join(world.folder, 'own.mjs'),
      `export const absolute = ({ scale }) => ({
        name: 'absolute', needs: ['student', 'teacher', 'mask'],
        perQuery: ({ student, teacher, mask }) => student.mul(scale).sub(teacher).abs().mul(mask).sum([1]),
      });`,
    );
    const report = await distill(
      options('losses', {
        folder: world.folder,
        data: { path: world.data, labelled: 40 },
        losses: [
          ...kinds.map((kind) => (kind === 'rank-distil' ? { kind, draws: 2 } : { kind })),
          { kind: 'module', module: './own.mjs', export: 'absolute', options: { scale: 2 } },
        ],
        weighting: { kind: 'reliability' },
        matryoshka: { dimensions: [16, 8] },
        train: { steps: 2 },
        evaluate: { teacher: false, before: false },
      }),
    );
    const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
    expect(log[0].terms).toHaveLength(kinds.length + 1);
    expect(log.flatMap((l: { terms: number[] }) => l.terms).every(Number.isFinite)).toBe(true);
  });

  test("a cross-encoder's vectors of each pair are matched, through a map where the widths differ", async () => {
    const run = async (name: string, more: Partial<ConfigInput> = {}) =>
      distill(
        options(name, {
          embedder: undefined,
          losses: [{ kind: 'pair-matching', distance: 'cosine' }],
          train: { steps: 40, learningRate: 5e-3 },
          evaluate: quick,
          ...more,
        }),
      );
    const report = await run('pair-matching');
    const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
    expect(log.at(-1).loss).toBeLessThan(0.5 * log[0].loss);
    const files = { train: join(world.folder, 'none.tsv') };
    await expect(run('pair-scores', { teacher: { kind: 'scores', files } })).rejects.toThrow(
      "needs a cross-encoder's hidden states and there is no model of one",
    );
    await expect(
      run('pair-one-layer', { teacher: { kind: 'cross-encoder', model: world.earlierCrossEncoder } }),
    ).rejects.toThrow("export it with the outputs 'last_hidden_state' and 'logits'");
  });

  test('a student with short prefixes is distilled from embeddings alone, and one over frozen documents', async () => {
    for (const pipeline of ['dual-to-dual', 'inherit-documents'] as const) {
      const report = await distill(
        options(`prefixes-${pipeline}`, {
          pipeline,
          teacher: undefined,
          losses: [{ kind: 'embedding-matching' }],
          matryoshka: { dimensions: [pipeline === 'dual-to-dual' ? 16 : 32, 8] },
          generate: { count: 60 },
          train: { steps: 40, learningRate: 5e-3, ...(pipeline === 'inherit-documents' && { spans: 8 }) },
          evaluate: quick,
        }),
      );
      const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
      expect(log.at(-1).loss, pipeline).toBeLessThan(0.7 * log[0].loss);
      const [whole, half] = report.matryoshka ?? [];
      expect(whole).toEqual({ dimensions: expect.any(Number), value: figures(report, 'student')?.['ndcg@10'] });
      expect(half.dimensions, pipeline).toBe(8);
      expect(half.value, pipeline).not.toBe(whole.value);
    }
  });

  test('the table names every system, and what made the checkpoint is in its folder', async () => {
    const report = await distill(options('main'));
    expect(names(report)).toEqual(['student before training', 'BM25', 'student', 'embedder', 'teacher']);
    expect(report.retention?.['ndcg@10']).toBeCloseTo(
      (figures(report, 'student')?.['ndcg@10'] ?? 0) / (figures(report, 'teacher')?.['ndcg@10'] ?? 1),
    );
    for (const name of ['student', 'embedder', 'teacher'])
      expect(report.systems.find((s) => s.name === name)).toMatchObject({
        bytes: expect.any(Number),
        queryMilliseconds: expect.any(Number),
      });
    const made = JSON.parse(readFileSync(join(report.checkpoint, 'distill.json'), 'utf8'));
    expect(made).toMatchObject({ pipeline: 'cross-to-dual', seed: 0 });
    for (const key of ['teacher', 'embedder', 'model', 'options']) expect(made[key]).toMatch(/^[0-9a-f]{64}$/);
    expect(made.systems).toEqual(report.systems);
    expect(readFileSync(join(report.checkpoint, 'README.md'), 'utf8')).toContain('| student |');
    const left = readdirSync(join(report.checkpoint, '..', 'training')).sort();
    expect(left).toEqual(['trained.json', 'trained.safetensors']);
  });

  test('generated texts are scored and learned from like queries', async () => {
    const notes: string[] = [];
    await distill(options('generated', { generate: { kind: 'titles', count: 20, score: true }, evaluate: quick }), {
      onProgress: (p) => p.note && notes.push(p.note),
    });
    expect(notes).toContain('20 texts made of documents are added to the queries');
    // 80 judged, 10 judged nowhere, 20 made; each with 6 candidates.
    expect(notes).toContain('110 training queries with 660 candidates');
  });
});

const quick = { teacher: false, before: false, bm25: false };

describe('inherit-documents', () => {
  test('the projection is part of the saved graph', async () => {
    const report = await distill(
      options('inherit', { pipeline: 'inherit-documents', train: { spans: 8 }, generate: { count: 60 } }),
    );
    const encoder = await Encoder.load(report.checkpoint);
    expect(encoder.dimensions).toBe(32);
    const [vector] = [await encoder.encode(['red lamp'])];
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    await encoder.dispose();
    const pooling = JSON.parse(readFileSync(join(report.checkpoint, '1_Pooling', 'config.json'), 'utf8'));
    expect(pooling.word_embedding_dimension).toBe(32);
  });

  test('training matches the embedder: the loss falls', async () => {
    const report = await distill(
      options('inherit-matching', {
        pipeline: 'inherit-documents',
        teacher: undefined,
        losses: [{ kind: 'embedding-matching' }],
        train: { steps: 60, learningRate: 5e-3 },
        evaluate: quick,
      }),
    );
    const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
    expect(log.at(-1).loss).toBeLessThan(0.5 * log[0].loss);
  });
});

describe('dual-to-dual', () => {
  test('one model gives scores and embeddings', async () => {
    const report = await distill(
      options('dual', {
        pipeline: 'dual-to-dual',
        teacher: { kind: 'dual-encoder', model: world.dualEncoder },
        embedder: undefined,
        evaluate: { before: false, bm25: false },
      }),
    );
    expect(report.config.losses.map((l) => l.kind)).toEqual(['info-nce', 'kl', 'embedding-matching']);
    expect(names(report)).toEqual(['student', 'embedder']);
  });
});

describe('static-queries', () => {
  for (const order of ['none', 'bigrams', 'convolution', 'attention', 'gate'] as const)
    test(`with order ${order}, the folded tower is served as it was trained`, async () => {
      const report = await distill(
        options(`static-${order}`, {
          pipeline: 'static-queries',
          teacher: undefined,
          student: { static: { order, width: 8, buckets: 97 } },
          generate: { count: 60 },
          train: { steps: 80, spans: 16, learningRate: 1e-2 },
          evaluate: quick,
        }),
      );
      const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
      expect(log.at(-1).loss).toBeLessThan(0.5 * log[0].loss);
      const encoder = await Encoder.load(report.checkpoint);
      const texts = ['red lamp from the garden', 'garden the from lamp red', '', 'lamp'];
      const vectors = await encoder.encode(texts);
      const at = (i: number): Float32Array => vectors.subarray(32 * i, 32 * (i + 1));
      // An empty query is the zero vector: every score is 0.
      expect(at(2).every((v) => v === 0)).toBe(true);
      const apart = Math.max(...at(0).map((v, k) => Math.abs(v - at(1)[k])));
      if (order === 'none') expect(apart).toBeLessThan(1e-6);
      else expect(apart).toBeGreaterThan(1e-5);
      await encoder.dispose();

      // The same vectors in transformers.js, padding and all.
      env.allowRemoteModels = false;
      const extract = await pipeline('feature-extraction', report.checkpoint, { dtype: 'fp32' });
      const theirs = await extract([texts[0], texts[3]], { pooling: 'mean', normalize: true });
      for (const [row, i] of [0, 3].entries())
        for (let k = 0; k < 32; k++) expect(theirs.data[32 * row + k]).toBeCloseTo(at(i)[k], 5);
      await extract.dispose();
    });

  test('spans get candidates and the losses that read embeddings, with neither a teacher nor labels', async () => {
    const run = (name: string, score: boolean) =>
      distill(
        options(name, {
          pipeline: 'static-queries',
          teacher: undefined,
          student: { static: { order: 'none' } },
          candidates: { source: 'embedder', count: 4 },
          generate: { count: 60, score },
          losses: [{ kind: 'embedding-matching' }, { kind: 'in-batch-kl' }],
          train: { epochs: 3, steps: undefined, batchSize: 30, candidates: 4, spans: null, learningRate: 1e-2 },
          evaluate: quick,
        }),
      );
    const [alone, scored] = [await run('static-alone', false), await run('static-scored', true)];
    // Sixty spans are two more steps of thirty in each epoch.
    expect(scored.training.steps - alone.training.steps).toBe(3 * 2);
    const { log } = JSON.parse(readFileSync(scored.report, 'utf8'));
    for (const term of [0, 1]) expect(log.at(-1).terms[term]).toBeLessThan(log[0].terms[term]);
  });
});

describe('active', () => {
  test('rounds score within the budget and train on the scored queries', async () => {
    const notes: string[] = [];
    const report = await distill(
      options('active', {
        pipeline: 'active',
        querySelection: { kind: 'gradient-guided', budget: 24 },
        active: { rounds: 3, restart: false },
        evaluate: quick,
      }),
      { onProgress: (p) => p.note && notes.push(p.note) },
    );
    expect(report.asked).toBe(24);
    expect(notes.filter((n) => n.startsWith('round'))).toEqual([
      'round 1 of 3: the teacher has scored 8 queries',
      'round 2 of 3: the teacher has scored 16 queries',
      'round 3 of 3: the teacher has scored 24 queries',
    ]);
    expect(notes).toContain('24 training queries with 144 candidates');
  });

  test('selections choose as many as the budget says', async () => {
    // Those that hand weights on, estimate the teacher's error, and build on what was chosen.
    for (const kind of ['iwes', 'rad', 'tgt'] as const) {
      const report = await distill(
        options(`budget-${kind}`, {
          pipeline: 'active',
          querySelection: { kind, budget: 20 },
          active: { rounds: 2 },
          train: { steps: 1 },
          evaluate: quick,
        }),
      );
      expect(report.asked, kind).toBe(20);
    }
  });
});

test('a loss that is negligible compared with the others is reported, with a weight that makes it count', async () => {
  const warned = async (name: string, weight: number): Promise<string[]> => {
    const losses = [{ kind: 'info-nce' as const }, { kind: 'similarity-preserving' as const, weight }];
    const report = await distill(
      options(name, { losses, train: { steps: 21 }, evaluate: { ...quick, teacher: false } }),
    );
    return JSON.parse(readFileSync(report.report, 'utf8')).warnings.filter((w: string) =>
      w.includes('almost no effect'),
    );
  };
  const [warning, ...more] = await warned('small-loss', 1);
  expect(more).toEqual([]);
  const weight = Number(/a weight of about (\d+)/.exec(warning)?.[1]);
  expect(weight).toBeGreaterThan(10);
  expect(warning).toMatch(
    /^the loss 'similarity-preserving' with weight 1 is 0\.\d+ % of the total over the first 20 steps/,
  );
  expect(await warned('weighed-loss', weight)).toEqual([]);
});

test('a teacher whose scores nothing reads does not score', async () => {
  const heard: string[] = [];
  const run = (name: string, more: Partial<ConfigInput>): Promise<RunReport> =>
    distill(options(name, { losses: [{ kind: 'info-nce' }], evaluate: { ...quick, teacher: false }, ...more }), {
      onProgress: (p) => {
        heard.push(p.stage);
        if (p.note) heard.push(p.note);
      },
    });
  await run('unasked', { teacher: { kind: 'cross-encoder', model: world.crossEncoder, maxLength: 40 } });
  expect(heard).toContain('nothing reads the scores of candidates: the teacher is not asked for them');
  expect(heard).not.toContain('score');
  // What chooses by scores reads them too.
  const asked = { teacher: { kind: 'cross-encoder', model: world.crossEncoder, maxLength: 41 } } as const;
  await run('asked', { ...asked, selection: { kind: 'top-k', count: 2 } });
  expect(heard).toContain('score');
});

describe('online', () => {
  test('earlier checkpoints teach the first steps, the teacher the last', async () => {
    const losses = [{ kind: 'mse' }] as const;
    const one = { losses: [...losses], train: { steps: 4, candidates: 6, learningRate: 1e-6 }, evaluate: quick };
    const log = async (name: string, more: Partial<ConfigInput>): Promise<number[]> => {
      const report = await distill(options(name, { ...one, ...more }));
      return JSON.parse(readFileSync(report.report, 'utf8')).log.map((l: { loss: number }) => l.loss);
    };
    const early = await log('online-early', { teacher: { kind: 'cross-encoder', model: world.earlierCrossEncoder } });
    const late = await log('online-late', {});
    const both = await log('online', {
      pipeline: 'online',
      online: { teachers: [world.earlierCrossEncoder], share: 0.5 },
    });
    // At so low a rate the student stands still, so the loss tells who teaches.
    for (const [i, expected] of [early[0], early[1], late[2], late[3]].entries())
      expect(both[i]).toBeCloseTo(expected, 3);
    expect(early[0]).not.toBeCloseTo(late[0], 2);
  });
});

describe('weights', () => {
  test('weightings run, and renewed weights are the same where training goes on from the middle', async () => {
    const run = (name: string, kind: keyof typeof weightings, stopAt?: number): Promise<RunReport> => {
      const stop = new AbortController();
      return distill(
        options(name, {
          data: { path: world.data, labelled: 20 },
          weighting: {
            kind,
            renew: 4,
            ...(kind === 'ensemble' && { teachers: [world.earlierCrossEncoder] }),
            ...(kind === 'co-teaching' && { noise: 0.5, epochs: 0.5 }),
          } as ConfigInput['weighting'],
          train: { steps: 10, saveEvery: 3, pseudoLabels: true },
          evaluate: quick,
        }),
        {
          signal: stop.signal,
          onProgress: (p) => p.stage === 'train' && p.done === stopAt && stop.abort(new Error('stopped')),
        },
      );
    };
    // Between them they look at the student, a second teacher, labels, losses and further teachers.
    for (const kind of [
      'agreement',
      'calibrated-posterior',
      'co-teaching',
      'ensemble',
      'reliability',
      'small-loss',
    ] as const) {
      const report = await run(`weighting-${kind}`, kind);
      const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
      expect(
        log.every((l: { loss: number }) => Number.isFinite(l.loss)),
        kind,
      ).toBe(true);
    }
    // Stopped at 7, between the renewals at 4 and 8; the second gives queries new pseudo-labels at each.
    const model = (r: string): Buffer => readFileSync(join(r, 'onnx', 'model.onnx'));
    // Co-teaching has two students, which are then at different steps.
    for (const kind of ['agreement', 'calibrated-posterior', 'co-teaching'] as const) {
      await expect(run(`stopped-${kind}`, kind, 7)).rejects.toThrow('stopped');
      const resumed = await run(`stopped-${kind}`, kind);
      const whole = join(world.folder, 'runs', `weighting-${kind}`, 'checkpoint');
      expect(model(resumed.checkpoint).equals(model(whole)), kind).toBe(true);
    }
  });

  test("an ensemble's further teacher may be a file of scores, named relative to the config", async () => {
    const [first, file] = [join(world.folder, 'first.tsv'), join(world.folder, 'earlier.tsv')];
    const log = async (name: string, teachers: string[]): Promise<number[]> => {
      const report = await distill(
        options(name, {
          teacher: { kind: 'scores', files: { train: first } },
          candidates: { source: 'given' },
          weighting: { kind: 'ensemble', teachers, lambda: 3 },
          evaluate: { ...quick, teacher: false },
        }),
      );
      return JSON.parse(readFileSync(report.report, 'utf8')).log.map((l: { loss: number }) => l.loss);
    };
    await score(options(''), 'train', first);
    await score(options('', { teacher: { kind: 'cross-encoder', model: world.earlierCrossEncoder } }), 'train', file);
    const byModel = await log('ensemble-of-models', [world.earlierCrossEncoder]);
    const byFile = await log('ensemble-of-files', [file]);
    for (const [i, loss] of byModel.entries()) expect(byFile[i]).toBeCloseTo(loss, 4);
    expect((await log('ensemble-of-itself', [world.crossEncoder]))[0]).not.toBeCloseTo(byModel[0], 4);

    const config = join(world.folder, 'ensemble.yaml');
    writeFileSync(
      config,
      'weighting: { kind: ensemble, teachers: [earlier.tsv] }\ndata: { path: data }\nteacher: { kind: scores }\nstudent: { model: student }\n',
    );
    expect(readConfig(config).weighting).toMatchObject({ teachers: [file] });
  });

  test("the posterior's best candidate becomes the pseudo-label; labels stay, and renewed ones begin from the lists as they were", () => {
    const documents = Int32Array.of(7, 8, 9, 5, 6);
    const examples: Examples = {
      queries: Int32Array.of(0, 1),
      offsets: Int32Array.of(0, 3, 5),
      documents: documents.slice(),
      scores: new Float32Array(5),
      labelled: Uint8Array.of(1, 1),
      weights: Float32Array.of(1, 1),
      reliability: Float32Array.of(0.3, 0.3),
      relevant: (query) => new Set(query === 1 ? [5] : []),
    };
    const targets = Float32Array.of(0.2, 0.1, 0.7, 0.1, 0.9).map(Math.log);
    examples.scores.set(targets);
    const next = relabeled(examples, documents, targets);
    expect(Array.from(next.documents)).toEqual([9, 7, 8, 5, 6]);
    expect(Array.from(next.scores, Math.exp).map((v) => v.toFixed(1))).toEqual(['0.7', '0.2', '0.1', '0.1', '0.9']);
    expect(next.reliability?.[0]).toBeCloseTo(0.7);
    expect(next.reliability?.[1]).toBeCloseTo(0.3);
    const renewed = relabeled(next, documents, Float32Array.of(0.1, 0.8, 0.1, 0.1, 0.9).map(Math.log));
    expect(Array.from(renewed.documents)).toEqual([8, 7, 9, 5, 6]);
    // Examples are values: those before are as they were.
    expect(Array.from(examples.documents)).toEqual(Array.from(documents));
    expect(examples.reliability?.[0]).toBeCloseTo(0.3);
    expect(Array.from(next.documents)).toEqual([9, 7, 8, 5, 6]);
  });
});

describe('batches', () => {
  test("negatives found again are the student's own, and training goes on from between two searches", async () => {
    const notes: string[] = [];
    const run = (name: string, stopAt?: number): Promise<RunReport> => {
      const stop = new AbortController();
      return distill(
        options(name, {
          candidates: { source: 'random', count: 6, refresh: { every: 4, warmup: 1, depth: 10 } },
          train: { steps: 8, saveEvery: 3, topics: { clusters: 5 } },
          evaluate: quick,
        }),
        {
          signal: stop.signal,
          onProgress: (p) => {
            if (p.note) notes.push(p.note);
            if (p.stage === 'train' && p.done === stopAt) stop.abort(new Error('stopped'));
          },
        },
      );
    };
    const whole = await run('refresh');
    expect(notes.filter((n) => n.includes('found again')).map((n) => n.split(':')[0])).toEqual(['step 1', 'step 5']);
    await expect(run('refresh-stopped', 7)).rejects.toThrow('stopped');
    const resumed = await run('refresh-stopped');
    const model = (r: RunReport): Buffer => readFileSync(join(r.checkpoint, 'onnx', 'model.onnx'));
    expect(model(resumed).equals(model(whole))).toBe(true);
  });
});
