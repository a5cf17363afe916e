/** @file Rows and judgements as Tevatron, DPR, MS MARCO, ESCI and others write them: read right, or refused by name. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { tableFromArrays, tableFromJSON, tableToIPC } from 'apache-arrow';
import { describe, expect, test } from 'vitest';
import { openDataset } from '../../data/open.ts';

function folder(files: Record<string, string | Uint8Array>): string {
  const dir = mkdtempSync(join(tmpdir(), 'known-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  return dir;
}
const jsonl = (rows: readonly object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');
const two = (row: (i: number) => object): object[] => [row(0), row(1)];

/** Each query's documents with their grades, as texts. */
async function judged(files: Record<string, string | Uint8Array>): Promise<Record<string, Record<string, number>>> {
  const { queries, documents, qrels } = await openDataset(folder(files), { holdOut: 0 });
  const text = (table: typeof queries, id: string): string => table.text(table.indexOf(id) as number);
  return Object.fromEntries(
    [...qrels('train')].map(([q, own]) => [
      text(queries, q),
      Object.fromEntries([...own].map(([d, g]) => [text(documents, d), g])),
    ]),
  );
}
const wanted = { q0: { 'T right 0': 1, 'T wrong 0': 0 }, q1: { 'T right 1': 1, 'T wrong 1': 0 } };
const passage = (text: string): object => ({ docid: text, title: 'T', text });

describe('passages as objects', () => {
  test('Tevatron', async () => {
    const rows = two((i) => ({
      query_id: `${i}`,
      query: `q${i}`,
      positive_passages: [passage(`right ${i}`)],
      negative_passages: [passage(`wrong ${i}`)],
    }));
    expect(await judged({ 'train.jsonl': jsonl(rows) })).toEqual(wanted);
  });

  test('DPR: its answers are not the documents', async () => {
    const rows = two((i) => ({
      question: `q${i}`,
      answers: [`answer ${i}`],
      positive_ctxs: [passage(`right ${i}`)],
      negative_ctxs: [],
      hard_negative_ctxs: [passage(`wrong ${i}`)],
    }));
    expect(await judged({ 'train.json': JSON.stringify(rows) })).toEqual(wanted);
  });

  test('records of Arrow', async () => {
    const rows = two((i) => ({
      query: `q${i}`,
      positive: { title: 'T', text: `right ${i}` },
      negative: `T wrong ${i}`,
    }));
    const table = tableFromJSON(rows as Record<string, unknown>[]);
    expect(await judged({ 'train.arrow': tableToIPC(table, 'stream') })).toEqual(wanted);
    // Lists are still lists.
    const plain = tableFromArrays({
      query: ['q0', 'q1'],
      positive: ['T right 0', 'T right 1'],
      negative: ['T wrong 0', 'T wrong 1'],
    });
    expect(await judged({ 'train.arrow': tableToIPC(plain, 'stream') })).toEqual(wanted);
  });

  test('SQuAD: the context is the document', async () => {
    const rows = two((i) => ({
      title: 'T',
      context: `c${i}`,
      question: `q${i}`,
      answers: { text: ['a'], answer_start: [3] },
    }));
    expect(await judged({ 'train.jsonl': jsonl(rows) })).toEqual({ q0: { c0: 1 }, q1: { c1: 1 } });
  });
});

test('scores in which nothing stands are none', async () => {
  const rows = two((i) => ({ query: `q${i}`, pos: [`p${i}`], neg: [`n${i}`], pos_scores: null, neg_scores: null }));
  expect(await judged({ 'train.jsonl': jsonl(rows) })).toEqual({ q0: { p0: 1, n0: 0 }, q1: { p1: 1, n1: 0 } });
});

const csv = (head: string, line: (i: number) => string): string => `${head}\n${line(0)}\n${line(1)}\n`;
const marco = { is_selected: [1, 0], passage_text: ['a', 'b'] };

test.each<[string, Record<string, string>, RegExp]>([
  [
    'MS MARCO',
    { 'train.jsonl': jsonl(two((i) => ({ query: `q${i}`, answers: ['a'], passages: marco }))) },
    /the column 'passages' holds what is not read \(\{"is_selected":\[1,0\]/,
  ],
  [
    'ESCI',
    { 'train.csv': csv('query,product_title,esci_label', (i) => `q${i},t${i},E`) },
    /the column 'esci_label' \("E"\) is called like a judgement and holds no numbers/,
  ],
  [
    'judgements in words',
    { 'train.csv': csv('query,document,is_rel', (i) => `q${i},t${i},true`) },
    /the column 'is_rel' \("true"\) is called like a judgement/,
  ],
  [
    'two judgements',
    { 'train.csv': csv('query,document,label,relevance', (i) => `q${i},t${i},${i},1`) },
    /'label' and 'relevance' are both called like judgements.*ignore: relevance/,
  ],
  [
    'semicolons',
    { 'train.csv': csv('query;document', (i) => `q${i};t${i}`) },
    /its first line \(query;document\) is one column that holds ';'.*save it with commas/,
  ],
  [
    'tabs in .csv',
    { 'train.csv': csv('query\tdocument', (i) => `q${i}\tt${i}`) },
    /is one column that holds '\\t'.*rename it to .tsv/,
  ],
  [
    'commas in .tsv',
    { 'train.tsv': csv('query,document', (i) => `q${i},t${i}`) },
    /is one column that holds ','.*rename it to .csv/,
  ],
])('%s: refused by name', async (_, files, message) => {
  await expect(openDataset(folder(files))).rejects.toThrow(message);
  await expect(openDataset(folder(files))).rejects.toMatchObject({ exitCode: 2 });
});

describe('judgements', () => {
  const beir = (qrels: Record<string, string>): Record<string, string> => ({
    'corpus.jsonl': jsonl([{ _id: 'd0', text: 'a' }]),
    'queries.jsonl': jsonl([{ _id: 'q0', text: 'b' }]),
    ...qrels,
  });
  test.each<[string, Record<string, string>, RegExp]>([
    [
      'a run, whose rank is not a grade',
      { 'qrels/test.txt': 'q0 Q0 d0 1 12.5 bm25\n' },
      /test.txt line 1 has more than four columns.*is a run/,
    ],
    ['a run as CSV', { 'qrels/test.csv': 'q0,Q0,d0,1,12.5,bm25\n' }, /test.csv line 1 has more than four columns/],
    ['hexadecimal', { 'qrels/test.tsv': 'q0\td0\t0x10\n' }, /a whole number/],
  ])('%s is refused', async (_, qrels, message) => {
    await expect(openDataset(folder(beir(qrels)))).rejects.toThrow(message);
  });

  test('further columns under a header are passed over, and 1.0 is 1', async () => {
    const { qrels } = await openDataset(
      folder(beir({ 'qrels/test.tsv': 'query-id\tcorpus-id\tscore\ta\tb\nq0\td0\t1.0\tx\ty\n' })),
    );
    expect(qrels('test').get('q0')?.get('d0')).toBe(1);
  });

  test('a second form of the corpus is named as not read', async () => {
    const dataset = await openDataset(
      folder(beir({ 'qrels/test.tsv': 'q0\td0\t1\n', 'corpus.csv': '_id,text\nd9,x\n', 'corpus.jsonl.gz': '' })),
    );
    expect(dataset.notes).toContainEqual(
      expect.stringMatching(/not read: corpus.csv \(corpus.jsonl holds the documents\)$/),
    );
  });
});
