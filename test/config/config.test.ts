import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { type LossConfig, lossSchema, registered, toLosses } from '../../config/losses.ts';
import { parseConfig } from '../../config/parse.ts';
import { withAbsolutePaths } from '../../config/paths.ts';
import { parseTeacherConfig } from '../../config/teacher.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { kl, losses, type OptionTable } from '../../losses/index.ts';
import { studentKinds } from '../../students/kinds/index.ts';

const minimal = {
  data: { path: 'd' },
  teacher: { kind: 'cross-encoder', model: 't' },
  student: { model: 's' },
} as const;

test('defaults are filled in', () => {
  const config = parseConfig(minimal);
  expect(config.train.learningRate).toBe(2e-4);
  expect(config.losses.map((l) => l.kind)).toEqual(['info-nce', 'kl']);
});

test('an unknown key is refused with the nearest known one', () => {
  expect(() => parseConfig({ ...minimal, train: { learningrate: 1 } }, 'a.yaml')).toThrow(
    "a.yaml: 'train.learningrate' is not a known key; did you mean 'learningRate'?",
  );
});

test('a file is named with the line of the mistake', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'config-')), 'a.yaml');
  writeFileSync(
    file,
    'data: { path: d }\nteacher: { kind: cross-encoder, model: t }\nstudent: { model: s }\ntrain:\n  batchSize: -3\n',
  );
  expect(() => readConfig(file)).toThrow(/a\.yaml line 5: 'train\.batchSize' .*received -3; fix it/);
  expect(readConfig(file, ['train.batchSize=8']).train.batchSize).toBe(8);
});

test('earlier names of options are refused with the current one', () => {
  expect(() => parseConfig({ ...minimal, train: { queries: 8 } }, 'a.yaml')).toThrow(
    "a.yaml: 'train.queries' is an earlier name; write 'train.batchSize'",
  );
  expect(() => parseConfig({ ...minimal, queries: { kind: 'random', budget: 8 } }, 'a.yaml')).toThrow(
    "a.yaml: 'queries' is an earlier name; write 'querySelection'",
  );
  expect(() => parseTeacherConfig({ data: 'd', fresh: {}, train: { queries: 8 } })).toThrow(
    "the teacher's options: 'train.queries' is an earlier name; write 'train.batchSize'",
  );
  expect(() => parseTeacherConfig({ data: 'd', fresh: {}, train: { stepz: 8 } })).toThrow(
    "the teacher's options: 'train.stepz' is not a known key; did you mean 'steps'?",
  );
});

test("a loss's defaults are the same from a config and from a program, and so are the values that it refuses", () => {
  for (const [kind, make] of Object.entries(losses)) {
    const table: OptionTable = make.options;
    const { weight, ...read } = lossSchema.parse({ kind } as LossConfig);
    expect(weight).toBe(1);
    expect(Object.entries(read).filter(([name, value]) => name !== 'kind' && value !== undefined)).toEqual(
      Object.entries(table).flatMap(([name, o]) => (o.default === undefined ? [] : [[name, o.default]])),
    );
    for (const [name, o] of Object.entries(table)) {
      const wrong = o.kind === 'number' ? (o.from ?? o.above ?? Number.NaN) - 1 : 'no such value';
      expect(lossSchema.safeParse({ kind, [name]: wrong }).success, `${kind} ${name}`).toBe(false);
      expect(() => (make as (options: object) => unknown)({ [name]: wrong }), `${kind} ${name}`).toThrow(
        `the option '${name}' of a loss: expected`,
      );
    }
  }
  expect(() => kl({ temperature: -1 })).toThrow(
    "the option 'temperature' of a loss: expected a number above 0, received -1; divides the teacher's scores: 1 for logits, 0.05 for cosines",
  );
});

test('paths of a checkpoint hold from any folder', () => {
  const options = {
    data: { path: 'test' },
    teacher: { model: 'org/name' },
    online: { teachers: ['docs', 'none'] },
    name: 'test',
  };
  expect(withAbsolutePaths(options)).toEqual({
    ...options,
    data: { path: resolve('test') },
    online: { teachers: [resolve('docs'), 'none'] },
  });
});

test('an optimizer whose learning rate has no default asks for one; schedule-free keeps its rate', () => {
  expect(() => parseConfig({ ...minimal, train: { optimizer: 'sgd' } })).toThrow(
    "the config: 'train.optimizer: sgd' has no learning rate by default; give 'train.learningRate', some hundreds of times AdamW's (e.g. 0.1)",
  );
  expect(parseConfig({ ...minimal, train: { optimizer: 'lion', learningRate: 4e-5 } }).train.finalLearningRate).toBe(
    0.02,
  );
  expect(parseConfig({ ...minimal, train: { optimizer: 'schedule-free' } }).train.finalLearningRate).toBe(1);
  expect(parseConfig(minimal).train.optimizer).toBe('adamw');
  expect(() => parseConfig({ ...minimal, train: { optimizer: 'adam' as 'adamw' } })).toThrow(/optimizer/);
});

