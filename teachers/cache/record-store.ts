/**
 * @file The store behind the cache, an LMDB file: numbers under keys that name teacher, kind and text, each behind a checksum of
 * key and numbers. Several processes may have it open; transactions of one wait for those of another.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Database, open, type RootDatabase } from 'lmdb';
import { demandRoom } from '../../common/disk-space.ts';
import { FaultError, InputError } from '../../common/errors.ts';
import { hashText } from '../../common/files.ts';
import { livingHolder, takeLock } from '../../common/lock.ts';
import { endsProcess, markReadable } from './open-check.ts';

/** Raised when the layout of keys or values changes. */
const LAYOUT = 2;
/** The kind of a record. */
export const recordKinds = ['score', 'query', 'document', 'tokens'] as const;
export type RecordKind = (typeof recordKinds)[number];

/** A teacher with records in the store. */
export interface Source {
  key: string;
  name: string;
  kind: string;
  tokenizer?: string;
  /** The model that a service named when it first answered. */
  served?: string;
  /** Milliseconds since 1970 when it was last opened. */
  used: number;
}

/** A record as it is stored in the file. */
export interface StoredRecord {
  key: Buffer;
  value: Buffer;
}

/** Of every key. */
export const KEY_BYTES = 32;
/** The file in the store's folder. */
export const DATA = 'data.mdb';
const SOURCE_BYTES = 8;
/** Of LMDB, on every machine that it is built for here. */
const PAGE_BYTES = 4096;
const BINARY = { keyEncoding: 'binary', encoding: 'binary' } as const;

export const sourceId = (teacher: string): Buffer =>
  createHash('sha256').update(teacher).digest().subarray(0, SOURCE_BYTES);

/** 8 bytes of the teacher, 1 of the kind, 23 of the texts: records of a teacher are stored together. */
export function recordKey(teacher: string, id: Buffer, kind: RecordKind, ...texts: string[]): Buffer {
  const hash = createHash('sha256').update(teacher);
  for (const part of [kind, ...texts]) {
    hash.update(`\0${Buffer.byteLength(part)}:`);
    hashText(hash, part);
  }
  const key = Buffer.allocUnsafe(KEY_BYTES);
  id.copy(key);
  key[SOURCE_BYTES] = recordKinds.indexOf(kind);
  hash.digest().copy(key, SOURCE_BYTES + 1);
  return key;
}

/** The teacher and the kind that a key names. */
export const partsOfKey = (key: Buffer): { source: string; kind: RecordKind | undefined } => ({
  source: key.toString('hex', 0, SOURCE_BYTES),
  kind: recordKinds[key[SOURCE_BYTES]],
});

/** A value as it is stored: CRC-32 of key and numbers, then the numbers. */
export function encodeValue(key: Buffer, numbers: Float32Array): Buffer {
  const value = Buffer.allocUnsafe(4 + numbers.byteLength);
  value.set(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), 4);
  value.writeUInt32LE(crc32(value.subarray(4), crc32(key)), 0);
  return value;
}

/** Whether a stored value is what was written under its key. */
export function isWhole(key: Buffer, value: Buffer): boolean {
  if (value.length < 8 || value.length % 4) return false;
  return value.readUInt32LE(0) === crc32(value.subarray(4), crc32(key));
}

export interface Entry {
  key: Buffer;
  numbers: Float32Array;
}

export class RecordStore {
  /** Number of values read whose checksum did not match. */
  damaged = 0;
  readonly path: string;
  readonly records: Database<Buffer, Buffer>;
  readonly sources: Database<Source, string>;
  private readonly root: RootDatabase;
  private readonly leave: () => Promise<void>;

  private constructor(path: string, leave: () => Promise<void>) {
    this.path = path;
    this.leave = leave;
    if (!existsSync(join(path, DATA))) this.demandRoom(0, 0);
    this.root = open({ path, noSubdir: false, maxDbs: 8, compression: false });
    const meta = this.root.openDB<number, string>({ name: 'meta' });
    const layout = Number(meta.get('version') ?? LAYOUT);
    if (layout !== LAYOUT) {
      this.root.close();
      throw Number.isInteger(layout) ? otherLayout(path, layout) : damaged(path, 'its layout is not a number');
    }
    if (meta.get('version') === undefined) this.write(1, 0, () => void meta.putSync('version', LAYOUT));
    this.records = this.root.openDB({ name: 'records', ...BINARY });
    this.sources = this.root.openDB({ name: 'sources' });
  }

  /**
   * Opens a store, made where there is none.
   * @throws InputError where the folder cannot hold one, it is from a newer version, or another process rebuilds it
   */
  static async open(path: string): Promise<RecordStore> {
    let leave: (() => Promise<void>) | undefined;
    try {
      mkdirSync(path, { recursive: true });
      leave = await enter(path);
      const ended = await endsProcess(path);
      if (ended) throw damaged(path, ended);
      return new RecordStore(path, leave);
    } catch (cause) {
      await leave?.();
      if (cause instanceof InputError) throw cause;
      throw new InputError({
        code: 'cache.unusable',
        subject: `cannot use ${path} as a cache (${(cause as Error).message})`,
        remedy: 'choose another folder under cache, or remove this one',
        cause,
      });
    }
  }

  /** Numbers kept under a key; undefined where there are none or they are damaged. */
  get(key: Buffer): Float32Array | undefined {
    let value: Buffer | undefined;
    try {
      value = this.records.get(key);
    } catch (cause) {
      throw damaged(this.path, (cause as Error).message, cause);
    }
    if (!value) return undefined;
    if (!isWhole(key, value)) {
      this.damaged++;
      return undefined;
    }
    const numbers = new Float32Array(value.length / 4 - 1);
    Buffer.from(numbers.buffer).set(value.subarray(4));
    return numbers;
  }

