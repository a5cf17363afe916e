/** @file BEIR folders: judgements in every form, ids of every kind, documents that are missing. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openDataset } from '../../data/open.ts';
import { neverNegative, relevantDocuments } from '../../data/relevant.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';

const texts = (ids: readonly unknown[]): string =>
  ids
    .map((id) => `{"_id": ${id}, "text": "text of ${id}"}\n`)
    .join('')
    .replaceAll('of "', 'of ')
    .replaceAll('""', '"');

function folder(files: Record<string, string>): string {
  const dir = mkdtempSync(join(tmpdir(), 'qrels-'));
  const all = { 'corpus.jsonl': texts(['"d1"', '"d2"', '7']), 'queries.jsonl': texts(['"q1"', '"q2"']), ...files };
  for (const [name, content] of Object.entries(all)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  return dir;
}

const judged = async (files: Record<string, string>, split = 'test') =>
  [...(await openDataset(folder(files))).qrels(split)].map(([q, grades]) => [q, Object.fromEntries(grades)]);

const right = [
  ['q1', { d1: 2, d2: 0 }],
  ['q2', { 7: 1 }],
];

test.each([
  ['qrels/test.tsv', 'query-id\tcorpus-id\tscore\nq2\t7\t1\nq1\td2\t0\nq1\td1\t2\n'],
  ['qrels/test.tsv', 'q1\td1\t2\r\nq1\td2\t0\r\nq2\t7\t1\r\n'],
  ['qrels/test.tsv', 'score\tcorpus_id\tquery_id\n2\td1\tq1\n0\td2\tq1\n1\t7\tq2\n'],
  ['qrels/test.txt', 'q1 0 d1 2\nq1 0 d2 0\nq2 0 7 1\n'],
  ['qrels/test.qrels', 'q1\tQ0\td1\t2\nq1\tQ0\td2\t0\nq2\tQ0\t7\t1\n'],
  [
    'qrels/test.jsonl',
    '{"query-id": "q1", "corpus-id": "d1", "score": 2.0}\n{"query-id": "q1", "corpus-id": "d2", "score": 0}\n{"query-id": "q2", "corpus-id": 7, "score": 1}\n',
  ],
  ['qrels/test.csv', 'query-id,corpus-id,score\nq1,d1,2\nq1,d2,0\nq2,7,1\n'],
  ['qrels/test.csv', 'q1,d1,2\nq1,d2,0\nq2,7,1\n'],
  [
    'qrels/test.json',
    '[{"qid": "q1", "docid": "d1", "relevance": 2}, {"qid": "q1", "docid": "d2", "relevance": 0}, {"qid": "q2", "docid": "7", "relevance": 1}]',
  ],
  ['qrels.tsv', 'q1\td1\t2\nq1\td2\t0\nq2\t7\t1\n'],
  ['qrels.test.txt', 'q1 0 d1 2\nq1 0 d2 0\nq2 0 7 1\n'],
  ['test.qrels', 'q1 0 d1 2\nq1 0 d2 0\nq2 0 7 1\n'],
])('%s: %j', async (name, content) => {
  expect(await judged({ [name]: content })).toEqual(right);
});

test('parts of one table are one split; two forms of a split are refused', async () => {
  const [a, b] = ['query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n', 'query-id\tcorpus-id\tscore\nq2\t7\t1\n'];
  expect(await judged({ 'qrels/test-00000-of-00002.tsv': a, 'qrels/test-00001-of-00002.tsv': b })).toEqual(right);
  await expect(judged({ 'qrels/test.tsv': a, 'qrels/test.txt': 'q1 0 d1 1\n' })).rejects.toThrow(
    /qrels.test\.tsv and .*qrels.test\.txt both hold judgements of the split 'test'; keep one of them/,
  );
  await expect(judged({ 'qrels/test.tsv.zst': a })).rejects.toThrow(
    /test\.tsv\.zst is not a file of judgements that is/,
  );
});

describe('judgements that do not fit', () => {
  test('of a missing document: relevant and never found, as trec_eval counts it, with a warning', async () => {
    const dir = folder({ 'qrels/test.tsv': 'q1\td1\t1\nq1\td9\t1\nq2\td2\t1\n' });
    const dataset = await openDataset(dir);
    const run = new Map([
      ['q1', { ids: ['d1', 'd2'], scores: [2, 1] }],
      ['q2', { ids: ['d2', 'd1'], scores: [2, 1] }],
    ]);
    const { means } = evaluateRun(run, dataset.qrels('test'), ['recall@10', 'ndcg@10', 'map']);
    // pytrec_eval: recall 0.5 and 1, ndcg 1 / (1 + 1 / log2(3)) and 1, map 0.5 and 1.
    expect(means['recall@10']).toBeCloseTo(0.75, 12);
    expect(means['ndcg@10']).toBeCloseTo((1 / (1 + 1 / Math.log2(3)) + 1) / 2, 12);
    expect(means.map).toBeCloseTo(0.75, 12);
    expect(dataset.warnings).toEqual([
      {
        code: 'data.unknown-documents-test',
        text: "1 of 3 judgements in test.tsv are of documents that the corpus lacks, e.g. 'd9': they count as never found, as trec_eval counts them",
      },
    ]);
    expect([...relevantDocuments(dataset, 'test').values()].map((own) => [...own.keys()])).toEqual([[0], [1]]);
  });

  test('of a missing query: left out with a warning', async () => {
    const dataset = await openDataset(folder({ 'qrels/test.tsv': 'q1\td1\t1\nq9\td1\t1\n' }));
    expect([...dataset.qrels('test').keys()]).toEqual(['q1']);
    expect(dataset.warnings?.[0].text).toBe(
      "1 of 2 judgements in test.tsv are left out: the data has no such query, e.g. 'q9'",
    );
  });

  test('twice with other grades: the highest counts', async () => {
    const dataset = await openDataset(folder({ 'qrels/test.tsv': 'q1\td1\t2\nq1\td1\t0\n' }));
    expect([...(dataset.qrels('test').get('q1') ?? [])]).toEqual([['d1', 2]]);
    expect(dataset.warnings?.[0].text).toMatch(/1 pairs in test\.tsv are judged more than once with different grades/);
  });

  test.each([
    ['query-id\tcorpus-id\tscore\n', /test\.tsv holds no judgement; add lines/],
    ['', /test\.tsv holds no judgement/],
    ['q9\td1\t1\n', /none of its 1 judgements is of a query that the data holds \(e\.g\. 'q9'\)/],
    ['q1\td1\t0.5\n', /test\.tsv line 1: expected query-id, corpus-id and a whole number/],
    ['q1\td1\t1e39\n', /test\.tsv line 1: expected query-id, corpus-id and a whole number/],
    ['q1\td1\n', /test\.tsv line 1: expected query-id, corpus-id and a whole number/],
  ])('%j is refused', async (content, message) => {
    await expect(judged({ 'qrels/test.tsv': content })).rejects.toThrow(message);
  });
});

test('ids beyond 2^53 are read exactly, as numbers and as texts', async () => {
  const dir = folder({
    'corpus.jsonl': texts(['9007199254740993', '9007199254740992', '123456789012345678901234567890', '3']),
    'qrels/test.tsv': 'q1\t9007199254740993\t1\nq2\t123456789012345678901234567890\t1\n',
    'qrels/dev.jsonl': '{"query-id": "q1", "corpus-id": 9007199254740993, "score": 1}\n',
  });
  const dataset = await openDataset(dir);
  expect(dataset.documents.ids).toEqual([
    '9007199254740993',
    '9007199254740992',
    '123456789012345678901234567890',
    '3',
  ]);
  expect(dataset.warnings).toEqual([]);
  expect([...dataset.qrels('dev')].map(([q, g]) => [q, [...g]])).toEqual([['q1', [['9007199254740993', 1]]]]);
});

test('corpus and queries in other forms, in folders with judgements in data/, as on the Hub', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'hub-'));
  for (const [name, content] of Object.entries({
    'corpus/corpus-00000-of-00002.csv': 'id,title,text\nd1,T,one\n',
    'corpus/corpus-00001-of-00002.csv': 'id,title,text\nd2,,"two, three"\n',
    'queries/queries-00000-of-00001.jsonl': '{"_id": "q1", "text": "q"}\n',
    'data/test-00000-of-00001.jsonl': '{"query-id": "q1", "corpus-id": "d2", "score": 1}\n',
    'README.md': '',
  })) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  const { documents, qrels, notes } = await openDataset(dir);
  expect([documents.text(0), documents.title?.(0), documents.text(1)]).toEqual(['T one', 'T', 'two, three']);
  expect([...qrels('test')].map(([q, g]) => [q, [...g]])).toEqual([['q1', [['d2', 1]]]]);
  expect(notes).toEqual([
    'corpus/corpus-00000-of-00002.csv, corpus/corpus-00001-of-00002.csv: 2 documents; queries/queries-00000-of-00001.jsonl: 1 queries',
    'data/test-00000-of-00001.jsonl (test): query-id, corpus-id, score; 1 judgements of 1 queries, 1 positives',
  ]);
});

test('documents of the same text as a relevant one, or as the query, are never negatives', async () => {
  const document = (id: string, text: string): string => `${JSON.stringify({ _id: id, text })}\n`;
  const dir = folder({
    'corpus.jsonl':
      document('a', 'one  text') + document('b', 'one text ') + document('c', 'text of q1') + document('d', 'x'),
    'qrels/test.tsv': 'q1\ta\t1\n',
  });
  const dataset = await openDataset(dir);
  const never = neverNegative(dataset, 'test');
  expect([...never(0)].sort()).toEqual([0, 1, 2]);
  expect([...never(1)]).toEqual([]);
});
