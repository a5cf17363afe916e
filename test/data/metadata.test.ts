/** @file What else rows say of documents: read where it is asked for, as JSON has it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { metadataOf } from '../../data/files/metadata.ts';
import { openDataset } from '../../data/open.ts';

const folder = mkdtempSync(join(tmpdir(), 'metadata-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const lines = (rows: readonly string[]): string => rows.map((r) => `${r}\n`).join('');

test.each([
  [{ metadata: {} }, undefined],
  [{ metadata: null, url: undefined }, undefined],
  [
    { metadata: { url: 'a' }, year: 3 },
    { url: 'a', year: 3 },
  ],
  [
    { metadata: { url: 'a' }, url: 'b' },
    { metadata: { url: 'a' }, url: 'b' },
  ],
  [{ metadata: ['x'] }, { metadata: ['x'] }],
  [
    { n: 12345678901234567890n, m: 7n, x: Number.NaN },
    { n: '12345678901234567890', m: 7, x: null },
  ],
  [
    { at: new Date(0), bad: new Date(Number.NaN) },
    { at: '1970-01-01T00:00:00.000Z', bad: null },
  ],
  [
    { bytes: Uint8Array.of(1, 2), list: Int32Array.of(3, 4), deep: { n: [5n] } },
    { bytes: 'AQI=', list: [3, 4], deep: { n: [5] } },
  ],
  [{ _id: 'a', text: 'b' }, undefined],
])('%o', (values, expected) => {
  expect(metadataOf(values, ['_id', 'text', 'title'])).toEqual(expected);
});

test('of a corpus in the layout of BEIR: the id, the title and the text are not repeated', async () => {
  writeFileSync(
    join(folder, 'corpus.jsonl'),
    lines([
      '{"_id": "a", "title": "t", "text": "one", "metadata": {"url": "u"}, "year": 2001}',
      '{"doc_id": "b", "contents": "two", "big": 12345678901234567890}',
      '{"_id": "c", "text": "three", "metadata": {}}',
    ]),
  );
  writeFileSync(join(folder, 'queries.jsonl'), lines(['{"_id": "q", "text": "one", "lang": "en"}']));
  const { documents, queries } = await openDataset(folder, { metadata: true });
  expect([0, 1, 2].map((i) => documents.metadata?.(i))).toEqual([
    { url: 'u', year: 2001 },
    { big: '12345678901234567890' },
    undefined,
  ]);
  expect(queries.metadata).toBeUndefined();
  const plain = await openDataset(folder);
  expect(plain.documents.metadata).toBeUndefined();
  expect(plain.documents.hash).toBe(documents.hash);
});

test('of rows that hold documents alone', async () => {
  const file = join(folder, 'rows.jsonl');
  writeFileSync(
    file,
    lines(Array.from({ length: 12 }, (_, i) => `{"id": "r${i}", "text": "text number ${i}", "url": "u${i}"}`)),
  );
  const { documents, notes } = await openDataset(file, { metadata: true });
  expect(documents.metadata?.(3)).toEqual({ url: 'u3' });
  expect(notes?.join()).not.toContain('not read: url');
  expect((await openDataset(file)).notes?.join()).toContain('not read: url');
});
