/** @file The static search: scores by hand and against the library's BM25, files that are refused, and the page in Chromium. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeWorld as demoWorld } from '../../demo-world/world.ts';
import { Random } from '../../math/random.ts';
import { freshModel } from '../../models/new-model.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { StaticEncoder } from '../../static/index.ts';
import { encodeStaticIndex, StaticSearch } from '../../static/search.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { staticTower } from './tower.ts';

const folder = mkdtempSync(join(tmpdir(), 'static-search-'));
const at = (name: string): string => join(folder, name);
const words = 'red blue green cup hat scarf wool open file list'.split(' ');
const random = Random.of(1, 'static search');
const texts = Array.from({ length: 60 }, (_, i) =>
  Array.from({ length: 3 + (i % 9) }, () => words[random.integer(words.length)]).join(' '),
);
let encoder: StaticEncoder;

beforeAll(async () => {
  await freshModel(at('fresh'), { length: 60, text: (i) => texts[i] }, { vocabulary: 300, hidden: 16 });
  await staticTower(at('source'), at('fresh'), 24);
  await exportFolder(at('source'), at('student'), { dtypes: ['static-int8', 'int8'] });
  encoder = new StaticEncoder(readFileSync(at('student/static.safetensors')));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const input = (lambda: number) => {
  const vectors = new Float32Array(60 * encoder.dimensions);
  for (const [i, text] of texts.entries()) vectors.set(encoder.embed(text, 'document'), i * encoder.dimensions);
  const terms = texts.map((t) => encoder.terms(t));
  return { ids: texts.map((_, i) => `d${i}`), vectors, terms, lambda, scale: 2, k1: 0.9, b: 0.4 };
};

test('terms are the tokens of a whole text without those around it', () => {
  const long = Array.from({ length: 200 }, () => 'cup').join(' ');
  expect(encoder.terms(long)).toHaveLength(200);
  const ids = encoder.tokenize('red cup');
  expect(encoder.terms('red cup')).toEqual(ids.slice(1, -1));
});

test('score = cosine + lambda x BM25 / scale, with the BM25 of the library', async () => {
  const search = new StaticSearch(encoder, encodeStaticIndex(input(0.5)));
  expect(search.size).toBe(60);
  // Every word is one piece here: terms are words, and the library's index over them has the same scores.
  const library = await bm25(
    { length: 60, text: (i: number) => texts[i] },
    { analyzer: { kind: 'words', stemmer: null } },
  );
  for (const query of ['red cup', 'open file list', 'wool wool hat', 'green']) {
    const found = search.search(query, 60);
    const lexical = library.search(query, 60);
    const scores = new Map(Array.from(lexical.indices, (d, i) => [d, lexical.scores[i]]));
    const q = encoder.embed(query);
    for (const { id, position, score } of found) {
      expect(id).toBe(`d${position}`);
      const d = encoder.embed(texts[position], 'document');
      const cosine = d.reduce((s, v, k) => s + v * q[k], 0);
      expect(score, `${query} ${id}`).toBeCloseTo(cosine + (0.5 * (scores.get(position) ?? 0)) / 2, 2);
    }
    for (let i = 1; i < found.length; i++) expect(found[i].score).toBeLessThanOrEqual(found[i - 1].score);
    expect(search.search(query, 7)).toEqual(found.slice(0, 7));
  }
});

test('no document, no word that is known, more asked for than there are', () => {
  const none = new StaticSearch(
    encoder,
    encodeStaticIndex({ ...input(1), ids: [], vectors: new Float32Array(0), terms: [] }),
  );
  expect(none.search('red cup')).toEqual([]);
  const search = new StaticSearch(encoder, encodeStaticIndex(input(1)));
  expect(search.search('', 3)).toHaveLength(3);
  expect(search.search('red', 1000)).toHaveLength(60);
});

test('files that are others, cut short or of another width are refused', () => {
  const file = encodeStaticIndex(input(1));
  const refused = 'not a static search index of onnx-distill, or is not whole';
  expect(() => new StaticSearch(encoder, file.subarray(0, file.length - 5))).toThrow(refused);
  expect(() => new StaticSearch(encoder, new Uint8Array(3))).toThrow(refused);
  expect(() => new StaticSearch(encoder, readFileSync(at('student/static.safetensors')))).toThrow(refused);
  const { vectors, ...rest } = input(1);
  const narrow = encodeStaticIndex({ ...rest, vectors: vectors.slice(0, 60 * 4) });
  expect(() => new StaticSearch(encoder, narrow)).toThrow(
    'the index has vectors of 4 dimensions, and the encoder gives 24',
  );
  expect(() => encodeStaticIndex({ ...rest, vectors: vectors.slice(0, 61) })).toThrow(RangeError);
});

const chromium = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find((f) => f && existsSync(f));
const built = existsSync('dist/static/search.js');
if (!chromium || !built)
  console.log('skipped without Chromium or dist/ (set CHROMIUM, npm run build): the page of a static student');

describe.skipIf(!chromium || !built)('the page in Chromium', () => {
  test('searches the demo’s corpus from the disk, under 5 ms a query, with nothing else loaded', async () => {
    const { documents, queries } = await demoWorld({});
    const jsonl = (rows: readonly object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');
    mkdirSync(at('data'));
    writeFileSync(at('data/corpus.jsonl'), jsonl(documents.map(({ id, text }) => ({ _id: id, text }))));
    writeFileSync(at('data/queries.jsonl'), jsonl(queries.map(({ id, text }) => ({ _id: id, text }))));
    const made = spawnSync(
      process.execPath,
      [
        'examples/browser/build-static.js',
        '--student',
        at('student'),
        '--data',
        at('data'),
        '--output',
        at('page.html'),
      ],
      { encoding: 'utf8' },
    );
    expect(made.stderr).toBe('');
    expect(made.stdout).toContain(`${documents.length} documents`);
    expect(statSync(at('page.html')).size).toBeLessThan(8e6);
    const { launch } = await import('puppeteer-core');
    const browser = await launch({ executablePath: chromium, args: ['--no-sandbox', '--disable-gpu'] });
    try {
      const page = await browser.newPage();
      const complaints: string[] = [];
      page.on('console', (m) => complaints.push(m.text()));
      page.on('pageerror', (e) => complaints.push(String(e)));
      page.on('request', (r) => {
        if (!/^(file|data):/.test(r.url())) complaints.push(r.url());
      });
      await page.goto(`file://${at('page.html')}`);
      await page.waitForSelector('body[data-ready]');
      const asked = queries.slice(0, 40).map((q) => q.text);
      const times = await page.evaluate(
        (all) => all.map((t) => (globalThis as never as { show(t: string): number }).show(t)),
        asked,
      );
      const sorted = times.slice(5).sort((a, b) => a - b);
      console.log(
        `a query in Chromium: p50 ${sorted[17].toFixed(2)} ms, p95 ${sorted[33].toFixed(2)} ms over ${documents.length} documents`,
      );
      expect(sorted[17]).toBeLessThan(5);
      await page.type('#query', asked[0]);
      const shown = await page.$$eval('#results li', (items) => items.map((i) => i.getAttribute('data-id')));
      expect(shown).toHaveLength(10);
      expect(complaints).toEqual([]);
    } finally {
      await browser.close();
    }
  });
});
