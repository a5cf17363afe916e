/**
 * @file Folders that are whole or absent: written beside, marked whole by a rename, swapped in. A kill between any two steps
 * leaves what the next call finishes.
 */
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Being written; whole and not yet in place; what stood there before. */
const beside = (folder: string) => ({ part: `${folder}.part`, whole: `${folder}.new`, old: `${folder}.old` });

/**
 * Replaces a folder by what `write` puts into another one. One process at a time: hold a lock where two could meet.
 * @throws whatever `write` throws; the folder is as before then
 */
export async function replaceFolder(folder: string, write: (into: string) => Promise<void>): Promise<void> {
  const { part, whole } = beside(folder);
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

/** Finishes what a killed process left: a whole new folder goes in its place, a half-written one is removed. */
export async function finishReplacing(folder: string): Promise<void> {
  const { part, whole, old } = beside(folder);
  if (existsSync(whole)) {
    // An old one that is still aside belongs to an earlier swap, unless its place is empty.
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

/** Puts a file or a folder's entries on the disk. Where a system cannot sync a folder, they are as safe as it makes them. */
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
