/**
 * @file Tables in a file, one after the other: each is its length as 8 bytes, its bytes, and zeros up to a multiple of 8. A checksum
 * of all of them stands elsewhere.
 */
import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { InputError } from '../../common/errors.ts';
import { damaged } from './checked-files.ts';
import { OpenFile } from './open-file.ts';

/** Bytes written or read at a time. */
const BLOCK = 1 << 24;

export const padded = (n: number): number => Math.ceil(n / 8) * 8;
export const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
/** Bytes that tables take in a file. */
export const sizeOfRuns = (runs: readonly ArrayBufferView[]): number =>
  runs.reduce((n, run) => n + 8 + padded(run.byteLength), 0);

/** Writes tables at the end of a file. @param sum is given the same bytes */
export async function writeRuns(file: FileHandle, runs: readonly ArrayBufferView[], sum: Hash): Promise<void> {
  for (const run of runs) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(run.byteLength));
    for (const piece of [length, bytesOf(run), Buffer.alloc(padded(run.byteLength) - run.byteLength)]) {
      sum.update(piece);
      await writeAll(file, piece);
    }
  }
}

export async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; )
    at += (await file.write(bytes, at, Math.min(BLOCK, bytes.length - at))).bytesWritten;
}

/** Where tables are in a file, and what they are checked with. */
export interface RunsAt {
  readonly from: number;
  readonly to: number;
  /** sha256 of the bytes between. */
  readonly hash: string;
}

/**
 * Reads tables, each to a memory of its own or to where `room` says.
 * @param room where the n-th table of so many bytes is read to
 * @throws InputError where a table does not fit in its place, or the checksum differs
 */
export async function readRuns(
  handle: FileHandle,
  path: string,
  { from, to, hash }: RunsAt,
  room: (n: number, bytes: number) => Uint8Array | undefined = () => undefined,
): Promise<Uint8Array[]> {
  const sum = createHash('sha256');
  const runs: Uint8Array[] = [];
  const into = async (target: Uint8Array, start: number): Promise<void> => {
    for (let at = 0; at < target.length; ) {
      const { bytesRead } = await handle.read(target, at, Math.min(BLOCK, target.length - at), start + at);
      if (!bytesRead) throw damaged(`${path} is damaged (it ends early)`);
      sum.update(target.subarray(at, at + bytesRead));
      at += bytesRead;
    }
  };
  for (let at = from; at < to; ) {
    const length = Buffer.alloc(8);
    await into(length, at);
    const size = Number(length.readBigUInt64LE());
    if (at + 8 + padded(size) > to) throw damaged(`${path} is damaged (a table is longer than the file)`);
    const run = room(runs.length, size) ?? new Uint8Array(size);
    await into(run, at + 8);
    await into(new Uint8Array(padded(size) - size), at + 8 + size);
    runs.push(run);
    at += 8 + padded(size);
  }
  if (sum.digest('hex') !== hash) throw damaged(`${path} is damaged (its checksum differs)`);
  return runs;
}

/**
 * Opens a file that is kept open for reading parts of it later.
 * @param read given the file to read once, and the one that stays open; what it throws closes that
 * @throws InputError where it cannot be read or has another length
 */
export async function openChecked<T>(
  path: string,
  bytes: number,
  read: (handle: FileHandle, kept: OpenFile) => Promise<T>,
): Promise<T> {
  let kept: OpenFile | undefined;
  let handle: FileHandle | undefined;
  try {
    kept = new OpenFile(path);
    handle = await open(path, 'r');
    const { size } = await handle.stat();
    if (size !== bytes) throw damaged(`${path} is damaged (it has ${size} bytes, expected ${bytes})`);
    return await read(handle, kept);
  } catch (cause) {
    kept?.close();
    if (cause instanceof InputError) throw cause;
    throw damaged(
      `${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message})`,
      cause,
    );
  } finally {
    await handle?.close();
  }
}
