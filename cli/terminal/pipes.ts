/** @file Handles readers that close the pipe early (`| head`). */
import type { EventEmitter } from 'node:events';
import { systemReason } from '../../common/errors.ts';
import type { Screen } from './progress.ts';

/** The exit code that shells expect of SIGPIPE: 128 and 13. */
export const BROKEN_PIPE = 141;
/** The exit code of a fault at run time. */
const FAULT = 3;

/**
 * A closed standard output ends the command quietly, as with other tools. After a closed standard error, progress is no longer
 * written and the work continues.
 */
export function endQuietly(out: EventEmitter, err: EventEmitter, exit: (code: number) => void): void {
  out.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') exit(BROKEN_PIPE);
    else {
      // A full disk behind `> file`: results are lost, which the exit code says.
      (err as Partial<Screen>).write?.(
        `\nerror: cannot write the output: ${systemReason(error.code) ?? error.message}${error.code ? ` (${error.code})` : ''}; choose another place for it and run the same command again\n`,
      );
      exit(FAULT);
    }
  });
  err.on('error', () => {});
}