  /** Writes all or nothing, on disk when it returns. */
  put(entries: readonly Entry[]): Promise<void> {
    return this.keep(
      entries.length,
      entries.reduce((bytes, e) => bytes + e.numbers.byteLength, 0),
      () => {
        for (const { key, numbers } of entries) this.records.putSync(key, encodeValue(key, numbers));
      },
    );
  }

  /** Copies records from another store. All or nothing, on disk when it returns. */
  async copyIn(records: readonly StoredRecord[]): Promise<void> {
    return this.keep(
      records.length,
      records.reduce((bytes, r) => bytes + r.value.length, 0),
      () => {
        for (const { key, value } of records) this.records.putSync(key, value);
      },
    );
  }

  /** Names a teacher's records. */
  copySource(id: string, source: Source): void {
    this.write(1, 0, () => void this.sources.putSync(id, source));
  }

  /** Records that a teacher is used now. A full disk is reported when scores are written. */
  use(id: Buffer, source: Omit<Source, 'used'>): void {
    try {
      const served = source.served ?? this.served(id);
      this.copySource(id.toString('hex'), { ...source, ...(served !== undefined && { served }), used: Date.now() });
    } catch {}
  }

  /** The model that a service named before, where the teacher is one. */
  served(id: Buffer): string | undefined {
    return this.sources.get(id.toString('hex'))?.served;
  }

  private async keep(records: number, bytes: number, work: () => void): Promise<void> {
    this.write(records, bytes, work);
    try {
      await this.root.flushed;
    } catch (cause) {
      this.writeFailed(cause);
    }
  }

  /** One transaction in this thread, which throws: lmdb's own queue of writes never settles once one failed for want of space. */
  private write(records: number, bytes: number, work: () => void): void {
    try {
      this.demandRoom(records, bytes);
      this.root.transactionSync(work);
    } catch (cause) {
      this.writeFailed(cause);
    }
  }

  private writeFailed(cause: unknown): never {
    throw new FaultError({
      code: 'cache.write-failed',
      subject: `cannot write the cache ${this.path} (${(cause as Error).message})`,
      remedy:
        "free space or choose another folder under 'cache' and run the same command again, the scores so far are kept",
      cause,
    });
  }

  /**
   * Where a write to the file fails, LMDB as lmdb 3.5 builds it reports so in 100 bytes that its sentence may exceed
   * (mdb_page_flush), and the process dies sooner or later. So a write for which there is no space is not started.
   */
  private demandRoom(records: number, bytes: number): void {
    const file = join(this.path, DATA);
    // Pages are copied when they change, each at most once: those from the root to a leaf, and one for a leaf that splits.
    const copied = Math.min(records * 8 * PAGE_BYTES, statSync(file, { throwIfNoEntry: false })?.size ?? 0);
    demandRoom(file, 64 * PAGE_BYTES + copied + 3 * (bytes + records * 64));
  }

  async close(): Promise<void> {
    await this.root.close();
    markReadable(this.path);
    await this.leave();
  }
}

/** A store of layout 1 is older than the first release: its keys do not distinguish teachers. */
const otherLayout = (path: string, layout: number): InputError =>
  layout > LAYOUT
    ? new InputError({
        code: 'cache.newer',
        subject: `the cache ${path} was written by a newer version (layout ${layout})`,
        expected: `layout ${LAYOUT}`,
        remedy: 'update onnx-distill or choose another folder under cache',
      })
    : new InputError({
        code: 'cache.older',
        subject: `the cache ${path} was written by a version before the first release (layout ${layout})`,
        expected: `layout ${LAYOUT}`,
        remedy: "remove the folder or choose another one under 'cache'; the teacher scores again",
      });

const damaged = (path: string, why: string, cause?: unknown): FaultError =>
  new FaultError({
    code: 'cache.damaged',
    subject: `the cache ${path} is damaged (${why})`,
    remedy: `run distill cache verify --repair --folder ${path}, which keeps the intact records, or name another folder under 'cache'`,
    cause,
  });

let opened = 0;
const users = (path: string): string => join(path, 'users');
const maintenance = (path: string): string => join(path, 'maintenance.lock');

/** Records that this process has the store open, unless another one is about to replace its file. */
async function enter(path: string): Promise<() => Promise<void>> {
  const leave = await takeLock(join(users(path), `${process.pid}-${opened++}.lock`), `the cache ${path}`);
  const other = await livingHolder(maintenance(path));
  // The process that rebuilds the store reads it too.
  if (other === undefined || other === process.pid) return leave;
  await leave();
  throw new InputError({
    code: 'cache.locked',
    subject: `the cache ${path} is being rebuilt by process ${other}`,
    remedy: 'wait for it and run the same command again',
  });
}

/** Runs work while no process has the store open. @throws InputError if one has */
export async function alone<T>(path: string, work: () => Promise<T>): Promise<T> {
  const unlock = await takeLock(maintenance(path), `the cache ${path}`);
  try {
    for (const name of await readdir(users(path)).catch(() => [])) {
      const user = name.endsWith('.lock') ? await livingHolder(join(users(path), name)) : undefined;
      if (user !== undefined)
        throw new InputError({
          code: 'cache.locked',
          subject: `the cache ${path} is in use by process ${user}`,
          remedy: 'wait for it and run the same command again',
        });
    }
    return await work();
  } finally {
    await unlock();
  }
}
