/**
 * @file Atomic folder writes: a temporary folder is written, marked complete by a rename and swapped in. After a kill between two
 * steps the next call finishes the swap.
 */
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Being written; complete but not yet in place; the previous folder. */
const pathsOf = (folder: string) => ({ part: `${folder}.part`, whole: `${folder}.new`, old: `${folder}.old` });

/**
 * Replaces a folder by what `write` puts into a temporary one. Not safe for two processes at once: hold a lock.
 * @throws whatever `write` throws; the folder is then unchanged
 */
export async function replaceFolder(folder: string, write: (into: string) => Promise<void>): Promise<void> {
  const { part, whole } = pathsOf(folder);
  await finishReplacing(folder);
  try {
    await mkdir(part, { recursive: true });
    await write(part);
    await syncFiles(part);
    await rename(part, whole);
  } catch (error) {
    await rm(part, { recursive: true, force: true });
    throw error;
  }
  await finishReplacing(folder);
}

/** Recovers from a killed process: a complete new folder is moved into place, a half-written one is removed. */
export async function finishReplacing(folder: string): Promise<void> {
  const { part, whole, old } = pathsOf(folder);
  if (existsSync(whole)) {
    // An old folder still set aside belongs to an earlier swap, unless its final path is empty.
    if (existsSync(folder)) {
      await rm(old, { recursive: true, force: true });
      await rename(folder, old);
    }
    await rename(whole, folder);
    await syncEntry(dirname(folder));
  } else if (!existsSync(folder) && existsSync(old)) await rename(old, folder);
  await rm(old, { recursive: true, force: true });
  await rm(part, { recursive: true, force: true });
}

async function syncFiles(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) await syncEntry(join(entry.parentPath, entry.name));
  await syncEntry(folder);
}

/** Syncs a file or a folder's entries to disk. Systems that cannot sync folders are left to their own guarantees. */
export async function syncEntry(path: string): Promise<void> {
  const file = await open(path, 'r').catch(() => undefined);
  try {
    await file?.sync();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EIO' || (error as NodeJS.ErrnoException).code === 'ENOSPC')
      throw error;
  } finally {
    await file?.close();
  }
}
