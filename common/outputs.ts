/** @file Folders and files that are written: made, looked at before work begins, and links and devices left what they are. */
import { access, constants, mkdir, open, realpath, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { FaultError, systemReason } from './errors.ts';

/** The fault of a file that cannot be written. */
export function writeFault(path: string, cause: unknown): FaultError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code ?? '');
  return new FaultError({
    code: 'file.write-failed',
    subject: `cannot write ${path}: ${systemReason(code) ?? message}${code ? ` (${code})` : ''}`,
    remedy: `${full ? 'free space, or choose another folder,' : 'choose another folder, or check the rights of this one,'} and run the same command again, nothing written before is lost`,
    cause,
  });
}

/**
 * Makes a folder and those above it. The error says what is in the way: `mkdir` itself calls a file in the path "exists" and a
 * read-only file system "no such folder".
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    let missing = resolve(folder);
    for (let at = missing; ; missing = at, at = dirname(at)) {
      const found = await stat(at).catch(() => undefined);
      if (found?.isDirectory()) break;
      if (found) throw Object.assign(new Error(`${at} is a file`), { code: 'ENOTDIR', syscall: 'mkdir', path: folder });
      if (at === dirname(at)) throw error;
    }
    await mkdir(missing);
    throw error;
  }
}

/** Where a write goes: a link's file, so that the link stays. @returns `direct` for a device or a pipe, which is written as it is */
export async function targetOf(path: string): Promise<{ path: string; direct: boolean }> {
  const found = await stat(path).catch(() => undefined);
  if (!found) return { path, direct: false };
  if (!found.isFile() && !found.isDirectory()) return { path, direct: true };
  return { path: await realpath(path), direct: false };
}

/**
 * Looks whether files or folders can be written, so that hours of work do not end at a folder without permission.
 * @throws FaultError that names the first one that cannot
 */
export async function checkOutputs(...paths: readonly (string | undefined)[]): Promise<void> {
  for (const given of paths) {
    if (given === undefined) continue;
    try {
      const { path, direct } = await targetOf(given);
      if (direct) {
        await access(path, constants.W_OK);
        continue;
      }
      await makeFolder(dirname(path));
      const probe = join(dirname(path), `.onnx-distill.${process.pid}.part`);
      try {
        await (await open(probe, 'w')).close();
      } finally {
        await rm(probe, { force: true }).catch(() => {});
      }
    } catch (cause) {
      throw writeFault(given, cause);
    }
  }
}
