/** @file Checks for free disk space before a write that must not fail part way. */
import { closeSync, ftruncateSync, openSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Returns if `bytes` more can be written to a file (which need not exist yet). Other processes may still fill the disk
 * afterwards.
 * @throws the system's error for a full disk (ENOSPC) or a file over the allowed size (EFBIG)
 */
export function demandRoom(file: string, bytes: number): void {
  const { blocks, bavail, bsize } = statfsSync(dirname(file));
  // File systems that do not count blocks report 0 for both.
  if (blocks && bavail * bsize < bytes)
    throw Object.assign(new Error(`ENOSPC: no space left on device, write '${file}'`), { code: 'ENOSPC' });
  const length = (statSync(file, { throwIfNoEntry: false })?.size ?? 0) + bytes;
  const probe = `${file}.${process.pid}.room`;
  const hole = openSync(probe, 'w');
  try {
    // Unlinked before it grows, so that a kill leaves an empty file at most.
    unlinkSync(probe);
    // A sparse file takes no space, but exceeds a size limit exactly where the real file would.
    ftruncateSync(hole, length);
  } finally {
    closeSync(hole);
  }
}
