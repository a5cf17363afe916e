/** @file Files of an index: bytes as they were written. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { crc32, plainCrc32 } from '../../common/crc32.ts';
import { readChecked } from '../../retrieval/store/checked-files.ts';

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

test('the checksum of a document, by zlib and by the table', () => {
  const bytes = Buffer.from('123456789');
  expect([crc32(bytes), plainCrc32(bytes), plainCrc32(new Uint8Array(0))]).toEqual([0xcbf43926, 0xcbf43926, 0]);
});
