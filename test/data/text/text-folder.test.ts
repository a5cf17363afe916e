/** @file Folders of text, Markdown and HTML: passages with titles, refusals, made queries. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { withMadeQueries } from '../../../data/made-queries.ts';
import { openDataset } from '../../../data/open.ts';
import { textReaders } from '../../../data/text/blocks.ts';
import { passages } from '../../../data/text/passages.ts';
import { openTextFolder, textFiles } from '../../../data/text-folder.ts';

const folders: string[] = [];
function folder(files: Record<string, string | Buffer>): string {
  const dir = mkdtempSync(join(tmpdir(), 'texts-'));
  folders.push(dir);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  return dir;
}
afterAll(() => {
  for (const dir of folders.splice(0)) rmSync(dir, { recursive: true });
});

const words = (n: number, word = 'word'): string => Array.from({ length: n }, (_, i) => `${word}${i}`).join(' ');

describe('passages', () => {
  test('paragraphs are joined while they fit, never across a heading', () => {
    const found = passages(
      'Guide',
      [
        { heading: false, text: words(50) },
        { heading: false, text: words(60) },
        { heading: false, text: words(30) },
        { heading: true, text: 'Setup' },
        { heading: false, text: words(10) },
      ],
      { words: 120 },
    );
    expect(found.map((p) => [p.title, p.text.split(/\s+/).length])).toEqual([
      ['Guide', 110],
      ['Guide', 30],
      ['Guide: Setup', 10],
    ]);
  });
  test('a long paragraph is cut between sentences, a long sentence between words, and nothing is lost', () => {
    const text = `First one here. ${words(25, 'Word')}. Last.`;
    const found = passages('T', [{ heading: false, text }], { words: 10 });
    expect(found.map((p) => p.text).join(' ')).toBe(text);
    expect(Math.max(...found.map((p) => p.text.split(' ').length))).toBeLessThanOrEqual(10);
    expect(found[0].text).toBe('First one here.');
  });
  test('text without spaces is counted by characters', () => {
    const text = '東京は日本の首都です。'.repeat(20);
    const found = passages('東京', [{ heading: false, text }], { words: 50 });
    expect(found.length).toBeGreaterThan(3);
    expect(found.map((p) => p.text).join('')).toBe(text);
  });
});

describe('readers', () => {
  test('Markdown: title of the header or of the first heading, code and links as text', async () => {
    const read = textReaders.md;
    expect(
      await read(
        '---\ntitle: "Own title"\n---\n# Head\n\nSome *text* with a [link](http://a.b) and `code`.\n\n- one\n- two\n',
      ),
    ).toEqual({
      title: 'Own title',
      blocks: [
        { heading: true, text: 'Head' },
        { heading: false, text: 'Some text with a link and code.' },
        { heading: false, text: 'one\ntwo' },
      ],
    });
    expect((await read('# Head\n\ntext')).title).toBe('Head');
  });
  test('HTML: title, headings, entities; no scripts, styles, navigation or addresses', async () => {
    const { title, blocks } = await textReaders.html(
      '<html><head><title>A &amp; B</title><style>p{}</style></head><body><nav>menu</nav><h2>Part</h2><p>x &lt; y <a href="u">here</a></p><script>evil()</script></body></html>',
    );
    expect(title).toBe('A & B');
    expect(blocks).toEqual([
      { heading: true, text: 'Part' },
      { heading: false, text: 'x < y here' },
    ]);
  });
});

describe('a folder', () => {
  test('its passages have ids by path and titles; hidden files and others are left out', async () => {
    const dir = folder({
      'b/notes.txt': 'One paragraph.\n\nAnother.',
      'a.md': '# Alpha\n\ntext of alpha',
      '.git/x.md': '# no',
      'image.png': 'x',
      'empty.txt': '\n',
    });
    const data = await openTextFolder(dir);
    expect([...data.documents.ids]).toEqual(['a.md#1', 'b/notes.txt#1']);
    expect(data.documents.text(0)).toBe('Alpha text of alpha');
    expect(data.documents.title?.(1)).toBe('notes');
    expect(data.notes).toEqual(['2 passages of 2 text files', '1 text files hold no text, the first is empty.txt']);
    expect(textFiles(dir)).toHaveLength(3);
  });
  test('Latin-1 is refused with file and line, UTF-16 with its mark is read', async () => {
    const dir = folder({ 'x.txt': Buffer.from('one\ncaf\xe9', 'latin1') });
    await expect(openTextFolder(dir)).rejects.toThrow(`${join(dir, 'x.txt')} line 2 is not UTF-8: received`);
    const wide = folder({ 'x.txt': Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('café', 'utf16le')]) });
    expect((await openTextFolder(wide)).documents.text(0)).toBe('x café');
  });
  test('UTF-16 without its mark, and UTF-16 cut short, are refused', async () => {
    const bare = folder({ 'x.txt': Buffer.from('first\nsecond', 'utf16le') });
    await expect(openTextFolder(bare)).rejects.toThrow(
      `${join(bare, 'x.txt')} line 1 holds zero bytes: expected text in UTF-8`,
    );
    const cut = folder({
      'x.txt': Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('cafés', 'utf16le').subarray(0, 9)]),
    });
    await expect(openTextFolder(cut)).rejects.toThrow(`cannot read ${join(cut, 'x.txt')} (it is not valid UTF-16)`);
  });
  test('a folder without text is refused', async () => {
    await expect(openTextFolder(folder({ 'a.txt': ' ' }))).rejects.toThrow('holds no text');
  });
});

describe('made queries', async () => {
  const dir = folder(
    Object.fromEntries(
      Array.from({ length: 60 }, (_, i) => [
        `f${i}.md`,
        `# Title ${i}\n\nThe ${words(12, `w${i}x`)} end. Some other sentence ${i} here.`,
      ]),
    ),
  );
  const data = withMadeQueries(await openTextFolder(dir), { seed: 1 });
  test('each is relevant to its document; held-out ones are not in training', () => {
    expect(data.splits).toEqual(['dev', 'test', 'train']);
    const text = (split: string) =>
      [...data.qrels(split).keys()].map((id) => data.queries.text(data.queries.indexOf(id) as number));
    expect(text('dev')).toHaveLength(6);
    expect(text('test')).toHaveLength(6);
    expect(text('train').filter((t) => text('dev').includes(t) || text('test').includes(t))).toEqual([]);
    for (const split of data.splits)
      for (const [id, grades] of data.qrels(split)) {
        const query = data.queries.text(data.queries.indexOf(id) as number);
        for (const d of grades.keys())
          expect(data.documents.text(data.documents.indexOf(d) as number)).toContain(query.split(' ')[0]);
      }
  });
  test('that they are made is said, and the same seed makes the same', async () => {
    expect(data.warnings?.[0].text).toMatch(/^there are no queries: \d+ were generated from the documents/);
    const again = withMadeQueries(await openTextFolder(dir), { seed: 1 });
    expect(again.queries.hash).toBe(data.queries.hash);
    expect(withMadeQueries(await openTextFolder(dir), { seed: 2 }).queries.hash).not.toBe(data.queries.hash);
  });
});

describe('rows of documents alone', () => {
  const rows = (n: number, of: (i: number) => object) =>
    Array.from({ length: n }, (_, i) => `${JSON.stringify(of(i))}\n`).join('');
  const sentence = (i: number) => `Number ${i} has a sentence of its own, ${words(4, `v${i}x`)}.`;
  test('ids and titles are kept, long texts are cut, what is not read is said', async () => {
    const long = Array.from({ length: 5 }, (_, i) => words(60, `p${i}x`)).join('\n\n');
    const dir = folder({
      'docs.jsonl': rows(12, (i) => ({ id: i, title: `T ${i}`, text: i === 3 ? long : sentence(i), url: 'x' })),
    });
    const data = await openDataset(dir);
    expect([...data.documents.ids].slice(2, 7)).toEqual(['2', '3#1', '3#2', '3#3', '4']);
    expect(data.documents.title?.(0)).toBe('T 0');
    expect(data.documents.text(0)).toBe(`T 0 ${sentence(0)}`);
    expect(data.notes?.[0]).toBe(
      'docs.jsonl: documents only, text = text, title = title, id = id; 12 rows, 14 passages; not read: url',
    );
    expect(data.made).toBe(data.queries.length);
    expect(data.warnings?.[0].code).toBe('data.made-queries');
  });
  test.each([
    ['a title and a text may be a pair', { title: 'a', text: 'b' }],
    ['a query and a text are', { query: 'a', text: 'b' }],
  ])('%s', async (_, row) => {
    const data = await openDataset(folder({ 'train.jsonl': rows(12, (i) => ({ ...row, text: sentence(i) })) }));
    expect(data.made).toBeUndefined();
  });
  test('fewer than ten texts are refused as rows that lack a column, and as a folder', async () => {
    await expect(openDataset(folder({ 'a.jsonl': rows(3, (i) => ({ text: sentence(i) })) }))).rejects.toThrow(
      'expected a query and a document',
    );
    await expect(openDataset(folder({ 'a.md': '# A\n\nfew words' }))).rejects.toThrow('are too few to make queries of');
    await expect(openDataset(folder({ 'README.md': '# A\n\nfew words' }))).rejects.toThrow('corpus.jsonl');
  });
});

describe('a data set that lacks a split to learn from', () => {
  const documents = Array.from({ length: 40 }, (_, i) => ({
    _id: `d${i}`,
    title: `Name ${i}`,
    text: `Number ${i} has ${words(6, `v${i}x`)}.`,
  }));
  const lines = (rows: readonly object[]) => rows.map((r) => `${JSON.stringify(r)}\n`).join('');
  const judged = 'query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t1\n';
  const data = (queries: number, qrels: Record<string, string>) =>
    folder({
      'corpus.jsonl': lines(documents),
      'queries.jsonl': lines(Array.from({ length: queries }, (_, i) => ({ _id: `q${i}`, text: `asked ${i}` }))),
      ...Object.fromEntries(Object.entries(qrels).map(([split, text]) => [`qrels/${split}.tsv`, text])),
    });
  test('with test queries alone: dev and train are generated, test stays as it is', async () => {
    const dir = data(2, { test: judged });
    const made = await openDataset(dir, { makes: ['train'] });
    expect(made.splits).toEqual(['dev', 'test', 'train']);
    expect([...made.qrels('test').keys()]).toEqual(['q0', 'q1']);
    const ids = ['dev', 'train'].flatMap((split) => [...made.qrels(split).keys()]);
    expect(ids.every((id) => id.startsWith('made-'))).toBe(true);
    expect(new Set(ids).size).toBe(made.made);
    const relevant = (split: string) =>
      new Set([...made.qrels(split).values()].flatMap((grades) => [...grades.keys()]));
    const held = relevant('dev');
    expect([...relevant('train')].filter((d) => held.has(d))).toEqual([]);
    expect(made.warnings?.at(-1)?.text).toMatch(
      /^there is no split 'train': queries generated from the documents teach/,
    );
    // What only measures makes nothing.
    expect((await openDataset(dir)).splits).toEqual(['test']);
  });
  test('with queries that nothing judges: they teach, dev is generated', async () => {
    const made = await openDataset(data(150, { test: judged }), { makes: ['train'] });
    expect(made.splits).toEqual(['dev', 'test', 'train']);
    expect(made.qrels('train').size).toBe(0);
    expect(made.made).toBeUndefined();
    expect(made.warnings?.at(-1)?.text).toMatch(/the 148 queries that nothing judges teach/);
  });
  test('which do not teach where data.unlabelled leaves them out, and keep their fields', async () => {
    const dir = data(150, { test: judged });
    const made = await openDataset(dir, { makes: ['train'], unlabelled: false });
    expect(made.qrels('train').size).toBeGreaterThan(0);
    expect(made.warnings?.at(-1)?.text).toMatch(/queries generated from the documents teach/);
    const dated = Array.from({ length: 150 }, (_, i) => ({ _id: `q${i}`, text: `asked ${i}`, day: i }));
    writeFileSync(join(dir, 'queries.jsonl'), lines(dated));
    const { queries } = await openDataset(dir, { makes: ['train'], queryMetadata: true });
    expect(queries.metadata?.(149)).toEqual({ day: 149 });
  });
  test('with rows for test alone: their lists stay, no order is claimed for them', async () => {
    const rows = Array.from({ length: 12 }, (_, i) => ({
      query: `asked ${i}`,
      positive: `${words(6, `p${i}x`)}.`,
      negative: `${words(6, `n${i}x`)}.`,
    }));
    const made = await openDataset(folder({ 'test.jsonl': lines(rows) }), { makes: ['train'] });
    expect(made.splits).toEqual(['dev', 'test', 'train']);
    expect(made.queries.unordered).toBe(true);
    expect(made.candidates?.('train').queries).toHaveLength(0);
    const lists = made.candidates?.('test');
    const asked = Array.from(lists?.queries ?? [], (q) => made.queries.text(q)).sort();
    expect(asked).toEqual(rows.map((r) => r.query).sort());
    expect([...made.qrels('test').keys()].every((id) => made.queries.indexOf(id) !== undefined)).toBe(true);
  });
  test('of documents too short for a query, it says so', async () => {
    const dir = data(2, { test: judged });
    writeFileSync(join(dir, 'corpus.jsonl'), lines(documents.map(({ _id }) => ({ _id, text: 'word' }))));
    const made = await openDataset(dir, { makes: ['train'] });
    expect(made.splits).toEqual(['test']);
    expect(made.warnings?.at(-1)?.text).toMatch(/no query can be generated from the documents/);
  });
  test('documents that give no query leave no split empty', async () => {
    const rows = Array.from({ length: 12 }, (_, i) => ({
      _id: `d${i}`,
      text: i < 4 ? `${words(8, `t${i}x`)}.` : 'word',
    }));
    const made = await openDataset(folder({ 'corpus.jsonl': lines(rows) }));
    expect(made.splits).toEqual(['dev', 'test', 'train']);
    for (const split of made.splits) expect(made.qrels(split).size).toBeGreaterThan(0);
  });
  test('where nothing gives a query, it says so', async () => {
    const rows = Array.from({ length: 12 }, (_, i) => ({ _id: `d${i}`, title: '***', text: '--- *** ===' }));
    const made = await openDataset(folder({ 'corpus.jsonl': lines(rows) }));
    expect([made.splits, made.queries.length, made.documents.length]).toEqual([[], 0, 12]);
    expect(made.warnings?.at(-1)?.text).toMatch(/no queries, and none can be generated from the documents/);
  });
  test('a dev split of another name and a train split stay', async () => {
    const own = await openDataset(data(2, { test: judged, validation: judged }), { makes: ['train'] });
    expect(own.splits).toEqual(['test', 'train', 'validation']);
    expect((await openDataset(data(2, { test: judged, train: judged }), { makes: ['train'] })).splits).toEqual([
      'test',
      'train',
    ]);
    // Another name may be a split to learn from, which the config must say.
    expect((await openDataset(data(2, { test: judged, old: judged }), { makes: ['train'] })).splits).toEqual([
      'old',
      'test',
    ]);
  });
});
