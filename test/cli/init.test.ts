/** @file `distill init`: what is in a folder decides what is written, and what is written runs. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { openDataset } from '../../data/open.ts';
import { distill, documents, jsonl, makeWorld, queries, write } from './world.ts';

let world: string;
beforeAll(async () => {
  world = await makeWorld();
  rmSync(join(world, 'distill.yaml'));
});

/** A folder with some of the world's parts. */
function folderOf(...parts: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'init-'));
  for (const part of parts) cpSync(join(world, part), join(folder, part), { recursive: true });
  return folder;
}

const written = (folder: string) => parse(readFileSync(join(folder, 'distill.yaml'), 'utf8'));

test.each([
  [
    ['data', 'cross', 'dual'],
    {
      pipeline: 'chain',
      teacher: { kind: 'cross-encoder', model: 'cross' },
      student: { model: 'dual' },
    },
  ],
  [
    ['data', 'cross', 'dual', 'teacher-scores-train.tsv'],
    {
      pipeline: 'chain',
      teacher: { kind: 'scores', files: { train: 'teacher-scores-train.tsv' } },
      candidates: { source: 'given' },
    },
  ],
  [['data', 'dual'], { pipeline: 'chain', student: { model: 'dual' } }],
  [
    ['data', 'cross'],
    {
      teacher: { kind: 'cross-encoder' },
      student: { fresh: { hidden: 128 } },
      candidates: { source: 'bm25', count: 16 },
    },
  ],
])('%j', async (parts, choice) => {
  const folder = folderOf(...parts);
  const { code, out } = await distill('init', folder);
  expect(code).toBe(0);
  expect(out).toContain(`wrote ${join(folder, 'distill.yaml')}`);
  expect(written(folder)).toMatchObject({
    ...choice,
    data: { path: 'data', splits: { train: 'train', dev: 'dev', test: 'test' } },
  });
  const config = readConfig(join(folder, 'distill.yaml'));
  expect(config.data.path).toBe(join(folder, 'data'));
});

test('a dual-encoder by that name next to another one is the embedder', async () => {
  const folder = folderOf('data', 'cross', 'dual');
  cpSync(join(world, 'dual'), join(folder, 'small'), { recursive: true });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({ embedder: { model: 'dual' }, student: { model: 'small' } });
});

test('labels and a dual-encoder: labels teach a family; without labels the dual-encoder teaches towers over its documents', async () => {
  const folder = folderOf('data', 'dual');
  await distill('init', folder);
  expect(written(folder)).not.toHaveProperty('teacher');
  expect(written(folder)).not.toHaveProperty('embedder');
  expect(await distill('run', join(folder, 'distill.yaml'), '--dry-run', '--no-estimate')).toMatchObject({
    code: 0,
    out: expect.stringContaining('assistant'),
  });
  rmSync(join(folder, 'distill.yaml'));
  rmSync(join(folder, 'data', 'qrels'), { recursive: true });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({ pipeline: 'chain', embedder: { model: 'dual' }, student: { model: 'dual' } });
  const { code, out, err } = await distill('run', join(folder, 'distill.yaml'), '--dry-run', '--no-estimate');
  expect(code, err).toBe(0);
  expect(out).not.toContain('assistant');
  expect(out).toContain('static');
});

test('rows with scores teach by themselves', async () => {
  const folder = folderOf();
  const rows = Array.from({ length: 30 }, (_, i) => ({ query: `q ${i % 10}`, document: `d ${i}`, score: i + 0.5 }));
  write(folder, { 'train.jsonl': jsonl(rows) });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({
    data: { path: '.' },
    teacher: { kind: 'scores' },
    candidates: { source: 'given' },
  });
});

test('rows that list negatives are the candidates, and what was read is said', async () => {
  const folder = folderOf();
  const rows = Array.from({ length: 8 }, (_, i) => ({ query: `q ${i}`, positive: `d ${i}`, negatives: [`n ${i}`] }));
  write(folder, { 'train.jsonl': jsonl(rows) });
  const { out } = await distill('init', folder);
  expect(out).toContain(
    'train.jsonl (train): query = query, positive = positive, negatives = negatives; 8 rows; the split has 8 queries, 8 positives',
  );
  expect(written(folder)).toMatchObject({ candidates: { source: 'given' } });
  expect(written(folder).teacher).toBeUndefined();
});

