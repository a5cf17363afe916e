/** @file Data as people keep it: columns of any name, labels, scores, encodings, separators; read right or refused in one sentence. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Dataset } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import type { RowOptions } from '../../data/row-dataset.ts';
import { Random } from '../../math/random.ts';

const jsonl = (rows: readonly object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');

function folder(files: Record<string, string | Buffer>): string {
  const dir = mkdtempSync(join(tmpdir(), 'forms-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  return dir;
}

const open = (name: string, content: string | Buffer, options: RowOptions = {}): Promise<Dataset> =>
  openDataset(join(folder({ [name]: content }), name), { holdOut: 0, ...options });

/** Judgements and scores as texts. */
function read(dataset: Dataset, split = 'train') {
  const text = (table: Dataset['queries'], id: string): string => table.text(table.indexOf(id) as number);
  const judged = Object.fromEntries(
    [...dataset.qrels(split)].map(([q, grades]) => [
      text(dataset.queries, q),
      Object.fromEntries([...grades].map(([d, g]) => [text(dataset.documents, d), g])),
    ]),
  );
  const lists = dataset.candidates?.(split);
  const scored = Object.fromEntries(
    Array.from(lists?.queries ?? [], (q, i) => [
      dataset.queries.text(q),
      Object.fromEntries(
        Array.from({ length: lists ? lists.offsets[i + 1] - lists.offsets[i] : 0 }, (_, k) => {
          const at = (lists?.offsets[i] ?? 0) + k;
          return [dataset.documents.text(lists?.documents[at] as number), lists?.scores[at]];
        }),
      ),
    ]),
  );
  return { judged, scored };
}

describe('labels and scores', () => {
  test.each(['docs', 'documents', 'answer', 'positive'])('a list under %s with a list of labels', async (name) => {
    const rows = [{ query: 'q', [name]: ['a', 'b', 'c'], labels: [0, 2, 1] }];
    expect(read(await open('train.jsonl', jsonl(rows))).judged).toEqual({ q: { a: 0, b: 2, c: 1 } });
  });

  test.each(['relevance', 'Rating', 'grade', 'is relevant', 'gain', 'score', 'label'])('%s as grades', async (name) => {
    const dataset = await open('train.csv', `Query,Document,${name}\nq,a,2\nq,b,0\n`);
    expect(read(dataset).judged).toEqual({ q: { a: 2, b: 0 } });
    expect(dataset.notes?.[0]).toMatch(/grades from 0 to 2, above 0 relevant; 2 rows; the split has 1 queries, 1 pos/);
  });

  test.each(['label', 'score'])('1 and -1 under %s are relevant and not', async (name) => {
    const dataset = await open('train.csv', `query,document,${name}\nq,a,1\nq,b,-1\n`);
    expect(read(dataset)).toEqual({ judged: { q: { a: 1, b: 0 } }, scored: { q: { a: Number.NaN, b: Number.NaN } } });
    expect(dataset.notes?.[0]).toContain(`the ${name}s are read as relevant (1) or not (0, -1)`);
  });

  test.each(['label', 'similarity'])('fractions under %s are scores', async (name) => {
    const dataset = await open('train.csv', `sentence1,sentence2,${name}\nq,a,0.25\nq,b,1\n`);
    expect(read(dataset)).toEqual({ judged: {}, scored: { q: { a: 0.25, b: 1 } } });
    expect(dataset.notes?.[0]).toContain("a teacher's scores from 0.25 to 1");
  });

  test('True and False, as pandas writes them', async () => {
    const dataset = await open('train.csv', 'query,document,label\nq,a,True\nq,b,False\n');
    expect(read(dataset).judged).toEqual({ q: { a: 1, b: 0 } });
  });

  test('whole numbers above 10 under score are scores', async () => {
    expect(read(await open('train.csv', 'query,document,score\nq,a,97\nq,b,3\n')).judged).toEqual({});
  });

  test('a label and a score', async () => {
    const dataset = await open('train.csv', 'query,document,label,score\nq,a,1,2.5\nq,b,0,-1\n');
    expect(read(dataset)).toEqual({ judged: { q: { a: 1, b: 0 } }, scored: { q: { a: 2.5, b: -1 } } });
    await expect(open('train.csv', 'query,document,label,score\nq,a,0.5,2.5\n')).rejects.toThrow(
      /the labels of train are from 0\.5 to 0\.5 and not whole numbers, and it has scores as well: expected whole numbers/,
    );
  });

  test('one number with a negative is the margin, also under label', async () => {
    const dataset = await open('train.jsonl', jsonl([{ query: 'q', positive: 'a', negative: 'b', label: 4.5 }]));
    expect(read(dataset)).toEqual({ judged: { q: { a: 1, b: 0 } }, scored: { q: { a: 0, b: -4.5 } } });
  });

  test("FlagEmbedding's rows: scores of both lists, the prompt said", async () => {
    const row = { query: 'q', pos: ['a', 'b'], neg: ['c'], pos_scores: [5.5, 4], neg_scores: [-3], prompt: 'Find: ' };
    const dataset = await open('train.jsonl', jsonl([row]));
    expect(read(dataset)).toEqual({
      judged: { q: { a: 1, b: 1, c: 0 } },
      scored: { q: { a: 5.5, b: 4, c: -3 } },
    });
    expect(dataset.notes?.[0]).toBe(
      'train.jsonl (train): query = query, positive = pos, negatives = neg, score = pos_scores, neg_scores; \'prompt\' ("Find: ") is not read: student.prompts holds instructions; 1 rows; the split has 1 queries, 2 positives',
    );
  });

  test('a count of labels that does not fit, a number beyond 32 bits', async () => {
    await expect(open('a.jsonl', jsonl([{ query: 'q', docs: ['a', 'b'], labels: [1] }]))).rejects.toThrow(
      /a\.jsonl line 1 has 1 labels: expected 2, one a document; fix or remove the row/,
    );
    await expect(open('a.csv', 'query,document,score\nq,a,1e39\n')).rejects.toThrow(
      /a\.csv line 2: 'score': expected a number that fits into 32 bits, received "1e39"/,
    );
  });
});

