/** @file An index in a folder: search as evaluation searches, documents that come and go, opened again, refused where it does not fit. */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sealed, unsealed } from '../../common/sealed.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { hybridSearch } from '../../retrieval/hybrid.ts';
import { lexicalChannel, writeLexicalChannel } from '../../retrieval/lexical-channel.ts';
import { createIndex, openEncoder, openIndex, type SearchIndex } from '../../serving/index.ts';
import { documents, makeWorld, queries } from '../cli/world.ts';

let world: string;
let hybrid: string;
const at = (name: string): string => join(world, name);
const own = documents.map((d, i) => ({ id: d._id, text: `${d.title} ${d.text}`, metadata: { at: i } }));
const texts = { length: own.length, text: (i: number) => own[i].text };
const weight = { lambda: 0.3, scale: 4 };

beforeAll(async () => {
  world = await makeWorld();
  hybrid = at('hybrid');
  cpSync(at('dual'), hybrid, { recursive: true });
  await writeLexicalChannel(hybrid, lexicalChannel(await bm25(texts, { analyzer: 'english' }), weight));
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

let n = 0;
async function made(options: Partial<Parameters<typeof createIndex>[1]> = {}): Promise<SearchIndex> {
  const index = await createIndex(at(`index${n++}`), {
    encoder: at('dual'),
    settings: { codec: 'float32' },
    ...options,
  });
  await index.add(own);
  return index;
}

describe('search', () => {
  test('by vectors: the documents and products of exact search, with text and metadata', async () => {
    const index = await made();
    const encoder = await openEncoder(at('dual'));
    const d = await encoder.embedDocuments(texts.length ? own.map((x) => x.text) : []);
    for (const { text } of queries.slice(0, 6)) {
      const q = await encoder.embedQueries([text]);
      const scores = own.map((_, i) => q.reduce((s, v, k) => s + v * d[i * 16 + k], 0));
      const order = own.map((_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
      const found = await index.search(text, 5);
      expect(found.map((f) => f.id)).toEqual(order.slice(0, 5).map((i) => own[i].id));
      expect(found[0]).toEqual({ ...own[order[0]], score: expect.closeTo(scores[order[0]], 5) });
    }
    expect(await index.search('open', 1000)).toHaveLength(40);
    await encoder.dispose();
    await index.close();
  });

  test('with BM25 where the checkpoint weighs it: as hybridSearch over the stored texts', async () => {
    const index = await made({ encoder: hybrid });
    expect(index.hybrid).toBe(true);
    const encoder = await openEncoder(hybrid);
    const vectors = await encoder.embedDocuments(own.map((x) => x.text));
    const asked = queries.map((q) => q.text);
    const lexical = await bm25(texts, { analyzer: 'english' });
    const hits = await hybridSearch(
      { vectors: await encoder.embedQueries(asked), text: (i) => asked[i] },
      vectors,
      16,
      lexical,
      weight,
      { k: 7 },
    );
    for (const [q, found] of (await index.searchMany(asked, 7)).entries()) {
      expect(found.map((f) => f.id)).toEqual(Array.from({ length: 7 }, (_, i) => own[hits.indices[q * 7 + i]].id));
      for (const [i, f] of found.entries()) expect(f.score).toBeCloseTo(hits.scores[q * 7 + i], 5);
    }
    await encoder.dispose();
    await index.close();
    const dense = await made({ encoder: hybrid, lexical: false });
    expect(dense.hybrid).toBe(false);
    expect(dense.key).not.toBe(index.key);
    await dense.close();
  });

  test('a query whose vector is not finite is a fault', async () => {
    const index = await made();
    const embed = vi.spyOn(index.encoder, 'embedQueries');
    embed.mockResolvedValue(new Float32Array(32).fill(Number.NaN, 16));
    await expect(index.searchMany(['open', 'a\u001b[31m'], 3)).rejects.toThrow('is not finite');
    await index.close();
  });

  test('k is a whole number above 0', async () => {
    const index = await made();
    await expect(index.search('open', 0)).rejects.toThrow('a search for 0 documents: expected a whole number above 0');
    await expect(index.search('open', 1.5)).rejects.toThrow('expected a whole number');
    await index.close();
  });
});

describe.each([['vectors'], ['hybrid']])('documents that come and go, %s', (kind) => {
  test('added, replaced, removed, and there when opened again', async () => {
    const index = await made({ encoder: kind === 'hybrid' ? hybrid : at('dual') });
    await index.add([{ id: 'new', text: 'zebra quagga', metadata: [1] }]);
    expect(index.size).toBe(41);
    expect((await index.search('zebra quagga', 1))[0]).toMatchObject({ id: 'new', metadata: [1] });
    await index.replace({ id: 'new', text: 'okapi' });
    expect(index.size).toBe(41);
    expect(index.get('new')).toEqual({ id: 'new', text: 'okapi' });
    await expect(index.replace({ id: 'nobody', text: 'a' })).rejects.toThrow("no document 'nobody' to replace");
    expect(await index.remove(['new', 'd0', 'nobody'])).toBe(2);
    expect(index.has('d0')).toBe(false);
    const before = await index.searchMany(
      queries.map((q) => q.text),
      10,
    );
    expect(before.flat().some((f) => f.id === 'd0')).toBe(false);
    await index.close();
    const again = await openIndex(index.folder);
    expect(again.size).toBe(39);
    expect(
      await again.searchMany(
        queries.map((q) => q.text),
        10,
      ),
    ).toEqual(before);
    expect([...(again as SearchIndex).documents()].map((d) => d.id)).toEqual(own.slice(1).map((d) => d.id));
    await again.close();
  });

  test('concurrent additions, removals and searches', async () => {
    const index = await made({ encoder: kind === 'hybrid' ? hybrid : at('dual') });
    const work: Promise<unknown>[] = [];
    for (let i = 0; i < 12; i++) {
      work.push(index.add([{ id: `c${i}`, text: `server print ${i}` }]));
      work.push(index.search('server print', 5).then((found) => expect(found).toHaveLength(5)));
      if (i % 3 === 0) work.push(index.remove([`d${i}`]));
    }
    await Promise.all(work);
    expect(index.size).toBe(40 + 12 - 4);
    await index.close();
    const again = await openIndex(index.folder);
    expect([again.size, again.has('c11'), again.has('d9')]).toEqual([48, true, false]);
    await again.close();
  });
});

describe('postings of BM25', () => {
  const asked = queries.map((q) => q.text);
  const terms = (folder: string): string[] =>
    readdirSync(join(folder, 'vectors')).filter((name) => name.startsWith('terms-'));

  test('whose file is missing are made again once, with a line that says so', async () => {
    const index = await made({ encoder: hybrid });
    await index.add([{ id: 'more', text: 'zebra' }]);
    const { folder } = index;
    const before = await index.searchMany(asked, 7);
    await index.close();
    expect(terms(folder)).toHaveLength(2);
    rmSync(join(folder, 'vectors', terms(folder)[0]));
    const notes: string[] = [];
    const onProgress = ({ note }: { note?: string }): void => void (note && notes.push(note));
    for (let round = 0; round < 2; round++) {
      const again = await openIndex(folder, { onProgress });
      expect(await again.searchMany(asked, 7)).toEqual(before);
      await again.close();
    }
    expect(notes).toEqual([
      expect.stringMatching(/has no postings of \d+ documents for BM25 \(.*\): they are made from the texts, once/),
    ]);
    expect(terms(folder)).toHaveLength(2);
  });

  test('are made in memory where another process has the folder, and written by the first change', async () => {
    const index = await made({ encoder: hybrid });
    const { folder } = index;
    const before = await index.searchMany(asked, 7);
    for (const name of terms(folder)) rmSync(join(folder, 'vectors', name));
    const notes: string[] = [];
    const other = await openIndex(folder, { onProgress: ({ note }) => void (note && notes.push(note)) });
    expect(notes).toEqual([expect.stringContaining('for this process alone, since the index')]);
    expect(await other.searchMany(asked, 7)).toEqual(before);
    expect(terms(folder)).toEqual([]);
    await index.close();
    await other.add([{ id: 'more', text: 'zebra' }]);
    expect((await other.search('zebra', 1))[0].id).toBe('more');
    await other.close();
    expect(terms(folder)).toHaveLength(2);
    const again = await openIndex(folder, { onProgress: () => expect.fail() });
    expect((await again.search('zebra', 1))[0].id).toBe('more');
    await again.close();
  });
});

describe('refused', () => {
  test('documents without an id or a text, and a duplicate id: nothing is added', async () => {
    const index = await made();
    const add = (...documents: object[]): Promise<void> => index.add(documents as never);
    await expect(add({ id: 'x' })).rejects.toThrow("document 'x' has no text: expected a text");
    await expect(add({ text: 'x' })).rejects.toThrow('has no id');
    await expect(add({ id: 'x', text: 'a' }, { id: 'x', text: 'b' })).rejects.toThrow("the id 'x' occurs twice");
    expect(index.size).toBe(40);
    // A refused change does not block the next.
    await index.add([{ id: 'x', text: 'a' }]);
    expect(index.size).toBe(41);
    await index.close();
  });

  test('a folder that is not an index, one that is not empty, and a description of another version', async () => {
    await expect(openIndex(at('data'))).rejects.toThrow(
      'holds no index (there is no search.json); make one with distill index',
    );
    await expect(createIndex(at('data'), { encoder: at('dual') })).rejects.toThrow('is not empty');
    const index = await made();
    await index.close();
    const file = join(index.folder, 'search.json');
    const text = readFileSync(file, 'utf8');
    const content = unsealed(text).value as { settings: object };
    for (const [wrong, why] of [
      ['{', 'not JSON'],
      [text.replace('search-2', 'search-1'), 'format "onnx-distill-search-1", expected onnx-distill-search-2'],
      [text.replace('float32', 'float33'), 'its checksum differs'],
      [sealed({ ...content, settings: { codec: 'float33' } }), 'settings: codec'],
      ['{}', 'format undefined'],
    ]) {
      writeFileSync(file, wrong);
      const open = openIndex(index.folder);
      await expect(open).rejects.toThrow(`is not a description of an index of this version (${why}`);
      await expect(openIndex(index.folder)).rejects.toThrow('make the index again with distill index');
    }
    writeFileSync(file, text);
    await (await openIndex(index.folder)).close();
  });

  test('another encoder than it was made with', async () => {
    const index = await made();
    await index.close();
    cpSync(at('dual'), at('changed'), { recursive: true });
    const config = join(at('changed'), 'distill.json');
    writeFileSync(config, JSON.stringify({ config: { student: { queryTokens: 9 } } }));
    await expect(openIndex(index.folder, { encoder: at('changed') })).rejects.toThrow(
      `${at('changed')} is not the encoder that ${index.folder} was made with`,
    );
    rmSync(config);
    await (await openIndex(index.folder, { encoder: at('changed') })).close();
    await expect(openIndex(index.folder, { encoder: at('cross') })).rejects.toThrow('has the outputs');
    const tokenizer = join(at('changed'), 'tokenizer.json');
    const parts = JSON.parse(readFileSync(tokenizer, 'utf8'));
    parts.normalizer.lowercase = false;
    writeFileSync(tokenizer, JSON.stringify(parts));
    await expect(openIndex(index.folder, { encoder: at('changed') })).rejects.toThrow('is not the encoder that');
  });

  test('two writers at a time; the second reads what the first wrote once it is closed', async () => {
    const first = await made();
    const second = await openIndex(first.folder);
    await expect(second.remove(['d1'])).rejects.toThrow('is in use by process');
    await first.remove(['d2']);
    expect(second.size).toBe(40);
    await first.close();
    expect(await second.remove(['d1'])).toBe(1);
    expect(second.size).toBe(38);
    await second.close();
  });
});

describe('settings that meet a recall', () => {
  const asked = own.flatMap(({ text }) => [text, text.slice(0, 20)]);
  test('are found on queries, kept, and used when the index is opened again', async () => {
    const index = await made();
    const before = await index.search('open', 5);
    const found = await index.tune(asked, { recall: 0.9 }, { k: 5 });
    expect(found).toMatchObject({ goal: { recall: 0.9 }, k: 5, documents: 40, heldOut: { queries: 40 } });
    expect(found.heldOut.recall).toBeGreaterThan(0.85);
    const { folder } = index;
    await index.close();
    const again = await openIndex(folder);
    expect([again.settings, (again as SearchIndex).tuned]).toEqual([found.settings, JSON.parse(JSON.stringify(found))]);
    expect((await again.search('open', 5))[0].id).toBe(before[0].id);
    await again.close();
  });
  test('are refused with too few queries, no documents, or vectors that are not kept as they were', async () => {
    const index = await made();
    await expect(index.tune(asked.slice(0, 39), { recall: 0.9 })).rejects.toThrow('39 queries to find settings with');
    await index.close();
    const small = await made({ settings: { codec: 'int8' } });
    await expect(small.tune(asked, { recall: 0.9 })).rejects.toThrow('holds its vectors as int8');
    await small.close();
    const empty = await createIndex(at('nothing'), { encoder: at('dual'), settings: { codec: 'float32' } });
    await expect(empty.tune(asked, { recall: 0.9 })).rejects.toThrow('holds no documents; add documents before');
    await empty.close();
  });
});

test('the beginning of an index is gone on with; folder and checkpoint may be moved', async () => {
  const index = await made();
  await index.close();
  // A kill before the description was written leaves vectors without documents.
  const empty = await createIndex(at('begun'), { encoder: at('dual'), settings: { codec: 'float32' } });
  await empty.close();
  rmSync(join(empty.folder, 'search.json'));
  writeFileSync(join(empty.folder, 'vectors', 'index.json.999999.part'), 'cut');
  const again = await createIndex(empty.folder, { encoder: at('dual'), settings: { codec: 'float32' } });
  expect(again.size).toBe(0);
  await again.add(own.slice(0, 3));
  await again.close();
  expect(readdirSync(join(empty.folder, 'vectors')).some((f) => f.endsWith('.part'))).toBe(false);
  const there = join(world, 'elsewhere');
  cpSync(at('dual'), join(there, 'dual'), { recursive: true });
  cpSync(empty.folder, join(there, 'index'), { recursive: true });
  const moved = await openIndex(join(there, 'index'));
  expect(moved.size).toBe(3);
  await moved.close();
  expect(existsSync(join(there, 'index', 'index.lock'))).toBe(false);
});
