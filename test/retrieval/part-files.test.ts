/** @file Files of an index's parts: bytes as they were written, and lines that are longer in all than a text can be. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { decodeLines, encodeLines, readChecked } from '../../retrieval/part-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'parts-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('several blocks, and a last one that is not full', async () => {
  const content = new Uint8Array((1 << 24) * 2 + 5).map((_, i) => i % 251);
  writeFileSync(join(folder, 'a.bin'), content);
  const hash = createHash('sha256').update(content).digest('hex');
  const read = await readChecked(folder, { name: 'a.bin', hash });
  expect(Buffer.compare(read, content)).toBe(0);
  expect(read.byteOffset).toBe(0);
  await expect(readChecked(folder, { name: 'a.bin', hash: 'other' })).rejects.toThrow(
    'is damaged (its checksum differs)',
  );
  await expect(readChecked(folder, { name: 'b.bin', hash })).rejects.toThrow('b.bin cannot be read (ENOENT)');
});

test.each([[[]], [[{ id: 'a', text: 'one\ntwo' }]], [[{ id: 'a' }, { id: 'é🙂', metadata: [null, 1] }, 'text']]])(
  'lines: %j',
  (values) => {
    expect(decodeLines(encodeLines(values))).toEqual(values);
  },
);

test('more bytes in all than one text holds', () => {
  const long = 'x'.repeat(1 << 26);
  const values = Array.from({ length: 9 }, (_, i) => ({ id: String(i), text: long }));
  const bytes = encodeLines(values);
  expect(bytes.length).toBeGreaterThan(0x1fffffe8);
  const read = decodeLines<{ id: string; text: string }>(bytes);
  expect(read.map((v) => v.id)).toEqual(values.map((v) => v.id));
  expect(read.every((v) => v.text.length === long.length)).toBe(true);
});