test("FlagEmbedding's scores teach", async () => {
  const folder = folderOf();
  const row = { query: 'q', pos: ['a'], neg: ['b', 'c'], pos_scores: [5.1], neg_scores: [-3, -4.5], prompt: 'Find: ' };
  write(folder, { 'train.jsonl': jsonl([row]) });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({ teacher: { kind: 'scores' }, candidates: { source: 'given' } });
});

test('a split that is not there is not written; judgements under a name that is not read are refused', async () => {
  const folder = folderOf('data');
  for (const split of ['test', 'dev']) rmSync(join(folder, 'data', 'qrels', `${split}.tsv`));
  await distill('init', folder);
  expect(written(folder).data.splits).toEqual({ train: 'train', dev: null, test: 'train' });
  rmSync(join(folder, 'distill.yaml'));
  rmSync(join(folder, 'data', 'qrels', 'train.tsv'));
  write(folder, { 'data/qrel/test.tsv': 'query-id\tcorpus-id\tscore\nq1\td1\t1\n' });
  expect(await distill('init', folder)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/holds no judgements: expected qrels\/train\.tsv with lines query-id, corpus-id, score/),
  });
  expect(existsSync(join(folder, 'distill.yaml'))).toBe(false);
});

test('scores of a part of the training queries leave out the others; scores of other queries are not used', async () => {
  const folder = folderOf('data', 'dual', 'teacher-scores-train.tsv');
  const file = join(folder, 'teacher-scores-train.tsv');
  const lines = readFileSync(file, 'utf8').split('\n');
  write(folder, { 'teacher-scores-train.tsv': lines.filter((l) => /^q[0-4]\t/.test(l)).join('\n') });
  await distill('init', folder);
  expect(written(folder)).toMatchObject({
    teacher: { kind: 'scores' },
    candidates: { source: 'given', onEmpty: 'skip' },
  });
  expect(readFileSync(join(folder, 'distill.yaml'), 'utf8')).toContain('5 of 16 training queries have scores');
  rmSync(join(folder, 'distill.yaml'));
  write(folder, { 'teacher-scores-train.tsv': 'q22\td1\t3\n' });
  const { out } = await distill('init', folder);
  expect(out).toContain(`not used: ${file}, it scores no judged query of the split 'train'`);
  expect(written(folder).teacher).toBeUndefined();
});

test('without a dev split, and tested on what was trained, it runs and says so', async () => {
  const folder = folderOf('data', 'dual');
  for (const split of ['test', 'dev']) rmSync(join(folder, 'data', 'qrels', `${split}.tsv`));
  await distill('init', folder);
  const text = readFileSync(join(folder, 'distill.yaml'), 'utf8');
  expect(text).toContain('# train is trained on and tested on: its figures are too good.');
  expect(text).toContain('# There is no split dev');
  const sets = [
    `cache=${join(folder, 'cache')}`,
    'chain={ assistant: { train: { steps: 2 } }, query: false, static: false }',
  ];
  const config = join(folder, 'distill.yaml');
  const run = await distill('run', config, '--output', join(folder, 'out'), ...sets.flatMap((s) => ['--set', s]));
  expect(run).toMatchObject({ code: 0, err: expect.stringContaining('There is no dev split') });
  expect(run.out).toContain("the split 'train' is both trained on and tested on");
  expect(run.out).toMatch(/training {4}2 steps, .* \(assistant\); the whole run/);
});

