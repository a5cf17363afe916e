/** @file A reader that has seen enough (`| head`). */
import type { EventEmitter } from 'node:events';

/** The exit code that shells expect of SIGPIPE: 128 and 13. */
export const BROKEN_PIPE = 141;

/**
 * A closed standard output ends the command quietly, as it ends other tools. Progress that nobody reads any more is not written,
 * and the work goes on.
 */
export function endQuietly(out: EventEmitter, err: EventEmitter, exit: (code: number) => void): void {
  out.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    exit(BROKEN_PIPE);
  });
  err.on('error', () => {});
}
