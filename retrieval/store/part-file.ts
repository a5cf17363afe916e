/**
 * @file A part of an index as one file: codes, ids and tables, read into place when it is opened, and behind them the documents,
 * which stay in the file.
 *
 * Each table is its length as 8 bytes, its bytes, and zeros up to a multiple of 8. The checksum in the manifest is of all that is
 * before the documents; each document has one of its own among the tables.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { writeFrom } from '../../common/files.ts';
import { type Cells, readCells } from '../cells.ts';
import { roomFor } from '../codecs/kernel.ts';
import type { EncodedPart } from '../vector-index.ts';
import { damaged } from './checked-files.ts';
import { Documents, type Row } from './documents.ts';

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

const BLOCK = 1 << 24;
const padded = (n: number): number => Math.ceil(n / 8) * 8;
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** Writes a part. @returns what the manifest says of it, and the documents as they are read from it */
export async function writePartFile(
  folder: string,
  name: string,
  { codes, exact, cells }: EncodedPart,
  rows: readonly Row[],
): Promise<{ sizes: PartSizes; documents: Documents }> {
  const path = join(folder, name);
  const tables = tablesOf(rows);
  const runs = [codes, exact, tables.ids, tables.idStarts, tables.starts, tables.sums, cells?.starts, cells?.order];
  const head = runs.reduce((n, run) => n + (run ? 8 + padded(run.byteLength) : 0), 0);
  const bytes = head + tables.starts[rows.length];
  const sum = createHash('sha256');
  await writeFrom(path, async (temporary) => {
    const file = await open(temporary, 'w');
    try {
      for (const run of runs) if (run) await writeRun(file, bytesOf(run), sum);
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
  const documents = new Documents(tables, { fd: openSync(path, 'r'), path, start: head });
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

async function writeRun(file: FileHandle, run: Uint8Array, sum: Hash): Promise<void> {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(run.byteLength));
  for (const piece of [length, run, Buffer.alloc(padded(run.byteLength) - run.byteLength)]) {
    sum.update(piece);
    await writeAll(file, piece);
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; )
    at += (await file.write(bytes, at, Math.min(BLOCK, bytes.length - at))).bytesWritten;
}

/** Opens a part. @throws InputError where the file cannot be read, is of another length, or its checksum differs */
export async function readPartFile(folder: string, file: PartSizes & { count: number }): Promise<StoredPart> {
  const path = join(folder, file.name);
  let fd: number | undefined;
  let handle: FileHandle | undefined;
  try {
    fd = openSync(path, 'r');
    handle = await open(path, 'r');
    const { size } = await handle.stat();
    if (size !== file.bytes) throw damaged(`${path} is damaged (it has ${size} bytes, expected ${file.bytes})`);
    const runs = await readRuns(handle, path, file);
    const part = partOf(runs, file, { fd, path, start: file.head });
    fd = undefined;
    return part;
  } catch (cause) {
    if (fd !== undefined) closeSync(fd);
    if (cause instanceof InputError) throw cause;
    throw damaged(
      `${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message})`,
      cause,
    );
  } finally {
    await handle?.close();
  }
}

/** Tables that the kernels scan are read to where they are scanned. */
const SCANNED = 2;

async function readRuns(handle: FileHandle, path: string, { head, hash }: PartSizes): Promise<Uint8Array[]> {
  const sum = createHash('sha256');
  const runs: Uint8Array[] = [];
  const into = async (target: Uint8Array, from: number): Promise<void> => {
    for (let at = 0; at < target.length; ) {
      const { bytesRead } = await handle.read(target, at, Math.min(BLOCK, target.length - at), from + at);
      if (!bytesRead) throw damaged(`${path} is damaged (it ends early)`);
      sum.update(target.subarray(at, at + bytesRead));
      at += bytesRead;
    }
  };
  for (let at = 0; at < head; ) {
    const length = Buffer.alloc(8);
    await into(length, at);
    const size = Number(length.readBigUInt64LE());
    if (at + 8 + padded(size) > head) throw damaged(`${path} is damaged (a table is longer than the file)`);
    const run = runs.length < SCANNED ? roomFor(size) : new Uint8Array(size);
    await into(run, at + 8);
    await into(new Uint8Array(padded(size) - size), at + 8 + size);
    runs.push(run);
    at += 8 + padded(size);
  }
  if (sum.digest('hex') !== hash) throw damaged(`${path} is damaged (its checksum differs)`);
  return runs;
}

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
