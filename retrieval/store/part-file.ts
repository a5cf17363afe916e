/**
 * @file A part of an index as one file: codes, ids and tables, read into place when it is opened, and behind them the documents,
 * which stay in the file.
 *
 * The checksum in the manifest is of the tables, which are before the documents; each document has one of its own among them.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFrom } from '../../common/files.ts';
import { type Cells, readCells } from '../cells.ts';
import { roomFor } from '../codecs/kernel.ts';
import type { EncodedPart } from '../vector-index.ts';
import { damaged } from './checked-files.ts';
import { Documents, type Row } from './documents.ts';
import { OpenFile } from './open-file.ts';
import { openChecked, readRuns, sizeOfRuns, writeAll, writeRuns } from './runs.ts';

/** What the manifest says of the file. */
export interface PartSizes {
  readonly name: string;
  /** sha256 of the first `head` bytes. */
  readonly hash: string;
  readonly head: number;
  /** Bytes of the file. */
  readonly bytes: number;
}

export interface StoredPart extends EncodedPart {
  readonly documents: Documents;
}

/** Bytes of documents that are written at a time. */
const BLOCK = 1 << 24;

/** Writes a part. @returns what the manifest says of it, and the documents as they are read from it */
export async function writePartFile(
  folder: string,
  name: string,
  { codes, exact, cells }: EncodedPart,
  rows: readonly Row[],
): Promise<{ sizes: PartSizes; documents: Documents }> {
  const path = join(folder, name);
  const tables = tablesOf(rows);
  const { ids, idStarts, starts, sums } = tables;
  const runs = [codes, exact, ids, idStarts, starts, sums, ...(cells ? [cells.starts, cells.order] : [])];
  const head = sizeOfRuns(runs);
  const bytes = head + tables.starts[rows.length];
  const sum = createHash('sha256');
  await writeFrom(path, async (temporary) => {
    const file = await open(temporary, 'w');
    try {
      await writeRuns(file, runs, sum);
      let waiting: Uint8Array[] = [];
      let size = 0;
      for (const [i, row] of rows.entries()) {
        waiting.push(row.record());
        size += row.length;
        if (size < BLOCK && i + 1 < rows.length) continue;
        await writeAll(file, Buffer.concat(waiting));
        [waiting, size] = [[], 0];
      }
    } finally {
      await file.close();
    }
  });
  const documents = new Documents(tables, { file: new OpenFile(path), start: head });
  return { sizes: { name, hash: sum.digest('hex'), head, bytes }, documents };
}

function tablesOf(rows: readonly Row[]) {
  const n = rows.length;
  const [idStarts, starts, sums] = [new Uint32Array(n + 1), new Float64Array(n + 1), new Uint32Array(n)];
  for (const [i, { id, length, sum }] of rows.entries()) {
    idStarts[i + 1] = idStarts[i] + id.length;
    starts[i + 1] = starts[i] + length;
    sums[i] = sum;
  }
  const ids = new Uint8Array(idStarts[n]);
  for (const [i, { id }] of rows.entries()) ids.set(id, idStarts[i]);
  return { ids, idStarts, starts, sums };
}

/** Opens a part. @throws InputError where the file cannot be read, is of another length, or its checksum differs */
export async function readPartFile(folder: string, file: PartSizes & { count: number }): Promise<StoredPart> {
  const path = join(folder, file.name);
  return openChecked(path, file.bytes, async (handle, open) => {
    const at = { from: 0, to: file.head, hash: file.hash };
    const runs = await readRuns(handle, path, at, (n, bytes) => (n < SCANNED ? roomFor(bytes) : new Uint8Array(bytes)));
    return partOf(runs, file, { file: open, start: file.head });
  });
}

/** Tables that the kernels scan are read to where they are scanned. */
const SCANNED = 2;

function partOf(
  [codes, exact, ids, idStarts, starts, sums, cellStarts, order]: Uint8Array[],
  { count, name }: { count: number; name: string },
  file: ConstructorParameters<typeof Documents>[1],
): StoredPart {
  const tables = {
    ids,
    idStarts: new Uint32Array(idStarts.buffer),
    starts: new Float64Array(starts.buffer),
    sums: new Uint32Array(sums.buffer),
  };
  if (tables.sums.length !== count) throw damaged(`${name} has ${tables.sums.length} documents, expected ${count}`);
  const cells: Cells | undefined =
    cellStarts && readCells(new Int32Array(cellStarts.buffer), new Int32Array(order.buffer));
  return { count, codes, exact, documents: new Documents(tables, file), ...(cells && { cells }) };
}
