/** @file Files of rows: the same rows in every format are the same data set; what columns mean; splits; messages. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { dataKind, openDataset, splitOf } from '../../data/open.ts';
import { relevantDocuments } from '../../data/relevant.ts';

function folder(files: Record<string, string | Buffer>): string {
  const dir = mkdtempSync(join(tmpdir(), 'rows-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  return dir;
}

const jsonl = (rows: object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');

/** Judgements as texts: what a person would write down. */
function told(dataset: Dataset, split: string): Record<string, Record<string, number>> {
  const text = (table: Dataset['queries'], id: string): string => table.text(table.indexOf(id) as number);
  return Object.fromEntries(
    [...dataset.qrels(split)].map(([q, grades]) => [
      text(dataset.queries, q),
      Object.fromEntries([...grades].map(([d, g]) => [text(dataset.documents, d), g])),
    ]),
  );
}

function candidates(dataset: Dataset, split: string): Record<string, Record<string, number>> {
  const lists = dataset.candidates?.(split);
  if (!lists) return {};
  return Object.fromEntries(
    Array.from(lists.queries, (q, i) => [
      dataset.queries.text(q),
      Object.fromEntries(
        Array.from(lists.documents.subarray(lists.offsets[i], lists.offsets[i + 1]), (d, k) => [
          dataset.documents.text(d),
          lists.scores[lists.offsets[i] + k],
        ]),
      ),
    ]),
  );
}

const triples = [
  { anchor: 'what is a cat', positive: 'a small, "quiet" animal', negative_1: 'a car', negative_2: 'a tree' },
  { anchor: 'what is a dog', positive: 'a loyal animal', negative_1: 'a car', negative_2: 'a small, "quiet" animal' },
];
const csv = `anchor,positive,negative_1,negative_2
what is a cat,"a small, ""quiet"" animal",a car,a tree
what is a dog,a loyal animal,a car,"a small, ""quiet"" animal"
`;
const tsv = csv
  .replace(/"a small, ""quiet"" animal"/g, 'a small; "quiet" animal')
  .replaceAll(',', '\t')
  .replaceAll(';', ',');

test.each([
  ['train.jsonl', jsonl(triples)],
  ['train.csv', `\ufeff${csv}`],
  ['train.csv', csv.replaceAll('\n', '\r\n')],
  ['train.tsv', tsv],
  ['train.jsonl.gz', gzipSync(jsonl(triples))],
  ['train.csv.gz', gzipSync(csv)],
])('%s: triples become judgements, each text once', async (name, content) => {
  const dataset = await openDataset(join(folder({ [name]: content }), name), { holdOut: 0 });
  expect(told(dataset, 'train')).toEqual({
    'what is a cat': { 'a small, "quiet" animal': 1, 'a car': 0, 'a tree': 0 },
    'what is a dog': { 'a loyal animal': 1, 'a car': 0, 'a small, "quiet" animal': 0 },
  });
  expect([dataset.queries.length, dataset.documents.length]).toEqual([2, 4]);
  const listed = Object.keys(candidates(dataset, 'train')['what is a dog']);
  expect([listed[0], ...listed.slice(1).sort()]).toEqual(['a loyal animal', 'a car', 'a small, "quiet" animal']);
  expect(dataset.notes).toEqual([
    `${name} (train): query = anchor, positive = positive, negatives = negative_1, negative_2; 2 rows; the split has 2 queries, 2 positives`,
  ]);
});

test('Parquet: lists of positives and negatives with a score each, in row groups, packed by gzip', async () => {
  const dataset = await openDataset('test/fixtures/rows.parquet', { holdOut: 0 });
  expect(told(dataset, 'train')).toEqual({
    'what is a cat': { 'a small animal': 1, 'a car': 0, 'a tree': 0 },
    'what is a dog': { 'a loyal animal': 1, 'a pet': 1, 'a car': 0 },
    'what is a bird': { 'it flies': 1 },
  });
  expect(candidates(dataset, 'train')).toEqual({
    'what is a cat': { 'a small animal': 3, 'a car': 1, 'a tree': -2 },
    'what is a dog': { 'a loyal animal': 2, 'a pet': 1, 'a car': 0.5 },
    'what is a bird': { 'it flies': 4 },
  });
});