test('contradictions are told before anything runs', () => {
  expect(() => parseConfig({ ...minimal, pipeline: 'inherit-documents' })).toThrow(
    "the config: 'pipeline: inherit-documents' needs frozen documents; add an 'embedder' whose documents the query tower searches",
  );
  expect(() => parseConfig({ ...minimal, student: { model: 's', towers: 'query' } })).toThrow(
    "the config: 'pipeline: cross-to-dual' trains both towers; use 'pipeline: inherit-documents' for a query tower",
  );
  expect(() => parseConfig({ ...minimal, losses: [{ kind: 'embedding-matching' }] })).toThrow(
    "the config: a loss matches embeddings and there is no 'embedder'; add one, or remove the loss",
  );
  const together = { kind: 'co-teaching', noise: 0.2 } as const;
  expect(() => parseConfig({ ...minimal, weighting: together })).toThrow(
    "the config: 'weighting.kind: co-teaching' has no steps to choose at; say under 'weighting.renew' after how many steps",
  );
  const online = { pipeline: 'online', online: { teachers: ['e'] } } as const;
  expect(() => parseConfig({ ...minimal, ...online, weighting: { ...together, renew: 100 } })).toThrow(
    "the config: 'weighting.kind: co-teaching' trains two students and 'pipeline: online' changes teachers; use one of them",
  );
  const train = (more: object) => () => parseConfig({ ...minimal, train: more });
  expect(train({ gradCacheChunk: 2, provider: 'webgpu' })).toThrow(
    "the config: 'train.gradCacheChunk' is not available with 'train.provider: webgpu'; remove one of them",
  );
  expect(train({ gradCacheChunk: 2, provider: 'cuda' })).toThrow(
    "the config: 'train.gradCacheChunk' is not available with 'train.provider: cuda'; remove one of them",
  );
  expect(train({ accumulate: 2, provider: 'webgpu' })).not.toThrow();
  expect(train({ gradCacheChunk: 2, provider: 'auto' })).not.toThrow();
  expect(train({ precision: 'float16', provider: 'webgpu' })).toThrow(
    "the config: 'train.precision: float16' is for cuda and 'train.provider' is webgpu; change one of them",
  );
  expect(train({ precision: 'bfloat16', gradCacheChunk: 2 })).toThrow(
    "the config: 'train.precision: bfloat16' is not available with 'train.gradCacheChunk'; remove one of them",
  );
  expect(train({ precision: 'bfloat16', optimizer: 'locoprop-m', learningRate: 1e-4 })).toThrow(
    "the config: 'train.precision: bfloat16' is not available with 'train.optimizer: locoprop-m'; change one of them",
  );
  for (const provider of ['auto', 'cuda']) expect(train({ precision: 'float16', provider })).not.toThrow();
  const teacher = { kind: 'dual-encoder', model: 't', dtype: 'fp16' } as const;
  for (const provider of ['cpu', 'webgpu', 'auto', 'cuda'] as const)
    for (const [name, models] of [
      ['teacher', { teacher }],
      ['embedder', { embedder: { model: 't', dtype: 'fp16' } }],
    ] as const) {
      const parsed = expect(() => parseConfig({ ...minimal, ...models, train: { provider } }));
      if (provider === 'auto' || provider === 'cuda') parsed.not.toThrow();
      else
        parsed.toThrow(
          `the config: '${name}.dtype: fp16' is for cuda and 'train.provider' is ${provider}; change one of them, or set '${name}.dtype' to int8 on a CPU`,
        );
    }
  const embedder = { model: 'e' };
  const topics = { batchSize: 9, topics: { clusters: 4, perBatch: 2 } };
  expect(() => parseConfig({ ...minimal, embedder, train: topics })).toThrow(
    "the config: 'train.batchSize: 9' is not a multiple of 'train.topics.perBatch'; change one of them",
  );
  expect(() => parseConfig({ ...minimal, candidates: { source: 'embedder' } })).toThrow(
    "the config: 'candidates.source: embedder' has no 'embedder'; add one, or choose another source",
  );
  expect(() => parseConfig({ ...minimal, evaluate: { metrics: ['ndgc@10'] } })).toThrow("did you mean 'ndcg@10'?");
  const alone = { ...minimal, teacher: undefined, losses: [{ kind: 'info-nce' }] };
  const readers = {
    'selection.kind: top-k': { selection: { kind: 'top-k' } },
    'train.pseudoLabels': { train: { pseudoLabels: true } },
    'weighting.kind: confidence': { weighting: { kind: 'confidence' } },
  };
  for (const [name, more] of Object.entries(readers))
    expect(() => parseConfig({ ...alone, ...more })).toThrow(
      `the config: '${name}' reads a teacher's scores and there is no 'teacher'; add one, or remove it`,
    );
  expect(() => parseConfig({ ...alone, weighting: { kind: 'small-loss' } })).not.toThrow();
  const fresh = { fresh: { hidden: 64, heads: 4 } };
  const later: [object, string][] = [
    [{ active: { rounds: 2 } }, "'active' is read by 'pipeline: active' alone; use it, or remove 'active'"],
    [{ online: { teachers: ['e'] } }, "'online' is read by 'pipeline: online' alone; use it, or remove 'online'"],
    [
      { weighting: { kind: 'agreement', teachers: ['e'] } },
      "'weighting.teachers' are not read by 'weighting.kind: agreement'",
    ],
    [{ generate: { tokens: [13, 5] } }, "'generate.tokens' runs from 13 to 5; give the smaller number first"],
    [
      { student: { fresh: { hidden: 64, heads: 5 } } },
      "'student.fresh.hidden: 64' is not a multiple of 'student.fresh.heads: 5'",
    ],
    [{ student: fresh, export: { dimensions: 65 } }, "'export.dimensions: 65' is more than 'student.fresh.hidden: 64'"],
    [{ student: { ...fresh, static: {} } }, "'student.static' does not go with the other keys here; known here are"],
    [
      { student: { kind: 'statik' } },
      `'student.kind' is none of ${Object.keys(studentKinds).join(', ')}: received "statik"; did you mean 'static'?`,
    ],
    [
      { losses: [{ kind: 'kl', scale: 2 }] },
      "'losses.0.scale' does not go with the other keys here; known here are kind, weight, temp",
    ],
  ];
  for (const [more, said] of later) expect(() => parseConfig({ ...minimal, ...more })).toThrow(said);
});