describe('columns', () => {
  test('as of Home Depot: ids are not texts', async () => {
    const csv =
      'id,product_uid,product_title,search_term,relevance\n2,100001,Angle Bracket,angle bracket,3\n3,100001,Deck Cover,angle bracket,2.33\n';
    const dataset = await open('train.csv', csv);
    expect(read(dataset)).toEqual({
      judged: {},
      scored: { 'angle bracket': { 'Angle Bracket': 3, 'Deck Cover': Math.fround(2.33) } },
    });
    expect(dataset.notes?.[0]).toBe(
      "train.csv (train): query = search_term, document = product_title, label = relevance; not read: id, product_uid; the labels are a teacher's scores from 2.33 to 3; 2 rows; the split has 1 queries, 0 positives",
    );
  });

  test('told by data.columns, by name and by place', async () => {
    const named = await open('a.csv', 'x,y,z\nq,a,1\nq,b,0\n', { columns: { query: 'x', document: 'y', label: 'z' } });
    const placed = await open('a.csv', 'q,a,1\nq,b,0\n', { columns: { query: 1, document: 2, label: 3 } });
    for (const dataset of [named, placed]) expect(read(dataset).judged).toEqual({ q: { a: 1, b: 0 } });
    await expect(open('a.csv', 'x,y\nq,a\n', { columns: { query: 'w' } })).rejects.toThrow(
      /a\.csv line 2 has no column 'w', which data\.columns names: expected one of x, y; name columns that are there/,
    );
  });

  test('numbers under an unknown name are refused, and can be ignored', async () => {
    const csv = 'query,document,votes\nq,a,7\n';
    await expect(open('a.csv', csv)).rejects.toThrow(
      /the column 'votes' holds numbers, and its name does not tell what they mean: expected a name such as label, .* rename it, or set data\.columns: \{ label: votes \}/,
    );
    expect(read(await open('a.csv', csv, { columns: { ignore: 'votes' } })).judged).toEqual({ q: { a: 1 } });
  });

  test('a file without a header, two columns of one name', async () => {
    await expect(open('a.csv', 'red fruit,apple\nblue fruit,berry\n')).rejects.toThrow(
      /a\.csv: the first line \(red fruit, apple\) does not look like the names of columns: .* data\.columns: \{ query: 1, document: 2 \}/,
    );
    await expect(open('a.csv', 'query,document,document\nq,a,b\n')).rejects.toThrow(
      /a\.csv has two columns called 'document'; give each column a name of its own/,
    );
  });

  test("pandas' index column is not read", async () => {
    const dataset = await open('a.csv', ',query,document\n0,q,a\n1,r,b\n');
    expect(read(dataset).judged).toEqual({ q: { a: 1 }, r: { b: 1 } });
  });

  test('empty texts in lists are left out with their numbers, and counted', async () => {
    const dataset = await open('a.jsonl', jsonl([{ query: 'q', docs: ['a', '', null, 'b'], labels: [1, 0, 1, 0] }]));
    expect(read(dataset).judged).toEqual({ q: { a: 1, b: 0 } });
    expect(dataset.notes?.[0]).toContain('1 rows, 2 empty texts left out');
    await expect(open('a.jsonl', jsonl([{ query: 'q', docs: [null, ' '], labels: [1, 1] }]))).rejects.toThrow(
      /line 1: 'docs': expected a text, received \[null," "\]/,
    );
  });
});

