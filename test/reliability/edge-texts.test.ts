/** @file Texts as the world writes them, and sets as small as can be, through the whole way: tokenise, score, train, embed, evaluate. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import type { ConfigInput } from '../../config/config.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill } from '../../pipelines/distill.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { jsonl, write } from '../cli/world.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

const strange: Record<string, string> = {
  empty: '',
  spaces: ' \t\n\u00a0\u3000 ',
  'one long word': 'x'.repeat(100_000),
  'many words': 'red lamp '.repeat(11_112).slice(0, 100_000),
  'many letters that no vocabulary has': '\u{1f600}'.repeat(50_000),
  'a lone surrogate': 'red \ud83d lamp \udc00',
  'right to left': '\u202ered lamp\u202c \u2067kitchen\u2069 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627',
  'no width': 're\u200bd\u200c la\u200dmp\ufeff \u2060kitchen\u00ad',
  'control characters': 'red\u0000 lamp\u0007 \u001b[31m \u007f',
  'letters in pieces': `${'e\u0301'.repeat(500)}\u1100\u1161\u11a8`,
};
const texts = Object.values(strange);

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

const options = (name: string, data: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  // The model has 64 positions: longer texts are cut there, whatever the options say.
  student: { model: world.student },
  candidates: { source: 'bm25', count: 4 },
  ...more,
  train: { provider: 'cpu', steps: 3, batchSize: 4, candidates: 3, warmupSteps: 1, threads: 1, ...more.train },
});

const judge = (split: [string, string][]): string =>
  `query-id\tcorpus-id\tscore\n${split.map(([q, d]) => `${q}\t${d}\t1\n`).join('')}`;

/** Trains, then evaluates what was saved; every figure is a number. */
async function wholeWay(input: ConfigInput): Promise<void> {
  const report = await distill(input);
  const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
  for (const entry of log)
    for (const n of [entry.loss, entry.gradientNorm, ...entry.terms]) expect(n).toEqual(expect.any(Number));
  for (const { metrics } of report.systems)
    for (const value of Object.values(metrics)) expect(value).toBeGreaterThanOrEqual(0);
  const found = await evaluate({
    student: report.checkpoint,
    teacher: world.crossEncoder,
    data: input.data.path as string,
    cache: join(world.folder, 'cache'),
    cost: false,
    samples: 20,
    html: join(input.output as string, 'evaluation.html'),
  });
  for (const { metrics } of found.systems)
    for (const value of Object.values(metrics)) expect(value).toBeGreaterThanOrEqual(0);
  expect(
    /NaN|undefined|Infinity/.exec(readFileSync(join(input.output as string, 'evaluation.html'), 'utf8')),
  ).toBeNull();
}

/** Each unusual text as a document and as a query, among plain ones. */
function strangeData(name: string): string {
  const folder = join(world.folder, name);
  const plain = ['red lamp', 'green chair', 'blue kettle', 'yellow tent'];
  const all = [...texts, ...plain];
  const n = texts.length;
  write(folder, {
    'corpus.jsonl': jsonl(all.map((text, i) => ({ _id: `d${i}`, title: i % 2 ? text.slice(0, 20) : '', text }))),
    'queries.jsonl': jsonl([...all, ...all].map((text, i) => ({ _id: `q${i}`, text }))),
    'qrels/train.tsv': judge(all.map((_, i) => [`q${i}`, `d${i}`])),
    'qrels/dev.tsv': judge([[`q${n}`, `d${n}`]]),
    'qrels/test.tsv': judge(all.map((_, i) => [`q${all.length + i}`, `d${i}`])),
  });
  return folder;
}

test('every strange text, in every place a text can have', async () => {
  await wholeWay(options('strange', strangeData('strange')));
});

describe('a tokenizer without special tokens: rows that are padding alone', () => {
  const bare = (model: string): string => {
    const copy = `${model}-bare`;
    cpSync(model, copy, { recursive: true });
    const file = join(copy, 'tokenizer.json');
    const { post_processor: _, ...rest } = JSON.parse(readFileSync(file, 'utf8'));
    writeFileSync(file, JSON.stringify({ ...rest, post_processor: null }));
    return copy;
  };

  test('the whole way', async () => {
    const teacher = { kind: 'cross-encoder' as const, model: bare(world.crossEncoder) };
    const student = { model: bare(world.student), queryTokens: 16, documentTokens: 32 };
    await wholeWay(options('bare', strangeData('bare'), { teacher, student }));
  });

  test('an empty text alone, and in a batch with a long one', async () => {
    const encoder = await Encoder.load(bare(world.dualEncoder));
    const alone = await encoder.encode(['']);
    const together = await encoder.encode(['', 'red lamp in the kitchen']);
    expect(Array.from(alone).every(Number.isFinite)).toBe(true);
    for (let i = 0; i < alone.length; i++) expect(together[i]).toBeCloseTo(alone[i], 5);
    await encoder.dispose();
  });
});

test('each text gives the same vector and score alone and among all', { timeout: 60_000 }, async () => {
  const encoder = await Encoder.load(world.dualEncoder);
  const teacher = await crossEncoder(world.crossEncoder);
  const D = encoder.dimensions;
  const together = await encoder.encode(texts);
  const pair = (document: string) => ({ queryId: 'q', documentId: 'd', query: 'red lamp', document });
  const scores = await teacher.score(texts.map(pair));
  for (const [i, text] of texts.entries()) {
    const alone = await encoder.encode([text]);
    for (let k = 0; k < D; k++) expect(together[i * D + k], Object.keys(strange)[i]).toBeCloseTo(alone[k], 5);
    expect((await teacher.score([pair(text)]))[0]).toBeCloseTo(scores[i], 5);
    expect(Number.isFinite(scores[i])).toBe(true);
  }
  await encoder.dispose();
  await teacher.dispose();
});

test('one query, one document, a batch of one', async () => {
  const folder = join(world.folder, 'one');
  write(folder, {
    'corpus.jsonl': jsonl([{ _id: 'd', text: 'red lamp' }]),
    'queries.jsonl': jsonl([
      { _id: 'q', text: 'lamp' },
      { _id: 'p', text: 'a red one' },
    ]),
    'qrels/train.tsv': judge([['q', 'd']]),
    'qrels/test.tsv': judge([['p', 'd']]),
  });
  await wholeWay(
    options('one', folder, { data: { path: folder, splits: { dev: null } }, train: { batchSize: 1, steps: 2 } }),
  );
});
