/** @file Files of an index: read in blocks and checked. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { hashFile } from '../../common/files.ts';

/** Bytes read at a time: one read takes 2 GiB at most, and the checksum is taken while the next block comes. */
const BLOCK = 1 << 24;

export const damaged = (subject: string, cause?: unknown): InputError =>
  new InputError({
    code: 'index.damaged',
    subject,
    remedy: 'restore the folder, or make the index again with distill index',
    cause,
  });

/**
 * Reads a file straight to where it stays: its bytes are in memory once.
 * @throws InputError where it cannot be read, or its checksum is another one
 */
export async function readChecked(folder: string, { name, hash }: { name: string; hash: string }): Promise<Uint8Array> {
  const path = join(folder, name);
  let file: FileHandle | undefined;
  try {
    file = await open(path);
    const content = new Uint8Array((await file.stat()).size);
    const sum = createHash('sha256');
    for (let at = 0; at < content.length; ) {
      const { bytesRead } = await file.read(content, at, Math.min(BLOCK, content.length - at), at);
      if (!bytesRead) break;
      sum.update(content.subarray(at, at + bytesRead));
      at += bytesRead;
    }
    if (sum.digest('hex') !== hash) throw damaged(`${path} is damaged (its checksum differs)`);
    return content;
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw damaged(`${path} cannot be read (${(cause as NodeJS.ErrnoException).code})`, cause);
  } finally {
    await file?.close();
  }
}

/** As `readChecked`, of a file that is not kept in memory. */
export async function checkFile(folder: string, { name, hash }: { name: string; hash: string }): Promise<void> {
  const path = join(folder, name);
  const found = await hashFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw damaged(`${path} cannot be read (${cause.code})`, cause);
  });
  if (found !== hash) throw damaged(`${path} is damaged (its checksum differs)`);
}
