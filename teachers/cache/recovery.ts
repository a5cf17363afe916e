/**
 * @file Recovers records from a store with damaged structure: every page of the file is scanned separately, and a record counts
 * if the checksum of key and numbers matches.
 *
 * Reading such a file through LMDB may end the process: it trusts its own offsets. These lines are kept because a cache is hours
 * of a teacher's work (a million pairs at 40 a second are seven hours), and one damaged page above the leaves makes LMDB lose
 * all of it: with every such page overwritten, test/teachers/cache.test.ts gets every record back.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isWhole, KEY_BYTES, type StoredRecord } from './record-store.ts';

/** The layout of LMDB's pages as lmdb 3 writes them: a header, offsets of nodes from its end, nodes from the back. */
const PAGE = 4096;
const HEADER = 24;
const [FLAGS, LOWER] = [18, 20];
const LEAF = 2;
/** A node: its value's size in two halves, flags, its key's size; then key and value, or the number of the value's page. */
const NODE = 8;
const ELSEWHERE = 1;
const PAGES_READ_AT_ONCE = 256;

/** Every whole record of a file, some more than once: pages that are not in use any more are looked at too. */
export function* salvage(folder: string): Generator<StoredRecord> {
  const path = join(folder, 'data.mdb');
  const { size } = statSync(path);
  const file = openSync(path, 'r');
  try {
    const block = Buffer.alloc(PAGE * PAGES_READ_AT_ONCE);
    for (let at = 0; at < size; at += block.length) {
      const length = readSync(file, block, 0, block.length, at);
      for (let p = 0; p + PAGE <= length; p += PAGE) yield* recordsOf(block.subarray(p, p + PAGE), file, size);
    }
  } finally {
    closeSync(file);
  }
}

function* recordsOf(page: Buffer, file: number, size: number): Generator<StoredRecord> {
  if (!(page.readUInt16LE(FLAGS) & LEAF)) return;
  const offsets = Math.min(page.readUInt16LE(LOWER), PAGE - HEADER);
  for (let i = 0; i + 2 <= offsets; i += 2) {
    const node = HEADER + page.readUInt16LE(HEADER + i);
    const [from, to] = [node + NODE, node + NODE + KEY_BYTES];
    if (to + 8 > PAGE || page.readUInt16LE(node + 6) !== KEY_BYTES) continue;
    const length = page.readUInt16LE(node) + page.readUInt16LE(node + 2) * 65_536;
    const value =
      page.readUInt16LE(node + 4) & ELSEWHERE
        ? elsewhere(page, to, length, file, size)
        : page.subarray(to, to + length);
    const key = Buffer.from(page.subarray(from, to));
    if (value?.length !== length) continue;
    if (isWhole(key, value)) yield { key, value: Buffer.from(value) };
  }
}

/** A value on pages of its own. Its length is not believed beyond the file. */
function elsewhere(page: Buffer, at: number, length: number, file: number, size: number): Buffer | undefined {
  const from = Number(page.readBigUInt64LE(at)) * PAGE + HEADER;
  if (!(from + length <= size)) return undefined;
  const value = Buffer.alloc(length);
  return value.subarray(0, readSync(file, value, 0, length, from));
}