test('the order of rows does not matter', async () => {
  const rows = Array.from({ length: 60 }, (_, i) => ({ query: `q ${i % 20}`, document: `d ${i % 37}`, label: i % 3 }));
  const shuffled = Random.of(1).shuffle([...rows]);
  const [a, b] = await Promise.all([rows, shuffled].map((r) => open('pairs.jsonl', jsonl(r), { holdOut: 0.1 })));
  expect([b.queries.ids, b.documents.hash]).toEqual([a.queries.ids, a.documents.hash]);
  for (const split of ['train', 'dev', 'test']) {
    expect([...b.qrels(split)].map(([q, g]) => [q, [...g]])).toEqual([...a.qrels(split)].map(([q, g]) => [q, [...g]]));
    expect(b.candidates?.(split)).toEqual(a.candidates?.(split));
  }
});

describe('encodings and separators', () => {
  test.each(['csv', 'jsonl'])('Latin-1 in %s is refused with its line', async (ending) => {
    const text =
      ending === 'csv' ? 'query,document\nq,a\ncaf\xe9,b\n' : `${jsonl([{ query: 'q', document: 'a' }])}\n"\xe9"\n`;
    await expect(open(`a.${ending}`, Buffer.from(text, 'latin1'))).rejects.toThrow(
      /a\.\w+ line 3 is not UTF-8: received .*; the file is probably in Latin-1 or Windows-1252/,
    );
  });

  test.each([
    ['UTF-8', Buffer.from('\ufeffquery,document\ncafé,b\n')],
    ['UTF-16LE', Buffer.from('\ufeffquery,document\r\ncafé,b\r\n', 'utf16le')],
    ['UTF-16BE', Buffer.from('\ufeffquery,document\ncafé,b\n', 'utf16le').swap16()],
  ])('%s with a byte order mark is read', async (_, bytes) => {
    expect(read(await open('a.csv', bytes)).judged).toEqual({ café: { b: 1 } });
  });

  test('UTF-16 without a byte order mark is refused', async () => {
    await expect(open('a.csv', Buffer.from('query,document\nq,b\n', 'utf16le'))).rejects.toThrow(
      /a\.csv line 1 holds zero bytes: expected text in UTF-8/,
    );
  });

  test('a character across two reads is whole, and what is wrong after it has the right line', async () => {
    const long = `${'é'.repeat(700_000)}`;
    const lines = Buffer.concat([Buffer.from(`x${long}\n`), Buffer.from(`${long}\n`), Buffer.from([0xe9, 10])]);
    await expect(open('a.csv', Buffer.concat([Buffer.from('query,document\n'), lines]))).rejects.toThrow(
      /line 4 is not/,
    );
  });

  test('TSV as pandas quotes it, and with quotation marks as letters', async () => {
    const quoted = await open('a.tsv', 'query\tdocument\n"tab\there, ""x"""\tapple\n"two\nlines"\tb "c"\n');
    expect(read(quoted).judged).toEqual({ 'tab\there, "x"': { apple: 1 }, 'two\nlines': { 'b "c"': 1 } });
    const letters = await open('a.tsv', 'query\tdocument\n"so" he said\tapple\n"x"\tb\n');
    expect(read(letters).judged).toEqual({ '"so" he said': { apple: 1 }, '"x"': { b: 1 } });
    expect(letters.notes?.[0]).toContain('quotation marks are part of the texts');
  });

  test.each(['zst', 'xlsx', 'zip'])('.%s is refused by name', async (ending) => {
    const dir = folder({ [`train.jsonl.${ending}`]: 'x' });
    await expect(openDataset(dir)).rejects.toThrow(
      /train\.jsonl\.\w+ is not a file that is read: .*(unpack it|save it)/,
    );
  });

  test('JSON: an array, an object with one, lines', async () => {
    const rows = [{ query: 'q', document: 'a' }];
    for (const content of [JSON.stringify(rows), JSON.stringify({ version: 1, data: rows }, null, 1), jsonl(rows)])
      expect(read(await open('train.json', content)).judged).toEqual({ q: { a: 1 } });
    await expect(open('train.json', '[1, 2]')).rejects.toThrow(/train\.json is not an array of JSON objects/);
    await expect(open('train.json', '[{"query": ')).rejects.toThrow(/train\.json is not valid JSON/);
  });
});