test('a pipeline over frozen documents trains the query tower, and matches queries alone', () => {
  const config = parseConfig({ ...minimal, pipeline: 'inherit-documents', embedder: { model: 'e' } });
  expect(config.student.towers).toBe('query');
  expect(toLosses(registered(config.losses), true).flatMap(({ loss }) => loss.needs)).not.toContain('teacherDocuments');
});

test('a dual-encoder scores by cosines: its distribution is sharpened, with the weight of a cross-encoder', () => {
  const kl = (teacher: ConfigInput['teacher']): unknown =>
    parseConfig({ ...minimal, teacher, embedder: { model: 'e' } }).losses.find((l) => l.kind === 'kl');
  expect(kl({ kind: 'dual-encoder', model: 't' })).toMatchObject({ temperature: 0.05, weight: 400 });
  expect(kl({ kind: 'cross-encoder', model: 't' })).toMatchObject({ temperature: 1, weight: 1 });
});

test('every loss of the registry has options', () => {
  for (const kind of Object.keys(losses) as (keyof typeof losses)[])
    expect(lossSchema.parse({ kind })).toMatchObject({ kind, weight: 1 });
});

test('a student is a model folder or a fresh encoder', () => {
  const { student: _, ...rest } = minimal;
  const fresh = parseConfig({ ...rest, output: 'o', student: { fresh: { hidden: 64 } } });
  expect(fresh.student).toMatchObject({ model: 'o/fresh', fresh: { hidden: 64, layers: 2 } });
  expect(() => parseConfig({ ...rest, student: {} })).toThrow(
    "the config: 'student.model' is missing; name a model folder, or give 'student.fresh'",
  );
});

test('options with their defaults filled in are options again', () => {
  for (const more of [
    { pipeline: 'static-queries', student: {}, embedder: { model: 'e' } },
    { pipeline: 'dual-to-dual', teacher: { kind: 'dual-encoder', model: 't' } },
    { pipeline: 'inherit-documents', embedder: { model: 'e' } },
  ] as const) {
    const config = parseConfig({ ...minimal, ...more });
    expect(parseConfig(config)).toEqual(config);
  }
});

test.each([minimal, { ...minimal, train: { steps: 7 } }])(
  'a config that is filled in already stays as it is: %j',
  (c) => {
    const once = parseConfig(c);
    expect(parseConfig(once)).toEqual(once);
  },
);

test('the configs of the benchmarks are valid', () => {
  const folder = 'bench/configs';
  const files = readdirSync(folder).filter((f) => f.endsWith('.yaml'));
  expect(files.length).toBeGreaterThan(3);
  for (const file of files)
    expect(readConfig(join(folder, file)).output, file).toBe(`runs/${file.replace('.yaml', '')}`);
});