test('what it writes runs as it is', async () => {
  const folder = folderOf('data', 'cross', 'dual');
  await distill('init', folder);
  const { code, err, out } = await distill(
    'run',
    join(folder, 'distill.yaml'),
    '--output',
    join(folder, 'out'),
    '--set',
    `cache=${join(folder, 'cache')}`,
    ...['query', 'static'].flatMap((part) => [
      '--set',
      `chain.${part}={ generate: { count: 40 }, train: { steps: 8, batchSize: 4, spans: 4 } }`,
    ]),
  );
  expect(err).not.toMatch(/error/);
  expect(code).toBe(0);
  expect(out).toContain('checkpoint');
});

const words = (i: number): string =>
  `The ${queries[i % queries.length].text} stands here. It is number ${i} of many lines.`;
const texts = Object.fromEntries(
  Array.from({ length: 24 }, (_, i) => [`docs/page${i}.md`, `# Page ${i}\n\n${words(i)}`]),
);

test.each([
  ['a folder of texts', texts, 'docs'],
  ['rows of one text', { 'texts.jsonl': jsonl(Array.from({ length: 24 }, (_, i) => ({ text: words(i) }))) }, '.'],
  ['a corpus alone', { 'data/corpus.jsonl': jsonl(documents) }, 'data'],
])('%s is enough: queries are made, and that is said', async (_, files, path) => {
  const folder = folderOf('cross', 'dual');
  write(folder, { ...files, 'cross/README.md': '# a model card', 'dual/README.md': '# another' });
  const { code, out } = await distill('init', folder);
  expect(code).toBe(0);
  expect(out).toContain('warning: there are no queries');
  expect(written(folder)).toMatchObject({
    pipeline: 'chain',
    data: { path, splits: { train: 'train', dev: 'dev', test: 'test' } },
    student: { model: 'dual' },
  });
  const data = await openDataset(join(folder, path));
  expect(data.documents.length).toBeLessThanOrEqual(40);
  expect(data.made).toBe(data.queries.length);
});

test('queries without judgements run on what the teacher says, and the report says what its figures are of', async () => {
  const folder = folderOf('data', 'cross', 'dual');
  rmSync(join(folder, 'data', 'qrels'), { recursive: true });
  const { out } = await distill('init', folder);
  expect(out).toContain("warning: nothing judges the 24 queries: the teacher's ranking is their only supervision");
  const [output, cache] = [join(folder, 'out'), join(folder, 'cache')];
  const sets = [
    `cache=${cache}`,
    'chain={ assistant: { train: { steps: 6, batchSize: 4 } }, query: false, static: false }',
  ];
  const run = ['run', join(folder, 'distill.yaml'), '--output', output];
  const ended = await distill(...run, ...sets.flatMap((s) => ['--set', s]));
  expect(ended).toMatchObject({ code: 0 });
  const report = JSON.parse(readFileSync(join(output, 'assistant/report.json'), 'utf8'));
  expect(report.config.losses.map((l: { kind: string }) => l.kind)).toEqual(['kl']);
  expect(report.config.train.pseudoLabels).toBe(true);
  expect(report.facts).toContainEqual(['queries', '4 made of the documents, not asked by people']);
  // Generated queries repeat the words of their documents: no weight of BM25 is fitted to them.
  expect(report.hybrid).toMatchObject({ lambda: 0.2, fixed: true });
  expect(readFileSync(join(output, 'report.html'), 'utf8')).toContain('made of the documents, not asked by people');
  // Without a teacher nothing says what is relevant.
  const bare = await distill(...run.slice(0, 3), join(folder, 'bare'), '--set', 'teacher=null');
  expect(bare.code).toBe(2);
}, 120_000);

test('a config that is there stays; a folder without data is refused', async () => {
  const folder = folderOf('data');
  write(folder, { 'distill.yaml': 'mine' });
  const { code, err } = await distill('init', folder);
  expect(code).toBe(2);
  expect(err).toBe(
    `\nerror: ${join(folder, 'distill.yaml')} is there already; remove it, or give another name with --file\n`,
  );
  expect(readFileSync(join(folder, 'distill.yaml'), 'utf8')).toBe('mine');
  const bare = folderOf('dual');
  expect(await distill('init', bare)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/holds no data: expected corpus/),
  });
  expect(existsSync(join(bare, 'distill.yaml'))).toBe(false);
});
