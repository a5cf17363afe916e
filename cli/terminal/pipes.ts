/** @file Handles readers that close the pipe early (`| head`). */
import type { EventEmitter } from 'node:events';

/** The exit code that shells expect of SIGPIPE: 128 and 13. */
export const BROKEN_PIPE = 141;

/**
 * A closed standard output ends the command quietly, as with other tools. After a closed standard error, progress is no longer
 * written and the work continues.
 */
export function endQuietly(out: EventEmitter, err: EventEmitter, exit: (code: number) => void): void {
  out.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    exit(BROKEN_PIPE);
  });
  err.on('error', () => {});
}