describe('what a number in a row of a pair means', () => {
  const open = (rows: object[]): Promise<Dataset> =>
    openDataset(join(folder({ 'pairs.jsonl': jsonl(rows) }), 'pairs.jsonl'), { holdOut: 0 });

  test('whole numbers are grades', async () => {
    const dataset = await open([
      { sentence1: 'q', sentence2: 'd', label: 1 },
      { sentence1: 'q', sentence2: 'e', label: 0 },
    ]);
    expect(told(dataset, 'train')).toEqual({ q: { d: 1, e: 0 } });
  });

  test("others are a teacher's scores, and judge nothing", async () => {
    const dataset = await open([
      { query: 'q', document: 'd', score: 1.5 },
      { query: 'q', document: 'e', score: -2 },
    ]);
    expect(told(dataset, 'train')).toEqual({});
    expect(candidates(dataset, 'train')).toEqual({ q: { d: 1.5, e: -2 } });
  });

  test('with one negative it is the margin', async () => {
    const dataset = await open([{ query: 'q', positive: 'd', negative: 'e', score: 4.5 }]);
    expect(told(dataset, 'train')).toEqual({ q: { d: 1, e: 0 } });
    expect(candidates(dataset, 'train')).toEqual({ q: { d: 0, e: -4.5 } });
  });

  test('a wrong count of scores is refused', async () => {
    await expect(open([{ query: 'q', positive: 'd', negative: ['e', 'f'], score: [1] }])).rejects.toThrow(
      /pairs\.jsonl line 1 has 1 scores: expected 3, one a document, or 2, the margin to each negative; fix or remove the row/,
    );
  });
});

test('without a known name the order of columns decides', async () => {
  const file = join(folder({ 'nli.csv': 'id,premise,entailment,contradiction\n7,a,b,c\n' }), 'nli.csv');
  const dataset = await openDataset(file, { holdOut: 0 });
  expect(told(dataset, 'train')).toEqual({ a: { b: 1, c: 0 } });
});

test('one file: dev and test are a seeded share of the queries, no query in two of them', async () => {
  const rows = Array.from({ length: 100 }, (_, i) => ({ query: `q${i % 50}`, positive: `d${i}` }));
  const dir = folder({ 'pairs.jsonl': jsonl(rows) });
  const open = (splitSeed: number) => openDataset(join(dir, 'pairs.jsonl'), { splitSeed, holdOut: 0.1 });
  const dataset = await open(3);
  const parts = ['train', 'dev', 'test'].map((s) => Object.keys(told(dataset, s)));
  expect(parts.map((p) => p.length)).toEqual([40, 5, 5]);
  expect(new Set(parts.flat()).size).toBe(50);
  expect(dataset.documents.length).toBe(100);
  expect(dataset.notes).toContain('no file for dev and test: 5 of 50 queries each, drawn with seed 3');
  expect(told(await open(3), 'test')).toEqual(told(dataset, 'test'));
  expect(told(await open(4), 'test')).not.toEqual(told(dataset, 'test'));
});

test('a folder of files: splits by their names; scores and BEIR files are not rows', async () => {
  const row = (n: string): string => jsonl([{ query: n, positive: `${n} d` }]);
  const dir = folder({
    'data/train-00000-of-00002.jsonl': row('a'),
    'data/train-00001-of-00002.jsonl': row('b'),
    'data/validation.jsonl': row('c'),
    'data/test.jsonl': row('e'),
    'data/teacher-scores-train.tsv': 'query-id\tcorpus-id\tscore\n',
  });
  expect(dataKind(dir)).toBe('rows');
  const dataset = await openDataset(dir);
  expect(['train', 'dev', 'test'].map((s) => Object.keys(told(dataset, s)).sort())).toEqual([['a', 'b'], ['c'], ['e']]);
  expect(splitOf('my-val.csv')).toBe('dev');
  expect(splitOf('contest.csv')).toBeUndefined();
  expect(dataKind(folder({ 'corpus.jsonl': '' }))).toBe('beir');
  expect(dataKind(folder({ 'readme.md': '' }))).toBeUndefined();
});

