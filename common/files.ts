/** @file Atomic file writes (temporary file, then rename) and hashes of content. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { makeFolder, targetOf, writeFault } from './outputs.ts';

/** Writes a temporary file next to the target, syncs and renames it, so that a kill leaves either the old file or the new one. */
export async function writeWhole(path: string, content: Uint8Array | string): Promise<void> {
  let temporary: string | undefined;
  try {
    const target = await targetOf(path);
    // A device or a pipe is not replaced by a file.
    if (target.direct) return await writeFile(target.path, content);
    await makeFolder(dirname(target.path));
    temporary = `${target.path}.${process.pid}.part`;
    const file = await open(temporary, 'w');
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target.path);
  } catch (cause) {
    if (temporary) await rm(temporary, { force: true }).catch(() => {});
    throw writeFault(path, cause);
  }
}

/** As `writeWhole`, of content that `write` puts into a file whose path it is given. */
export async function writeFrom(path: string, write: (temporary: string) => void | Promise<void>): Promise<void> {
  const temporary = `${path}.${process.pid}.part`;
  try {
    await write(temporary);
    const file = await open(temporary, 'r+');
    await file.sync().finally(() => file.close());
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw writeFault(path, cause);
  }
}

/** Removes temporary files that writeWhole left below a folder in processes that no longer run. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder, { recursive: true }).catch(() => [])) {
    const pid = Number(/\.(\d+)\.part(\.stale)?$/.exec(name)?.[1] ?? Number.NaN);
    if (pid > 0 && !isRunning(pid)) await rm(join(folder, name), { force: true, recursive: true });
  }
}

/** Whether a process with this id exists; one of another user counts. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** sha256 of a file's bytes, hex. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** sha256 of parts, each prefixed by its length so that no two lists of parts collide; hex. */
export const hashParts = (...parts: (string | Uint8Array)[]): string => hashAll(parts);

/** Like hashParts, for any number of parts (one call takes some 100,000 arguments at most). */
export function hashAll(parts: Iterable<string | Uint8Array>): string {
  const hash = createHash('sha256');
  for (const part of parts) {
    hash.update(`${Buffer.byteLength(part)}:`);
    if (typeof part === 'string') hashText(hash, part);
    else hash.update(part);
  }
  return hash.digest('hex');
}

/** UTF-16 units of a text whose bytes are held at a time. */
const PART = 1 << 15;

/** Adds the UTF-8 of a text to a hash; a long text is not held as bytes. */
export function hashText(hash: Hash, text: string): void {
  for (let from = 0; from < text.length; ) {
    let end = Math.min(from + PART, text.length);
    // Not between the halves of a pair.
    if (end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00) end--;
    hash.update(from || end < text.length ? text.slice(from, end) : text);
    from = end;
  }
}

/** A value as JSON with its keys sorted, so that equal options give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, v) =>
    v && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  );
}

/** Whether an absolute path is a folder or in it. @param folder absolute */
export function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return !way.startsWith('..') && !isAbsolute(way);
}
