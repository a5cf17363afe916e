/** @file Whether there is room on a disk, asked before a write that must not fail half way. */
import { closeSync, ftruncateSync, openSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Does nothing where `bytes` more can be written to a file (which may not exist yet), as far as can be told beforehand: other
 * processes write too.
 * @throws the system's error for a full disk (ENOSPC) or a file over the allowed size (EFBIG)
 */
export function demandRoom(file: string, bytes: number): void {
  const { blocks, bavail, bsize } = statfsSync(dirname(file));
  // File systems that do not count their blocks say 0 of both.
  if (blocks && bavail * bsize < bytes)
    throw Object.assign(new Error(`ENOSPC: no space left on device, write '${file}'`), { code: 'ENOSPC' });
  const length = (statSync(file, { throwIfNoEntry: false })?.size ?? 0) + bytes;
  const probe = `${file}.${process.pid}.room`;
  const hole = openSync(probe, 'w');
  try {
    // Removed before it grows: what a kill leaves is empty.
    unlinkSync(probe);
    // A hole takes no space, but is refused where the file would be.
    ftruncateSync(hole, length);
  } finally {
    closeSync(hole);
  }
}