test('scores alone: in dev and test the best-scored document counts as relevant, and a note says so', async () => {
  const row = (q: string): string =>
    jsonl([
      { query: q, document: `${q} 1`, score: 0.5 },
      { query: q, document: `${q} 2`, score: 2.5 },
    ]);
  const dataset = await openDataset(folder({ 'train.jsonl': row('a'), 'dev.jsonl': row('b'), 'test.jsonl': row('c') }));
  expect(told(dataset, 'train')).toEqual({});
  expect(told(dataset, 'test')).toEqual({ c: { 'c 2': 1 } });
  expect(dataset.notes?.at(-1)).toMatch(/^the rows have scores but no judgements/);
});

test.each([
  [
    'pairs.jsonl',
    '{"query": "a", "positive": "b"}\n{"query": "a"\n',
    /pairs\.jsonl line 2 is not valid JSON .*; fix or remove the line/,
  ],
  [
    'pairs.jsonl',
    '{"query": "a", "positive": null}\n',
    /pairs\.jsonl line 1: 'positive': expected a text, received null; fix or remove the row/,
  ],
  [
    'pairs.jsonl',
    '{"query": "a", "positive": "b", "label": "x"}\n',
    /line 1: 'label': expected a number, received "x"/,
  ],
  ['pairs.jsonl', '{"text": "a"}\n', /line 1 has the columns text: expected a query and a document/],
  ['pairs.jsonl', '', /pairs\.jsonl holds no row; write at least one row/],
  ['pairs.csv', 'query,positive\na,b\nc,d,e\n', /pairs\.csv cannot be split into columns \(.*line 3\); fix the line/],
  ['pairs.parquet', 'no parquet', /cannot read .*pairs\.parquet \(.*\); check that the file is there and whole/],
  ['pairs.jsonl.gz', 'no gzip', /cannot read .*pairs\.jsonl\.gz \(.*\); check that the file is there and whole/],
  ['pairs.csv.gz', 'no gzip', /cannot read .*pairs\.csv\.gz \(.*\); check that the file is there and whole/],
  [
    'pairs.txt',
    'a',
    /pairs\.txt is not a file of rows: expected a name that ends in \.arrow, \.csv, .*; rename or convert it/,
  ],
])('%s with %j', async (name, content, message) => {
  await expect(openDataset(join(folder({ [name]: content }), name))).rejects.toThrow(message);
});

test('judgements by position say what judgements by id say', async () => {
  const rows = Array.from({ length: 60 }, (_, i) => ({
    query: `query ${i % 20}`,
    document: `document ${(i * 7) % 25}`,
    label: i % 3,
  }));
  const folder = mkdtempSync(join(tmpdir(), 'positions-'));
  writeFileSync(join(folder, 'rows.jsonl'), rows.map((r) => JSON.stringify(r)).join('\n'));
  const dataset = await openDataset(join(folder, 'rows.jsonl'), { holdOut: 0.1 });
  // A copy knows no positions and is read by its ids.
  const byId = { ...dataset, qrels: (split: string) => new Map(dataset.qrels(split)) };
  const told = (relevant: ReturnType<typeof relevantDocuments>) => [...relevant].map(([q, own]) => [q, [...own]]);
  for (const split of dataset.splits) {
    expect(judgedQueries(dataset, split)).toEqual(judgedQueries(byId, split));
    const fast = relevantDocuments(dataset, split);
    expect(told(fast)).toEqual(told(relevantDocuments(byId, split)));
    expect(fast.size).toBe(dataset.qrels(split).size);
    const [first] = fast.keys();
    expect([...(fast.get(first) ?? [])]).toEqual([...(relevantDocuments(byId, split).get(first) ?? [])]);
    expect([fast.get(-1), fast.get(1e6), fast.has(first)]).toEqual([undefined, undefined, true]);
  }
  expect(dataset.splits.flatMap((s) => judgedQueries(dataset, s)).length).toBe(20);
});
